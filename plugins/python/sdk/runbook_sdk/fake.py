"""A world for unit tests: what was said is answered, and everything else fails the test, by name.

    world = World()
    node = world.machine("node1")
    node.answers(["smartctl", "-j", "/dev/sda"], stdout='{"ok": true}')
    node.runs(["smartctl", "-t", "long", "/dev/sda"], then=lambda: node.answers(["smartctl", "-j", "/dev/sda"], stdout="..."))
    result = world.apply(plugin, "tested", {"device": "/dev/sda"})

`then` is what the command does to the world. `world.plan` makes no change; looks that depend on a planned one are `Unknown`. Needs the
bindings and the manifest that `runbook plugin test` makes.
"""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence
from unittest import mock

from componentize_py_types import Err
from wit_world.imports import clusters, machines, run, trees, types

from .errors import settled
from .plugin import Plugin


@dataclass
class Result:
    """How an action ended: what it gave, and the summaries of its changes."""

    outputs: dict[str, Any]
    changes: list[str]


class World:
    """Machines and their files. What an action asks of it beyond that is an error that names the call."""

    def __init__(self) -> None:
        self._machines: dict[str, list[FakeMachine]] = {}
        self.controller = FakeTree(self)
        """The files of the controller."""
        self.log: list[str] = []
        """What the plugin said."""
        self._planning = False
        self._changes: list[str] = []
        self._pending: list[tuple[types.Timing, str, Callable[[], None]]] = []
        self._altered: list[set[str]] = []
        self._baselines: dict[str, str] = {}

    def machine(self, name: str, role: str = "host") -> "FakeMachine":
        """One more machine that the step names for this role."""
        machine = FakeMachine(self, name)
        self._machines.setdefault(role, []).append(machine)
        return machine

    def apply(self, plugin: Plugin, action: str, inputs: dict[str, Any]) -> Result:
        """Runs an action's converge. What it defers is carried out at the end, also where it fails."""
        return self._run(plugin, action, inputs, planning=False)

    def plan(self, plugin: Plugin, action: str, inputs: dict[str, Any]) -> Result:
        """The same, and nothing is changed; files are read as they are, not as planned."""
        return self._run(plugin, action, inputs, planning=True)

    def verify(self, plugin: Plugin, action: str, inputs: dict[str, Any]) -> list[str]:
        """Runs an action's verify."""
        with self._connected(planning=True):
            return settled(lambda: plugin.verifies[action](_complete(action, inputs)))

    def _run(self, plugin: Plugin, action: str, inputs: dict[str, Any], planning: bool) -> Result:
        with self._connected(planning):
            try:
                outputs = settled(lambda: plugin.converges[action](_complete(action, inputs)))
            finally:
                self._end()
        json.dumps(outputs)  # What cannot be written fails here, not on the night when it is needed.
        return Result({} if outputs is None else outputs, self._changes)

    def _end(self) -> None:
        for timing, summary, carry_out in self._pending:
            if timing is not types.Timing.STEP_END_IF_CHANGED or self._changes:
                self._changes.append(summary)
                carry_out()

    def _connected(self, planning: bool) -> ExitStack:
        self._planning, self._changes, self._pending, self._altered = planning, [], [], []
        stack = ExitStack()
        for module, name, fake in (
            (machines, "targets", lambda role: list(self._machines.get(role, []))),
            (trees, "controller", lambda: self.controller),
            (clusters, "target", lambda: None),
            (run, "log", lambda level, message: self.log.append(message)),
            (run, "progress", lambda *_: None),
            (run, "pause", lambda _: self._pause()),
            (run, "baseline", lambda key, value: self._baselines.setdefault(key, value)),
        ):
            stack.enter_context(mock.patch.object(module, name, fake))
        return stack

    def _pause(self) -> None:
        if self._planning:
            raise Err(types.CallError_Unknown("what is waited for has not been started"))

    def _change(self, effect: types.Effect, carry_out: Callable[[], Any], planned: Any, deferred: Any) -> Any:
        """One change: planned, deferred, or made."""
        if effect.timing is not types.Timing.NOW:
            self._pending.append((effect.timing, effect.summary, lambda: None if self._planning else carry_out()))
            return deferred
        self._changes.append(effect.summary)
        return planned if self._planning else carry_out()


class FakeMachine:
    """A machine whose commands answer what was said."""

    def __init__(self, world: World, name: str):
        self._world, self._name = world, name
        self.tree = FakeTree(world)
        """Its files."""
        self._looks: dict[tuple[str, ...], machines.Output] = {}
        self._runs: dict[tuple[str, ...], tuple[machines.Output, Callable[[], None]]] = {}
        self._served: dict[tuple[str, str], tuple[machines.Response, Callable[[], None]]] = {}

    def answers(self, argv: Sequence[str], stdout: str = "", code: int = 0, stderr: str = "") -> None:
        """What this command, which looks, gives from now on."""
        self._looks[tuple(argv)] = machines.Output(machines.Exit_Code(code), stdout.encode(), stderr.encode())

    def runs(
        self, argv: Sequence[str], then: Callable[[], None] = lambda: None, stdout: str = "", code: int = 0
    ) -> None:
        """What this command, which changes something, gives, and does to the world."""
        self._runs[tuple(argv)] = (machines.Output(machines.Exit_Code(code), stdout.encode(), b""), then)

    def serves(
        self, method: str, url: str, body: str = "", status: int = 200, then: Callable[[], None] = lambda: None
    ) -> None:
        """What a request from this machine is answered with, and, where it changes something, does to the world."""
        self._served[(method, url)] = (machines.Response(status, [], body.encode()), then)

    def name(self) -> str:
        return self._name

    def files(self) -> "FakeTree":
        return self.tree

    def observe(self, command: machines.Command) -> machines.Output:
        for altered in self._world._altered:
            if not altered or not command.reads or altered & set(command.reads):
                raise Err(types.CallError_Unknown(f"{self._name}: a planned change may alter what this reads"))
        return _said(self._looks, tuple(command.argv), "answers", self._name)

    def change(
        self,
        command: machines.Command,
        done_when: machines.Command | None,
        undo: machines.Undo,
        effect: types.Effect,
    ) -> machines.Outcome:
        if done_when and self.observe(done_when).exit == machines.Exit_Code(0):
            return machines.Outcome_Already()
        output, then = _said(self._runs, tuple(command.argv), "runs", self._name)
        return self._make(effect, then, output)

    def http(self, request: machines.Request) -> machines.Response:
        return _said(self._served, (request.method, request.url), "serves", self._name)[0]

    def http_change(self, request: machines.Request, undo: machines.Undo, effect: types.Effect) -> machines.Outcome:
        response, then = _said(self._served, (request.method, request.url), "serves", self._name)
        code = machines.Exit_Code(0 if response.status < 400 else 1)
        return self._make(effect, then, machines.Output(code, response.body, f"HTTP status {response.status}".encode()))

    def _make(self, effect: types.Effect, then: Callable[[], None], output: machines.Output) -> machines.Outcome:
        def carry_out() -> machines.Outcome:
            then()
            return machines.Outcome_Done(output)

        outcome = self._world._change(effect, carry_out, machines.Outcome_Planned(), machines.Outcome_Deferred())
        if isinstance(outcome, machines.Outcome_Planned):
            self._world._altered.append(set(effect.alters))
        return outcome

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{self._name}: the fake world has no `{name}`")


class FakeTree:
    """Files by path, to fill and to look at: `node.tree.contents["/etc/motd"] = b"hello"`."""

    def __init__(self, world: World):
        self._world = world
        self.contents: dict[str, bytes] = {}
        self.attributes: dict[str, trees.Attributes] = {}

    def stat(self, path: str) -> trees.Stat | None:
        if path not in self.contents:
            return None
        mode = self.attributes.get(path, trees.Attributes(None, None, None)).mode or 0o644
        return trees.Stat(trees.Kind.FILE, len(self.contents[path]), mode, "root", "root", None)

    def read(self, path: str, limit: int) -> bytes:
        if path not in self.contents:
            raise Err(types.CallError_NotFound(f"{path}: no such file"))
        return self.contents[path]

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.read(path, 0)).hexdigest()

    def ensure_file(
        self,
        path: str,
        content: trees.Content,
        attributes: trees.Attributes,
        validate: list[str],
        effect: types.Effect,
    ) -> types.Verdict:
        new = content.value if isinstance(content, trees.Content_Bytes) else _bytes(content)
        if self.contents.get(path) == new and self.attributes.get(path, attributes) == attributes:
            return types.Verdict.UNCHANGED

        def carry_out() -> types.Verdict:
            self.contents[path], self.attributes[path] = new, attributes
            return types.Verdict.CHANGED

        return self._world._change(effect, carry_out, types.Verdict.CHANGED, types.Verdict.DEFERRED)

    def ensure_absent(self, path: str, effect: types.Effect) -> types.Verdict:
        if path not in self.contents:
            return types.Verdict.UNCHANGED

        def carry_out() -> types.Verdict:
            del self.contents[path]
            return types.Verdict.CHANGED

        return self._world._change(effect, carry_out, types.Verdict.CHANGED, types.Verdict.DEFERRED)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the fake files have no `{name}`")


def _complete(action: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs with the defaults of plugin.toml, as the host hands them over."""
    manifest = json.loads(Path("build/manifest.json").read_text())
    schema = next(known for known in manifest["action"] if known["name"] == action)["inputs"]
    return {name: of["default"] for name, of in schema["properties"].items() if "default" in of} | inputs


def _said(answers: dict[Any, Any], asked: tuple[str, ...], how: str, name: str) -> Any:
    if asked not in answers:
        raise AssertionError(f"{name}: nobody said what happens: machine.{how}({list(asked)!r}, ...)")
    return answers[asked]


def _bytes(content: trees.Content) -> bytes:
    """A text as the tests see it: a secret is shown by its name."""
    parts = content.value if isinstance(content, trees.Content_Text) else []
    return "".join(
        part.value if isinstance(part, types.TextPart_Plain) else f"<secret {part.value}>" for part in parts
    ).encode()
