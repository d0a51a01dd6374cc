// Looks for powers that nobody gave it.

import { Machine } from "runbook-sdk";

export const plugin = {
  actions: {
    ambient: { converge: ambient },
    chance: { converge: chance },
    mistake: { converge: mistake },
    memory: { converge: memory },
  },
};

// What an engine may bring of a system: of Node, of Deno, of browsers, of QuickJS's own shell.
const POWERS = [
  "process",
  "require",
  "module",
  "Deno",
  "Bun",
  "fetch",
  "Request",
  "XMLHttpRequest",
  "WebSocket",
  "EventSource",
  "navigator",
  "localStorage",
  "Worker",
  "importScripts",
  "setTimeout",
  "std",
  "os",
  "scriptArgs",
  "load",
  "read",
  "readFile",
  "open",
  "system",
];

function ambient() {
  return Object.fromEntries(
    POWERS.filter((name) => globalThis[name] !== undefined).map((name) => [name, typeof globalThis[name]]),
  );
}

function chance({ path }) {
  const { files } = Machine.target("host");
  if (files.stat(path) === null) files.file(path, `${Date.now()} ${Math.random()} ${Math.random()}\n`);
}

function mistake() {
  return undefined.nothing;
}

function memory() {
  const kept = [];
  for (;;) kept.push(new Uint8Array(1 << 20));
}
