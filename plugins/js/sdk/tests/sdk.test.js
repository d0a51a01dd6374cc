// The SDK by itself: what it makes of answers, and of mistakes.

import assert from "node:assert/strict";
import test from "node:test";

import { Outcome, Output } from "../commands.js";
import { call, settled } from "../errors.js";
import { CallError, component, conflict, fail, ifFound, ifKnown } from "../index.js";
import { fromUtf8, parts } from "../text.js";

/** A call that is answered so. */
const answer = (tag, val) => () =>
  call(() => {
    throw Object.assign(new Error(), { payload: { tag, val } });
  });
const unknown = answer("unknown", "step 1 writes it");

test("a swallowed unknown ends the action", () => {
  const swallowed = (then) => () => {
    try {
      unknown();
    } catch {
      return then();
    }
  };
  for (const then of [() => "misled", () => fail("there is no such file")]) {
    assert.throws(() => settled(swallowed(then)), { kind: "unknown", message: "step 1 writes it" });
  }
  assert.equal(
    settled(() => 1),
    1,
    "the next call begins afresh",
  );
  assert.equal(
    settled(() => ifKnown(unknown)),
    null,
    "on purpose",
  );
});

test("only not-found is not found", () => {
  assert.equal(ifFound(answer("not-found", "/a")), null);
  assert.throws(() => ifFound(answer("conflict", "somebody else's")), { kind: "conflict" });
});

test("a failed command says what and why", () => {
  const output = (exit, stderr = "") =>
    new Output("ls on n", { exit, stdout: new TextEncoder().encode("{"), stderr: new TextEncoder().encode(stderr) });
  assert.throws(() => output({ tag: "code", val: 2 }, "no such file\n").ok(), {
    message: "ls on n: exit code 2: no such file",
  });
  assert.throws(() => output({ tag: "signal", val: "KILL" }).ok(), /ended by SIGKILL/);
  assert.throws(() => output({ tag: "code", val: 0 }).json(), /ls on n gave no JSON/);
});

test("a plan has no output", () => {
  const planned = new Outcome("x", { tag: "planned" });
  assert.throws(() => planned.output(), { kind: "unknown" });
  assert.ok(planned.changed && !new Outcome("x", { tag: "already" }).changed);
});

test("secrets stay references", () => {
  const expected = [
    { tag: "plain", val: "Bearer " },
    { tag: "plain", val: "a" },
    { tag: "secret", val: "token" },
  ];
  assert.deepEqual(parts(["Bearer ", { $text: ["a", { $secret: "token" }, ""] }]), expected);
  assert.throws(() => parts(7), { kind: "invalid" });
});

test("UTF-8 is read as everywhere", () => {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  for (const text of ["", "plain", "Büro", "€", "💾", "\u0000\uffff"])
    assert.equal(fromUtf8(new TextEncoder().encode(text)), text);
  // Of what is no UTF-8, only how many replacements stand for it may differ.
  for (const bytes of [
    [0xff],
    [0xc3],
    [0xe2, 0x82],
    [0xc0, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0x41, 0x80, 0x42],
  ]) {
    const short = (text) => text.replace(/\ufffd+/g, "\ufffd");
    assert.equal(short(fromUtf8(Uint8Array.from(bytes))), short(decoder.decode(Uint8Array.from(bytes))), String(bytes));
  }
});

test("inputs and outputs are JSON, errors keep their kind, mistakes say where", () => {
  const run = (converge) => component({ actions: { a: { converge } } }, "{}").converge("a", '{"n": 21}');
  const thrown = (converge) => {
    try {
      run(converge);
    } catch (error) {
      return error;
    }
    return null;
  };
  assert.equal(
    run(({ n }) => ({ n: n * 2 })),
    '{"n":42}',
  );
  assert.equal(
    run(() => {}),
    "{}",
  );
  assert.deepEqual(
    thrown(() => conflict("x")),
    { tag: "conflict", val: "x" },
  );
  assert.deepEqual(
    thrown(() => {
      throw new CallError("not-found", "/a");
    }),
    { tag: "not-found", val: "/a" },
  );
  assert.match(thrown(async () => {}).val, /converge of "a" is async/);
  const { tag, val } = thrown(({ m }) => m.x);
  assert.equal(tag, "failed");
  assert.match(val, /a mistake in the plugin: TypeError: .*sdk\.test\.js/);
});

test("chance differs from call to call, and not for the same call", (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1000 });
  const { random } = Math;
  t.after(() => (Math.random = random));
  const draw = (inputs) =>
    JSON.parse(
      component({ actions: { a: { converge: () => [Math.random(), Math.random()] } } }, "{}").converge("a", inputs),
    );
  const first = draw('{"host":"a"}');
  assert.deepEqual(draw('{"host":"a"}'), first);
  for (const other of [draw('{"host":"b"}'), (t.mock.timers.tick(1), draw('{"host":"a"}'))])
    assert.notDeepEqual(other, first);
  assert.notEqual(first[0], first[1]);
  assert.ok(first.every((number) => number >= 0 && number < 1));
});
