// Why an action ends without a result.
//
// Calls to the world throw a `CallError`, which passes up by itself. `unknown` is special: in a plan, a look that depends on a change
// which has only been planned throws it, and the plan then says "may change: cannot be looked at before ...". One that was caught on
// its way ends the action all the same, so that nothing is concluded from an answer that nobody gave; `ifKnown` goes on without it, on
// purpose.

/** Why a call or an action gave no result, in words for a person: what did not work, where, what to do. */
export class CallError extends Error {
  /**
   * @param {"denied"|"unknown"|"not-found"|"unreachable"|"timed-out"|"conflict"|"invalid"|"failed"} kind what a caller can act on
   * @param {string} message
   */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** Ends the action: it was tried and did not work. */
export function fail(message) {
  throw new CallError("failed", message);
}

/** Ends the action: what was asked makes no sense, together or there. */
export function invalid(message) {
  throw new CallError("invalid", message);
}

/** Ends the action: the world is in a state that must not be touched without a person. */
export function conflict(message) {
  throw new CallError("conflict", message);
}

/** Ends the action unless the condition holds. */
export function ensure(condition, message) {
  if (!condition) fail(message);
}

// The `unknown` answers of this call that nobody has set aside.
let unknowns = [];

/** Makes a call to the world; its errors become `CallError`s. */
export function call(make) {
  try {
    return make();
  } catch (error) {
    const { tag, val } = error?.payload ?? {};
    if (tag === undefined) throw error;
    if (tag === "unknown") unknowns.push(val);
    throw new CallError(tag, val);
  }
}

/** What the look gives; null where it is not there. */
export function ifFound(look) {
  return unless("not-found", look);
}

/** What the look gives; null where a plan cannot know it. What is changed from then on is planned as "perhaps". */
export function ifKnown(look) {
  const before = unknowns.length;
  return unless("unknown", look, () => unknowns.splice(before));
}

function unless(kind, look, then = () => {}) {
  try {
    return look();
  } catch (error) {
    if (error?.kind !== kind) throw error;
    then();
    return null;
  }
}

/** Runs an action. An `unknown` that was swallowed on its way is thrown at its end. */
export function settled(action) {
  unknowns = [];
  let result;
  try {
    result = action();
  } catch (error) {
    if (error?.kind === "unknown" || unknowns.length === 0) throw error;
  }
  if (unknowns.length > 0) throw new CallError("unknown", unknowns[0]);
  return result;
}
