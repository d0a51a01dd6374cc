// A world for unit tests: what was said is answered, and everything else fails the test, by name.
//
//     const world = new World();
//     const node = world.machine("node1");
//     node.answers(["systemctl", "is-active", "x"], { stdout: "inactive", code: 3 });
//     node.serves("GET", "http://127.0.0.1/health", { status: 200, body: "ok" });
//     node.runs(["systemctl", "start", "x"], { then: () => node.answers(["systemctl", "is-active", "x"], { stdout: "active" }) });
//     const { outputs, changes } = world.apply(plugin, "started", { name: "x" });
//
// `then` is what a command or a request does to the world. `world.plan` makes no change; looks of commands that depend on a planned one
// are `unknown`. Needs the manifest as `runbook plugin test` writes it.

import { readFileSync } from "node:fs";

import { settled } from "./errors.js";
import { connect } from "./world.js";

const utf8 = (text) => new TextEncoder().encode(text);

/** Machines and their files. */
export class World {
  #machines = new Map();
  #baselines = new Map();
  planning = false;
  changes = [];
  pending = [];
  altered = [];
  /** What the plugin said. */
  log = [];
  /** The files of the controller. */
  controller = new FakeTree(this);

  /** One more machine that the step names for this role. */
  machine(name, role = "host") {
    const machine = new FakeMachine(this, name);
    this.#machines.set(role, [...(this.#machines.get(role) ?? []), machine]);
    return machine;
  }

  /** Runs an action's converge. What it defers is carried out at the end, also where it fails. */
  apply(plugin, action, inputs) {
    return this.#run(plugin, action, inputs, false);
  }

  /** The same, and nothing is changed; files are read as they are, not as planned. */
  plan(plugin, action, inputs) {
    return this.#run(plugin, action, inputs, true);
  }

  /** Runs an action's verify. */
  verify(plugin, action, inputs) {
    this.#begin(true);
    return settled(() => plugin.actions[action].verify(complete(action, inputs)));
  }

  #run(plugin, action, inputs, planning) {
    this.#begin(planning);
    let outputs;
    try {
      outputs = settled(() => plugin.actions[action].converge(complete(action, inputs)));
    } finally {
      for (const { effect, carryOut } of this.pending) {
        if (effect.timing === "step-end-if-changed" && this.changes.length === 0) continue;
        this.changes.push(effect.summary);
        if (!planning) carryOut();
      }
    }
    return { outputs: JSON.parse(JSON.stringify(outputs ?? {})), changes: this.changes };
  }

  #begin(planning) {
    Object.assign(this, { planning, changes: [], pending: [], altered: [] });
    connect({
      machines: { targets: (role) => this.#machines.get(role) ?? [] },
      trees: { controller: () => this.controller },
      clusters: { target: () => null },
      run: {
        log: (_, message) => this.log.push(message),
        progress: () => {},
        pause: () => planning && refuse("unknown", "what is waited for has not been started"),
        baseline: (key, value) => this.#baselines.get(key) ?? (this.#baselines.set(key, value), value),
      },
    });
  }

  /** One change: planned, deferred, or made. */
  change(effect, carryOut, planned, deferred) {
    if (effect.timing !== "now") {
      this.pending.push({ effect, carryOut });
      return deferred;
    }
    this.changes.push(effect.summary);
    return this.planning ? planned : carryOut();
  }
}

class FakeMachine {
  #world;
  #name;
  #looks = new Map();
  #runs = new Map();

  constructor(world, name) {
    this.#world = world;
    this.#name = name;
    /** Its files. */
    this.tree = new FakeTree(world);
    return honest(this, name);
  }

  /** What this command, which looks, gives from now on. */
  answers(argv, { stdout = "", stderr = "", code = 0 } = {}) {
    this.#looks.set(JSON.stringify(argv), {
      exit: { tag: "code", val: code },
      stdout: utf8(stdout),
      stderr: utf8(stderr),
    });
  }

  /** What this command, which changes something, gives, and does to the world. */
  runs(argv, { then = () => {}, stdout = "", code = 0 } = {}) {
    this.#runs.set(JSON.stringify(argv), {
      then,
      output: { exit: { tag: "code", val: code }, stdout: utf8(stdout), stderr: utf8("") },
    });
  }

  /** What a request from this machine is answered with, and, where it changes something, does to the world. `body`: text, or JSON. */
  serves(method, url, { status = 200, body = "", then = () => {} } = {}) {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const output = {
      exit: { tag: "code", val: status < 400 ? 0 : 1 },
      stdout: utf8(text),
      stderr: utf8(`HTTP status ${status}`),
    };
    this.#looks.set(`${method} ${url}`, { status, headers: [], body: utf8(text) });
    this.#runs.set(`${method} ${url}`, { then, output });
  }

  name() {
    return this.#name;
  }

  files() {
    return this.tree;
  }

  observe(command) {
    for (const alters of this.#world.altered) {
      if (alters.length === 0 || command.reads.length === 0 || command.reads.some((facet) => alters.includes(facet))) {
        refuse("unknown", `${this.#name}: a planned change may alter what this reads`);
      }
    }
    const key = JSON.stringify(command.argv);
    return this.#said(this.#looks, key, "answers");
  }

  change(command, doneWhen, _undo, effect) {
    if (doneWhen && this.observe(doneWhen).exit.val === 0) return { tag: "already" };
    const { then, output } = this.#said(this.#runs, JSON.stringify(command.argv), "runs");
    return this.#make(effect, then, output);
  }

  http({ method, url }) {
    return this.#said(this.#looks, `${method} ${url}`, "serves");
  }

  httpChange({ method, url }, _undo, effect) {
    const { then, output } = this.#said(this.#runs, `${method} ${url}`, "serves");
    return this.#make(effect, then, output);
  }

  #make(effect, then, output) {
    const carryOut = () => {
      then();
      return { tag: "done", val: output };
    };
    const outcome = this.#world.change(effect, carryOut, { tag: "planned" }, { tag: "deferred" });
    if (outcome.tag === "planned") this.#world.altered.push(effect.alters);
    return outcome;
  }

  #said(answers, key, how) {
    if (answers.has(key)) return answers.get(key);
    throw new Error(`${this.#name}: nobody said what happens: machine.${how}(${key}, ...)`);
  }
}

class FakeTree {
  #world;
  /** Contents by path, to fill and to look at: `node.tree.contents["/etc/motd"] = "hello"`. */
  contents = {};

  constructor(world) {
    this.#world = world;
    return honest(this, "the fake files");
  }

  stat(path) {
    if (!(path in this.contents)) return null;
    return {
      kind: "file",
      size: utf8(this.contents[path]).length,
      mode: 0o644,
      owner: "root",
      group: "root",
      linkTarget: null,
    };
  }

  read(path) {
    return path in this.contents ? utf8(this.contents[path]) : refuse("not-found", `${path}: no such file`);
  }

  ensureFile(path, content, _attributes, _validate, effect) {
    // A secret is shown by its name.
    const plain = ({ tag, val }) => (tag === "plain" ? val : `<secret ${val}>`);
    const text = content.tag === "bytes" ? new TextDecoder().decode(content.val) : content.val.map(plain).join("");
    return this.#ensure(this.contents[path] === text, effect, () => (this.contents[path] = text));
  }

  ensureAbsent(path, effect) {
    return this.#ensure(!(path in this.contents), effect, () => delete this.contents[path]);
  }

  #ensure(already, effect, make) {
    if (already) return "unchanged";
    const carryOut = () => {
      make();
      return "changed";
    };
    return this.#world.change(effect, carryOut, "changed", "deferred");
  }
}

/** The inputs with the defaults of plugin.toml, as the host hands them over. */
function complete(action, inputs) {
  const manifest = JSON.parse(readFileSync("build/manifest.json", "utf8"));
  const { properties } = manifest.action.find(({ name }) => name === action).inputs;
  const defaults = Object.entries(properties).filter(([, schema]) => "default" in schema);
  return { ...Object.fromEntries(defaults.map(([name, schema]) => [name, schema.default])), ...inputs };
}

/** An object that names what it does not have. Private fields need the object itself, so methods are bound to it. */
function honest(object, name) {
  return new Proxy(object, {
    get(target, key) {
      if (!(key in target) && typeof key === "string" && key !== "toJSON" && key !== "then")
        throw new Error(`${name}: the fake world has no \`${key}\``);
      const value = target[key];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function refuse(tag, val) {
  throw Object.assign(new Error(val), { payload: { tag, val } });
}
