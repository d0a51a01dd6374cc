// Commands on a machine, what they give, and what undo means for them.

import { CallError, call, fail } from "./errors.js";
import { fromUtf8, parts } from "./text.js";

/** What a command gave. `code` is null where a signal ended it. */
export class Output {
  constructor(said, { exit, stdout, stderr }) {
    this.said = said;
    this.code = exit.tag === "code" ? exit.val : null;
    this.signal = exit.tag === "signal" ? exit.val : null;
    this.stdout = stdout;
    this.stderr = stderr;
  }

  /** Itself, where the exit code is 0; else an error with command, exit code and the end of its standard error. */
  ok() {
    if (this.code === 0) return this;
    const how = this.signal === null ? `exit code ${this.code}` : `ended by SIG${this.signal}`;
    const tail = fromUtf8(this.stderr).trim().slice(-2000);
    return fail(`${this.said}: ${how}${tail && `: ${tail}`}`);
  }

  /** Its standard output, without the line break at the end. */
  text() {
    return fromUtf8(this.stdout).replace(/\n+$/, "");
  }

  /** Its standard output, read as JSON. */
  json() {
    return readJson(this.stdout, this.said);
  }
}

/** Bytes, read as JSON; `said` is who gave them. */
export function readJson(bytes, said) {
  try {
    return JSON.parse(fromUtf8(bytes));
  } catch (error) {
    return fail(`${said} gave no JSON: ${error.message}`);
  }
}

/** What became of a change: `state` is "done", "already" (`doneWhen` held), "planned", or "deferred" (it runs at its time). */
export class Outcome {
  #output;

  constructor(said, { tag, val }) {
    this.state = tag;
    this.#output = tag === "done" ? new Output(said, val).ok() : null;
  }

  /** Whether it ran, or will. */
  get changed() {
    return this.state !== "already";
  }

  /** What it gave; null where nothing had to be run. In a plan nobody knows: that is `unknown`. */
  output() {
    if (this.state === "planned" || this.state === "deferred") {
      throw new CallError("unknown", "what the command gives is not known before it has run");
    }
    return this.#output;
  }
}

/**
 * What a change says of itself. `alters`: what it alters, as facets ("path:/etc/x", "service:NAME"); of a command that says nothing, it
 * is anything on that machine. `timing`: "now", "step-end", "step-end-if-changed", "block-end": whatever becomes of the plugin, also
 * after a crash. `repeats`: it does so by nature, so the second look leaves it out.
 */
export function effect(summary, { timing = "now", alters = [], repeats = false } = {}) {
  return { summary, timing, alters, repeats };
}

/** Program and arguments as they arrive there; no shell reads them. Made by `Machine.cmd`. */
export class Cmd {
  #machine;
  #raw;

  constructor(
    machine,
    argv,
    { cwd = null, env = {}, stdin = "", files = {}, reads = [], timeout = null, privileged = false } = {},
  ) {
    this.#machine = machine;
    this.#raw = {
      argv,
      cwd,
      env: Object.entries(env).map(([name, value]) => [name, parts(value)]),
      stdin:
        stdin instanceof Uint8Array
          ? { tag: "bytes", val: stdin }
          : stdin === ""
            ? { tag: "none" }
            : { tag: "text", val: parts(stdin) },
      files: Object.entries(files).map(([name, content]) => ({ name, content: parts(content) })),
      reads,
      timeoutMs: timeout === null ? null : Math.round(timeout * 1000),
      privileged,
      follow: false,
    };
  }

  /** Runs it; it only looks. Also run in plans. Any exit code is an answer: `.ok()` wants 0. */
  observe() {
    return new Output(
      String(this),
      call(() => this.#machine.observe(this.#raw)),
    );
  }

  /**
   * Runs it; it changes something, as `summary` says: short, imperative. An exit code other than 0 is an error. `doneWhen`: exit code 0
   * of this command, which only looks, says that it is done. `undo`: `inverse`, `harmless`, `irreversible` or `byHand`; nothing said:
   * only a person can take it back. The rest as `effect` has it.
   */
  change(summary, { doneWhen = null, undo = byHand(`take back by hand: ${summary}`), ...more } = {}) {
    const done = doneWhen && doneWhen.toWit();
    return new Outcome(
      String(this),
      call(() => this.#machine.change(this.#raw, done, undo, effect(summary, more))),
    );
  }

  toWit() {
    return this.#raw;
  }

  toString() {
    return `${this.#raw.argv.join(" ")} on ${this.#machine.name()}`;
  }
}

/** This command takes it back, where exit code 0 of `onlyIf` says that there is something to take back. */
export const inverse = (command, onlyIf = null) => ({
  tag: "inverse",
  val: { command: command.toWit(), onlyIf: onlyIf && onlyIf.toWit() },
});

/** Leaving it as it is does no harm, and neither does doing it again. */
export const harmless = () => ({ tag: "harmless" });

/** It cannot be taken back; the consequence in words. The manifest's ask must say `irreversible`, too. */
export const irreversible = (consequence) => ({ tag: "irreversible", val: consequence });

/** Only a person can take it back. An undo ends as stuck here, and shows what to do. */
export const byHand = (whatToDo) => ({ tag: "by-hand", val: whatToDo });
