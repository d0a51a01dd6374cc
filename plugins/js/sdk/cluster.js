// The Kubernetes cluster that a step named. Objects are plain ones, as in YAML.

import { effect } from "./commands.js";
import { call, invalid } from "./errors.js";
import { changed } from "./files.js";
import { world } from "./world.js";

/** A kind, by `apiVersion` and `kind` as a manifest has them: `kind("apps/v1", "Deployment")`. */
export function kind(apiVersion, name) {
  const [version, group = ""] = apiVersion.split("/").reverse();
  return { group, version, kind: name };
}

/** One object. */
export function ref(apiVersion, kindName, name, namespace = null) {
  return { kind: kind(apiVersion, kindName), namespace, name };
}

/** One cluster. */
export class Cluster {
  #raw;

  constructor(raw) {
    this.#raw = raw;
    /** Its name in the inventory. */
    this.name = raw.name();
  }

  /** The cluster of the step. */
  static target() {
    const raw = world.clusters.target();
    return raw ? new Cluster(raw) : invalid("the step names no cluster");
  }

  /** The object; null only where an authenticated API server answered that it is not there. */
  get(object) {
    const found = call(() => this.#raw.get(object));
    return found && JSON.parse(found);
  }

  /** The objects that match. */
  list(of, { namespace = null, labels = null } = {}) {
    return call(() => this.#raw.list({ kind: of, namespace, labels, fields: null })).map((text) => JSON.parse(text));
  }

  /** Server-side apply. True where something changed, or would. */
  apply(manifest, summary, { force = false, ...more } = {}) {
    return changed(call(() => this.#raw.apply(JSON.stringify(manifest), force, effect(summary, more))));
  }

  /** The object is gone; unchanged where it is absent already. */
  delete(object, summary) {
    const options = { graceSeconds: null, propagation: "background", uid: null };
    return changed(call(() => this.#raw.delete(object, options, effect(summary))));
  }

  /** It has that many replicas. */
  scale(object, replicas, summary, more) {
    return changed(call(() => this.#raw.scale(object, replicas, effect(summary, more))));
  }

  /** Waits until all replicas of this generation are updated and available; at most `timeout` seconds. */
  waitRolledOut(object, timeout) {
    call(() => this.#raw.wait(object, { tag: "rolled-out" }, Math.round(timeout * 1000)));
  }
}
