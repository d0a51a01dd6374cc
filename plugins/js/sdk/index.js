// What a runbook plugin in JavaScript is written with. See plugins/js/README.md.

export { Cluster, kind, ref } from "./cluster.js";
export { Cmd, Outcome, Output, byHand, harmless, inverse, irreversible } from "./commands.js";
export { CallError, conflict, ensure, fail, ifFound, ifKnown, invalid } from "./errors.js";
export { Tree } from "./files.js";
export { Machine, Response } from "./machine.js";
export { baseline, component, info, pause, warn } from "./plugin.js";
export { connect } from "./world.js";
