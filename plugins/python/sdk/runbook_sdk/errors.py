"""Why an action ends without a result.

Calls to the world raise these, and they pass up by themselves. `Unknown` is special: in a plan, a look that depends on a change which
has only been planned raises it, and the plan then says "may change: cannot be looked at before ...". One that was caught on its way
ends the action all the same, so that nothing is concluded from an answer that nobody gave; `if_known` goes on without it, on purpose.
"""

from typing import Callable, NoReturn, TypeVar

from componentize_py_types import Err
from wit_world.imports import types as raw

T = TypeVar("T")


class Error(Exception):
    """Why a call or an action gave no result, in words for a person: what did not work, where, what to do."""

    raw = raw.CallError_Failed

    def to_wit(self) -> Err:
        return Err(self.raw(str(self)))


class Denied(Error):
    """Not granted."""

    raw = raw.CallError_Denied


class Unknown(Error):
    """Only in plans: the answer depends on a change that has only been planned. Let it pass up."""

    raw = raw.CallError_Unknown


class NotFound(Error):
    """Looked, with authority, and it is not there."""

    raw = raw.CallError_NotFound


class Unreachable(Error):
    """Nobody answered, or the answer cannot be trusted. Never the same as `NotFound`."""

    raw = raw.CallError_Unreachable


class TimedOut(Error):
    """The time that the call, or the step, was given is over."""

    raw = raw.CallError_TimedOut


class Conflict(Error):
    """The world is in a state that must not be touched without a person."""

    raw = raw.CallError_Conflict


class Invalid(Error):
    """What was asked makes no sense: the inputs, together or there."""

    raw = raw.CallError_Invalid


class Failed(Error):
    """It was tried and did not work."""


_KINDS = {kind.raw: kind for kind in (Denied, Unknown, NotFound, Unreachable, TimedOut, Conflict, Invalid, Failed)}

# The `unknown` answers of this call that nobody has set aside.
_unknowns: list[str] = []


def fail(message: str) -> NoReturn:
    """Ends the action: it did not work."""
    raise Failed(message)


def ensure(condition: object, message: str) -> None:
    """Ends the action unless the condition holds."""
    if not condition:
        fail(message)


def call(function: Callable[..., T], *arguments: object) -> T:
    """Makes a call to the world; its errors become those of this module."""
    try:
        return function(*arguments)
    except Err as error:
        kind, message = _KINDS[type(error.value)], error.value.value
        if kind is Unknown:
            _unknowns.append(message)
        raise kind(message) from None


def if_found(look: Callable[[], T]) -> T | None:
    """What the look gives; None where it is not there."""
    try:
        return look()
    except NotFound:
        return None


def if_known(look: Callable[[], T]) -> T | None:
    """What the look gives; None where a plan cannot know it. What is changed from then on is planned as "perhaps"."""
    before = len(_unknowns)
    try:
        return look()
    except Unknown:
        del _unknowns[before:]
        return None


def settled(action: Callable[[], T]) -> T:
    """Runs an action. An `Unknown` that was swallowed on its way is raised at its end."""
    _unknowns.clear()
    try:
        result = action()
    except Unknown:
        raise
    except Exception:
        if _unknowns:
            raise Unknown(_unknowns[0]) from None
        raise
    if _unknowns:
        raise Unknown(_unknowns[0])
    return result
