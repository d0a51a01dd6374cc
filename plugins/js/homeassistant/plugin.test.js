// The plugin without a host: a fake world answers, as Home Assistant would.

import assert from "node:assert/strict";
import test from "node:test";

import { World } from "runbook-sdk/fake.js";

import { plugin } from "./plugin.js";

const url = "http://ha:8123";
const inputs = { url, token: { $secret: "ha_token" }, entity: "switch.nas", state: "on" };
const states = `${url}/api/states/switch.nas`;

/** A house whose plug is in this state, and is switched on as soon as it is told so. */
function house(state) {
  const world = new World();
  const node = world.machine("pi");
  const is = (state) => node.serves("GET", states, { body: { state, attributes: { friendly_name: "NAS" } } });
  is(state);
  node.serves("POST", `${url}/api/services/homeassistant/turn_on`, { body: "[]", then: () => is("on") });
  return { world, node };
}

test("switches once, and remembers how it was", () => {
  const { world } = house("off");
  const first = world.apply(plugin, "switched", inputs);
  assert.deepEqual(first, { outputs: { name: "NAS", was: "off" }, changes: ["switch switch.nas on"] });
  const second = world.apply(plugin, "switched", inputs);
  assert.deepEqual(second, { outputs: { name: "NAS", was: "off" }, changes: [] });
  assert.deepEqual(world.verify(plugin, "switched", inputs), []);
});

test("a plan changes nothing", () => {
  const { world } = house("off");
  for (let i = 0; i < 2; i++)
    assert.deepEqual(world.plan(plugin, "switched", inputs).changes, ["switch switch.nas on"]);
});

test("a plug that does not switch is waited for, and told of", () => {
  const { world, node } = house("off");
  node.serves("POST", `${url}/api/services/homeassistant/turn_on`, { body: "[]" });
  assert.throws(() => world.apply(plugin, "switched", { ...inputs, settle: 2 }), /told to be on, and is not after 2 s/);
});

test("what Home Assistant does not reach is left alone", () => {
  assert.throws(() => house("unavailable").world.apply(plugin, "switched", inputs), { kind: "conflict" });
});

test("answers that help", () => {
  for (const [status, words] of [
    [401, /new one on the profile page/],
    [404, /knows no switch.nas/],
    [500, /GET http:\/\/ha:8123.* from pi: status 500/],
  ]) {
    const { world, node } = house("off");
    node.serves("GET", states, { status });
    assert.throws(() => world.apply(plugin, "switched", inputs), words);
  }
});

test("a plug that fell back is noticed", () => {
  const { world } = house("off");
  assert.deepEqual(world.verify(plugin, "switched", inputs), ["switch.nas was switched on, and is off"]);
});
