// One function for each action, and what the component exports.

import { CallError, call, settled } from "./errors.js";
import { world } from "./world.js";

/**
 * A plugin, as the module `plugin.js` exports it by the name `plugin`:
 *
 *     export const plugin = { actions: { switched: { converge, verify } } };
 *
 * `converge(inputs)` looks at the target and changes what differs; it gives the outputs, or nothing. `verify(inputs)`, where there is
 * one, asks whether the purpose is fulfilled, by other signs; it gives what is wrong, in words.
 */
export function component(plugin, manifest) {
  return {
    describe: () => manifest,
    converge: (action, inputs) => JSON.stringify(run(plugin, action, "converge", inputs) ?? {}),
    verify: (action, inputs) => run(plugin, action, "verify", inputs),
  };
}

function run(plugin, action, what, text) {
  try {
    const made = plugin.actions[action]?.[what];
    if (!made) throw new CallError("invalid", `this plugin has no function to ${what} "${action}"`);
    Math.random = chance(`${Date.now()} ${action} ${text}`);
    const result = settled(() => made(JSON.parse(text)));
    // Nobody would wait for it: the action would end well with half of its work done.
    if (typeof result?.then === "function")
      throw new CallError("failed", `${what} of "${action}" is async: calls here give their answer at once`);
    return result;
  } catch (error) {
    throw error instanceof CallError ? { tag: error.kind, val: error.message } : { tag: "failed", val: mistake(error) };
  }
}

/** A mistake of the plugin: what, and where. */
function mistake(error) {
  const where =
    String(error?.stack ?? "")
      .split("\n")
      .map((line) => line.trim())
      .find((line) => line.startsWith("at ")) ?? "";
  return `a mistake in the plugin: ${error} ${where}`.trim();
}

/** Math.random for one call: the engine's own would give the same numbers in every run. Not for secrets. */
function chance(seed) {
  let state = 0;
  for (let i = 0; i < seed.length; i++) state = Math.imul(state ^ seed.charCodeAt(i), 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A message for whoever reads the journal. */
export const info = (message) => world.run.log("info", message);

/** A message for the person who watches. */
export const warn = (message) => world.run.log("warn", message);

/** Waits so many seconds. `unknown` in a plan: what is waited for has not been started. */
export const pause = (seconds) => call(() => world.run.pause(Math.round(seconds * 1000)));

/** The first value recorded under this key for this step of this run: how many replicas there were before it was scaled to 0. */
export const baseline = (key, value) => JSON.parse(call(() => world.run.baseline(key, JSON.stringify(value))));
