"""One function for each action, and what the component exports."""

import json
import traceback
from typing import Any, Callable

from wit_world.imports import run as raw

from .errors import Error, Failed, Invalid, call, settled

Converge = Callable[[dict[str, Any]], dict[str, Any] | None]
Verify = Callable[[dict[str, Any]], list[str]]


class Plugin:
    """The actions of a plugin. The module `plugin` has one, named `plugin`."""

    def __init__(self) -> None:
        self.converges: dict[str, Converge] = {}
        self.verifies: dict[str, Verify] = {}

    def converge(self, action: str) -> Callable[[Converge], Converge]:
        """The function that looks at the target and changes what differs from the inputs. It gives the outputs, or None."""

        def register(function: Converge) -> Converge:
            self.converges[action] = function
            return function

        return register

    def verify(self, action: str) -> Callable[[Verify], Verify]:
        """The function that asks whether the purpose is fulfilled, by other signs. It gives what is wrong, in words."""

        def register(function: Verify) -> Verify:
            self.verifies[action] = function
            return function

        return register


def export(plugin: Plugin, manifest: str) -> type:
    """What the component exports. The build writes the module that calls it."""

    class Action:
        def describe(self) -> str:
            return manifest

        def converge(self, action: str, inputs: str) -> str:
            outputs = _run(plugin.converges.get(action), inputs)
            return json.dumps({} if outputs is None else outputs)

        def verify(self, action: str, inputs: str) -> list[str]:
            return _run(plugin.verifies.get(action), inputs)

    return Action


def _run(function: Callable[[dict[str, Any]], Any] | None, inputs: str) -> Any:
    if function is None:
        raise Invalid("this plugin has no such action").to_wit()
    try:
        return settled(lambda: function(json.loads(inputs)))
    except Error as error:
        raise error.to_wit() from None
    except Exception as error:
        raise Failed(_mistake(error)).to_wit() from None


def _mistake(error: Exception) -> str:
    """A mistake of the plugin: what, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    file = where.filename.rsplit("/", 1)[-1]
    said = f"a mistake in the plugin: {type(error).__name__}: {error} ({file}, line {where.lineno}, in {where.name})"
    if isinstance(error, ModuleNotFoundError):
        said += "; there are no files here: import it at the top of plugin.py, where the build finds it"
    return said


def info(message: str) -> None:
    """A message for whoever reads the journal."""
    raw.log(raw.Level.INFO, message)


def warn(message: str) -> None:
    """A message for the person who watches."""
    raw.log(raw.Level.WARN, message)


def pause(seconds: float) -> None:
    """Waits. `Unknown` in a plan: what is waited for has not been started."""
    call(raw.pause, round(seconds * 1000))


def baseline(key: str, value: Any) -> Any:
    """The first value recorded under this key for this step of this run: how many replicas there were before it was scaled to 0."""
    return json.loads(call(raw.baseline, key, json.dumps(value)))
