// The `{{name}}` plugin. What its actions take and ask for stands in `plugin.toml`.

import { Machine, harmless, invalid } from "runbook-sdk";

export const plugin = { actions: { settings: { converge, verify } } };

/** Looks at the file, and changes what is not as it should be. Called for the plan, for the work, and once more after it. */
function converge({ path, set, reload }) {
  check(set);
  const machine = Machine.target("host");
  const old = machine.files.readText(path) ?? "";
  const changed = different(old, set);
  machine.files.file(path, withSettings(old, set));
  if (reload.length > 0) {
    machine.cmd(reload, { privileged: true }).change("make the new settings effective", {
      undo: harmless(), // Once more, or for nothing: it does no harm.
      timing: "step-end-if-changed", // Also where this run breaks off in between.
    });
  }
  return { changed };
}

/** Looks once more, after all is done: whatever reads the file may have written it anew. */
function verify({ path, set }) {
  const machine = Machine.target("host");
  const wrong = different(machine.files.readText(path) ?? "", set);
  return wrong.map((name) => `${name} in ${path} on ${machine.name} is not as it should be`);
}

function check(set) {
  for (const [name, value] of Object.entries(set)) {
    if (!/^[A-Za-z0-9_]+$/.test(name) || value.includes("\n")) {
      invalid(`\`set\`: ${JSON.stringify(name)} is not a name of letters, digits and \`_\` with a value of one line`);
    }
  }
}

/** The lines of a text, without what stands behind the last line break. */
function lines(text) {
  return text
    .replace(/\n$/, "")
    .split("\n")
    .slice(text === "" ? 1 : 0);
}

/** Names of the settings that a text has otherwise, or not at all. */
function different(text, set) {
  const last = (name) => lines(text).findLast((line) => line.startsWith(`${name}=`));
  return Object.keys(set).filter((name) => last(name) !== `${name}=${set[name]}`);
}

/** The text with these settings, each in its old place or at the end. */
function withSettings(text, set) {
  const all = lines(text);
  for (const [name, value] of Object.entries(set)) {
    const place = all.findLastIndex((line) => line.startsWith(`${name}=`));
    all[place === -1 ? all.length : place] = `${name}=${value}`;
  }
  return all.map((line) => `${line}\n`).join("");
}
