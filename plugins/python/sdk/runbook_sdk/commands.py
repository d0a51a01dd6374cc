"""Commands on a machine, what they give, and what undo means for them."""

import json
from dataclasses import dataclass, field
from typing import Any, Sequence

from wit_world.imports import machines as raw
from wit_world.imports import types
from wit_world.imports.types import Timing

from .errors import Failed, Unknown, call
from .text import Text, to_wit

# When a change is carried out: at once, or whatever becomes of the plugin, also after a crash.
NOW = Timing.NOW
AT_STEP_END = Timing.STEP_END
AT_STEP_END_IF_CHANGED = Timing.STEP_END_IF_CHANGED
AT_BLOCK_END = Timing.BLOCK_END


@dataclass(frozen=True)
class Output:
    """What a command gave. `code` is None where a signal ended it."""

    said: str
    code: int | None
    signal: str | None
    stdout: bytes
    stderr: bytes

    @staticmethod
    def of_wit(said: str, output: raw.Output) -> "Output":
        code = output.exit.value if isinstance(output.exit, raw.Exit_Code) else None
        signal = output.exit.value if isinstance(output.exit, raw.Exit_Signal) else None
        return Output(said, code, signal, output.stdout, output.stderr)

    def ok(self) -> "Output":
        """Itself, where the exit code is 0; else an error with command, exit code and the end of its standard error."""
        if self.code == 0:
            return self
        how = f"exit code {self.code}" if self.signal is None else f"ended by SIG{self.signal}"
        tail = self.stderr.decode(errors="replace").strip()[-2000:]
        raise Failed(f"{self.said}: {how}" + (f": {tail}" if tail else ""))

    def text(self) -> str:
        """Its standard output, without the line break at the end."""
        return self.stdout.decode(errors="replace").rstrip("\n")

    def json(self) -> Any:
        """Its standard output, read as JSON."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise Failed(f"{self.said} did not print JSON: {error}") from None


@dataclass(frozen=True)
class Outcome:
    """What became of a change: `state` is "done", "already" (`done_when` held), "planned", or "deferred" (it runs at its time)."""

    state: str
    _output: Output | None = None

    @property
    def changed(self) -> bool:
        """Whether it ran, or will."""
        return self.state != "already"

    def output(self) -> Output | None:
        """What it gave; None where nothing had to be run. In a plan nobody knows: that is `Unknown`."""
        if self.state in ("planned", "deferred"):
            raise Unknown("what the command gives is not known before it has run")
        return self._output

    @staticmethod
    def of_wit(said: str, outcome: raw.Outcome) -> "Outcome":
        match outcome:
            case raw.Outcome_Done(output):
                return Outcome("done", Output.of_wit(said, output))
            case raw.Outcome_Already():
                return Outcome("already")
            case raw.Outcome_Planned():
                return Outcome("planned")
            case _:
                return Outcome("deferred")


@dataclass
class Cmd:
    """Program and arguments as they arrive there; no shell reads them. Made by `Machine.cmd`."""

    machine: "raw.Machine"
    argv: Sequence[str]
    cwd: str | None = None
    env: dict[str, Text] = field(default_factory=dict)
    stdin: Text | bytes = ""
    files: dict[str, Text] = field(default_factory=dict)
    """Files of mode 0600 that are there while it runs; their paths replace `{NAME}` in argv and env. The way to hand over a secret."""
    reads: Sequence[str] = ()
    """What it reads, as facets ("path:/etc/x", "service:NAME"); nothing said: anything on that machine."""
    timeout: float | None = None
    """Seconds."""
    privileged: bool = False
    """With the rights that the inventory's `become` gives."""

    def observe(self) -> Output:
        """Runs it; it only looks. Also run in plans. Any exit code is an answer: `.ok()` wants 0."""
        return Output.of_wit(str(self), call(self.machine.observe, self.to_wit()))

    def change(
        self,
        summary: str,
        *,
        done_when: "Cmd | None" = None,
        undo: "Undo | None" = None,
        alters: Sequence[str] = (),
        repeats: bool = False,
        timing: Timing = NOW,
    ) -> Outcome:
        """Runs it; it changes something, as `summary` says: short, imperative. An exit code other than 0 is an error.

        `done_when`: exit code 0 of this command, which only looks, says that it is done. `alters`: what it alters, as facets; nothing
        said: anything on that machine. `repeats`: it does so by nature, so the second look leaves it out. `undo`: nothing said: only a
        person can take it back.
        """
        undo = undo or by_hand(f"take back by hand: {summary}")
        done = done_when.to_wit() if done_when else None
        effect = types.Effect(summary, timing, list(alters), repeats)
        outcome = Outcome.of_wit(str(self), call(self.machine.change, self.to_wit(), done, undo, effect))
        if outcome.state == "done" and outcome._output:
            outcome._output.ok()
        return outcome

    def to_wit(self) -> raw.Command:
        if isinstance(self.stdin, bytes):
            stdin: raw.Input = raw.Input_Bytes(self.stdin)
        else:
            stdin = raw.Input_Text(to_wit(self.stdin)) if self.stdin else raw.Input_None_()
        env = [(name, to_wit(value)) for name, value in self.env.items()]
        files = [raw.Temporary(name, to_wit(content)) for name, content in self.files.items()]
        timeout = None if self.timeout is None else round(self.timeout * 1000)
        return raw.Command(
            list(self.argv), self.cwd, env, stdin, files, list(self.reads), timeout, self.privileged, follow=False
        )

    def __str__(self) -> str:
        return f"{' '.join(self.argv)} on {self.machine.name()}"


Undo = raw.Undo


def inverse(command: Cmd, only_if: Cmd | None = None) -> Undo:
    """This command takes it back, where exit code 0 of `only_if` says that there is something to take back."""
    return raw.Undo_Inverse(raw.Inverse(command.to_wit(), only_if.to_wit() if only_if else None))


def harmless() -> Undo:
    """Leaving it as it is does no harm, and neither does doing it again."""
    return raw.Undo_Harmless()


def irreversible(consequence: str) -> Undo:
    """It cannot be taken back; the consequence in words. The manifest's ask must say `irreversible`, too."""
    return raw.Undo_Irreversible(consequence)


def by_hand(what_to_do: str) -> Undo:
    """Only a person can take it back. An undo ends as stuck here, and shows what to do."""
    return raw.Undo_ByHand(what_to_do)
