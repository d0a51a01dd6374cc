// Machines that a step named.

import { Cmd, Outcome, byHand, effect, readJson } from "./commands.js";
import { call, invalid } from "./errors.js";
import { Tree } from "./files.js";
import { fromUtf8, parts } from "./text.js";
import { world } from "./world.js";

/** One machine. */
export class Machine {
  #raw;

  constructor(raw) {
    this.#raw = raw;
    /** Its name in the inventory. */
    this.name = raw.name();
  }

  /** The machines that the step named for this role, in the runbook's order. */
  static targets(role) {
    return world.machines.targets(role).map((raw) => new Machine(raw));
  }

  /** The only one of this role. */
  static target(role) {
    const found = Machine.targets(role);
    if (found.length === 1) return found[0];
    return invalid(`the step names ${found.length} machines as \`${role}\`, and this action wants one`);
  }

  /** Its files, with the rights that the inventory's `become` gives. */
  get files() {
    return new Tree(this.#raw.files());
  }

  /** What it says of itself: hostname, osId, osVersion, arch, bootId. */
  facts() {
    return call(() => this.#raw.facts());
  }

  /** A command. `how`: `reads` (facets that it looks at), `privileged`, `timeout` (seconds), `env`, `stdin`, `cwd`, and `files`, which are
   * there with mode 0600 while it runs, and whose paths replace `{NAME}` in argv and env: the way to hand over a secret. */
  cmd(argv, how) {
    return new Cmd(this.#raw, argv, how);
  }

  /** A look over HTTP from this machine. Any status is an answer. `ca`: a PEM, or "insecure". */
  http(url, { method = "GET", headers = {}, ca = null } = {}) {
    const answer = call(() => this.#raw.http(request(method, url, headers, "", ca)));
    return new Response(`${method} ${url} from ${this.name}`, answer);
  }

  /** An HTTP request that changes something. A status of 400 or more is an error. */
  httpChange(
    summary,
    url,
    {
      method = "POST",
      headers = {},
      body = "",
      ca = null,
      undo = byHand(`take back by hand: ${summary}`),
      ...more
    } = {},
  ) {
    const wanted = request(method, url, headers, body, ca);
    return new Outcome(
      `${method} ${url} from ${this.name}`,
      call(() => this.#raw.httpChange(wanted, undo, effect(summary, more))),
    );
  }

  /** Whether a TCP connection from this machine is accepted. */
  tcp(address, port, timeout = 5) {
    return call(() => this.#raw.tcp(address, port, Math.round(timeout * 1000)));
  }
}

/** An HTTP response. */
export class Response {
  constructor(said, { status, headers, body }) {
    this.said = said;
    this.status = status;
    this.headers = Object.fromEntries(headers);
    this.body = body;
  }

  /** Its body as text. */
  text() {
    return fromUtf8(this.body);
  }

  /** Its body, read as JSON. */
  json() {
    return readJson(this.body, this.said);
  }
}

function request(method, url, headers, body, ca) {
  return {
    method,
    url,
    headers: Object.entries(headers).map(([name, value]) => [name, parts(value)]),
    body: parts(body),
    ca,
  };
}
