// Builds and tests a plugin's project; its build.sh and test.sh call this.
//
// `project.js build` leaves the component at build/NAME.wasm, and says in build/manifest.json which actions verify; the manifest is put into
// the component by `runbook plugin build`, which wrote that file. `project.js test` runs the unit tests against the fake world.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// As it lies in runbook's repository, and below vendor/runbook in a project.
const WIT = fileURLToPath(new URL("../../../wit", import.meta.url));
const MANIFEST = "build/manifest.json";
const ENTRY = "build/entry.js";
const COMPONENTIZE = "node_modules/.bin/componentize-qjs";
const SDK = "node_modules/runbook-sdk";

async function build() {
  if (!existsSync(COMPONENTIZE))
    quit("componentize-qjs is missing: it makes a component of JavaScript. In the project's folder: npm ci");
  const manifest = JSON.parse(readFileSync(MANIFEST, "utf8"));
  await noteFunctions(manifest);
  const text = JSON.stringify(manifest);
  writeFileSync(MANIFEST, text);
  writeFileSync(ENTRY, entry(text));
  const component = `build/${manifest.name}.wasm`;
  const options = ["--wit", WIT, "--world", "plugin", "--module-root", resolve("."), "--sync"];
  run(COMPONENTIZE, [...options, "--js", ENTRY, "--output", component]);
}

/** Compares the actions with the functions that there are, and notes which of them verify. */
async function noteFunctions(manifest) {
  const { plugin } = await import(pathToFileURL(join(process.cwd(), "plugin.js")));
  const there = plugin?.actions ?? quit("plugin.js: it needs `export const plugin = { actions: { ... } }`");
  const known = new Set(manifest.action.map(({ name }) => name));
  const mistakes = Object.keys(there)
    .filter((name) => !known.has(name))
    .map((name) => `"${name}": plugin.toml has no such action`);
  for (const action of manifest.action) {
    if (typeof there[action.name]?.converge !== "function")
      mistakes.push(`action "${action.name}" has no function \`converge\``);
    action.verifies = typeof there[action.name]?.verify === "function";
  }
  if (mistakes.length > 0) quit(`plugin.js:\n- ${mistakes.join("\n- ")}`);
}

function entry(manifest) {
  return `import * as clusters from "runbook:kube/clusters@0.1.0";
import * as machines from "runbook:ssh/machines@0.1.0";
import * as run from "runbook:plugin/run@0.1.0";
import * as trees from "runbook:files/trees@0.1.0";
import { component, connect } from "runbook-sdk";
import { plugin } from "../plugin.js";

connect({ clusters, machines, run, trees });
export const action = component(plugin, ${JSON.stringify(manifest)});
`;
}

function test() {
  if (!existsSync(SDK)) quit("runbook-sdk is missing, which the tests import. In the project's folder: npm ci");
  run(process.execPath, [
    "--test",
    "--test-reporter=spec",
    ...readdirSync(".").filter((name) => name.endsWith(".test.js")),
  ]);
}

function run(program, args) {
  const { status, error } = spawnSync(program, args, { stdio: "inherit" });
  if (error) quit(`${program}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

function quit(message) {
  console.error(message);
  process.exit(1);
}

await { build, test }[process.argv[2]]();
