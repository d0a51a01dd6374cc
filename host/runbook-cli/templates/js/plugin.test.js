// The plugin without a host: a fake world answers.

import assert from "node:assert/strict";
import test from "node:test";

import { World } from "runbook-sdk/fake.js";

import { plugin } from "./plugin.js";

const path = "/etc/default/greeter";
const reload = ["systemctl", "reload", "greeter"];

function house() {
  const world = new World();
  const node = world.machine("node1");
  node.tree.contents[path] = "# Ours\nPORT=80\nNAME=a=b\n";
  node.runs(reload);
  return { world, node };
}

test("other lines stay, and the second time nothing is done", () => {
  const { world, node } = house();
  const inputs = { path, reload, set: { PORT: "8080", TZ: "UTC" } };
  const first = world.apply(plugin, "settings", inputs);
  assert.deepEqual(first, {
    outputs: { changed: ["PORT", "TZ"] },
    changes: [`write ${path}`, "make the new settings effective"],
  });
  assert.equal(node.tree.contents[path], "# Ours\nPORT=8080\nNAME=a=b\nTZ=UTC\n");
  assert.deepEqual(world.apply(plugin, "settings", inputs).changes, []);
});

test("a plan changes nothing", () => {
  const { world, node } = house();
  const before = { ...node.tree.contents };
  assert.equal(world.plan(plugin, "settings", { path, reload, set: { PORT: "8080" } }).changes.length, 2);
  assert.deepEqual({ ...node.tree.contents }, before);
});

test("what somebody else changed is noticed", () => {
  const { world } = house();
  assert.equal(world.verify(plugin, "settings", { path, set: { PORT: "8080", NAME: "a=b" } }).length, 1);
});

test("names are checked", () => {
  for (const set of [{ "": "x" }, { "A B": "x" }, { A: "x\ny" }]) {
    assert.throws(() => house().world.apply(plugin, "settings", { path, set }), { kind: "invalid" });
  }
});
