// Files on a machine or on the controller.

import { effect } from "./commands.js";
import { call, ifFound } from "./errors.js";
import { fromUtf8, parts } from "./text.js";
import { world } from "./world.js";

// Bytes that `read` takes at most: a plugin's memory is small.
const READ_LIMIT = 8 << 20;

/** A tree of files. Paths are absolute. */
export class Tree {
  #raw;

  constructor(raw) {
    this.#raw = raw;
  }

  /** Files on the controller: below the runbook's folder, and where inputs of format `controller-path` point. */
  static controller() {
    return new Tree(world.trees.controller());
  }

  /** What lies there, links not followed; null where nothing does. Never guessed. */
  stat(path) {
    return ifFound(() => call(() => this.#raw.stat(path)));
  }

  /** The entries of a directory, by name. */
  list(path) {
    return call(() => this.#raw.list(path));
  }

  /** A file's bytes. */
  read(path) {
    return call(() => this.#raw.read(path, READ_LIMIT));
  }

  /** A file's content as text; null where there is no such file. */
  readText(path) {
    const bytes = ifFound(() => this.read(path));
    return bytes && fromUtf8(bytes);
  }

  /**
   * The file has this content (a text or bytes); mode, owner and group as said, or as they are. True where it was not so: then it is, or
   * will be. `validate` is run on the new file before it takes the place of the old one, with `{}` standing for its path.
   */
  file(
    path,
    content,
    { mode = null, owner = null, group = null, validate = [], summary = `write ${path}`, ...more } = {},
  ) {
    const what = content instanceof Uint8Array ? { tag: "bytes", val: content } : { tag: "text", val: parts(content) };
    return changed(
      call(() => this.#raw.ensureFile(path, what, { mode, owner, group }, validate, effect(summary, more))),
    );
  }

  /** A directory is there, its parents included. */
  directory(path, { mode = null, owner = null, group = null } = {}) {
    return changed(
      call(() => this.#raw.ensureDirectory(path, { mode, owner, group }, effect(`make the directory ${path}`))),
    );
  }

  /** A symbolic link to `target`, as written, is there. */
  link(path, target) {
    return changed(call(() => this.#raw.ensureLink(path, target, effect(`link ${path} to ${target}`))));
  }

  /** Nothing is there. A directory goes with all that is below it. */
  absent(path) {
    return changed(call(() => this.#raw.ensureAbsent(path, effect(`remove ${path}`))));
  }
}

/** Whether a verdict says that something was, or will be, changed. */
export const changed = (verdict) => verdict !== "unchanged";
