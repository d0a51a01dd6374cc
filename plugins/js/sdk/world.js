// The interfaces of the host, put in by the component's entry, or by a fake world in tests: nothing else in the SDK names them.

export const world = { machines: null, trees: null, clusters: null, run: null };

/** Says who answers: `{ machines, trees, clusters, run }`. */
export function connect(interfaces) {
  Object.assign(world, interfaces);
}
