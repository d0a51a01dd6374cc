"""Machines that a step named."""

from typing import Any, Sequence

from wit_world.imports import machines as raw
from wit_world.imports import types

from .commands import NOW, Cmd, Outcome, Timing, Undo, by_hand
from .errors import Invalid, call
from .files import Tree
from .text import Text, to_wit


class Machine:
    """One machine."""

    def __init__(self, handle: raw.Machine):
        self._raw = handle
        self.name = handle.name()
        """Its name in the inventory."""
        self.files = Tree(handle.files())
        """Its files, with the rights that the inventory's `become` gives."""

    @staticmethod
    def targets(role: str) -> "list[Machine]":
        """The machines that the step named for this role, in the runbook's order."""
        return [Machine(handle) for handle in raw.targets(role)]

    @staticmethod
    def target(role: str) -> "Machine":
        """The only one of this role."""
        match Machine.targets(role):
            case [machine]:
                return machine
            case machines:
                raise Invalid(f"the step names {len(machines)} machines as `{role}`, and this action wants one")

    def facts(self) -> raw.Facts:
        """What it says of itself: hostname, os_id, os_version, arch, boot_id."""
        return call(self._raw.facts)

    def cmd(self, argv: Sequence[str], **how: Any) -> Cmd:
        """A command. `how` are the other fields of `Cmd`: reads, privileged, timeout, env, stdin, files, cwd."""
        return Cmd(self._raw, argv, **how)

    def http(
        self, url: str, *, method: str = "GET", headers: dict[str, Text] = {}, ca: str | None = None
    ) -> raw.Response:
        """A look over HTTP from this machine: status, headers, body. Any status is an answer. `ca`: a PEM, or "insecure"."""
        return call(self._raw.http, _request(method, url, headers, "", ca))

    def http_change(
        self,
        summary: str,
        url: str,
        *,
        method: str = "POST",
        headers: dict[str, Text] = {},
        body: Text = "",
        ca: str | None = None,
        undo: Undo | None = None,
        alters: Sequence[str] = (),
        repeats: bool = False,
        timing: Timing = NOW,
    ) -> Outcome:
        """An HTTP request that changes something. A status of 400 or more is an error."""
        undo = undo or by_hand(f"take back by hand: {summary}")
        effect = types.Effect(summary, timing, list(alters), repeats)
        answer = call(self._raw.http_change, _request(method, url, headers, body, ca), undo, effect)
        outcome = Outcome.of_wit(f"{method} {url} from {self.name}", answer)
        if outcome.state == "done" and outcome._output:
            outcome._output.ok()
        return outcome

    def tcp(self, address: str, port: int, timeout: float = 5) -> bool:
        """Whether a TCP connection from this machine is accepted."""
        return call(self._raw.tcp, address, port, round(timeout * 1000))


def _request(method: str, url: str, headers: dict[str, Text], body: Text, ca: str | None) -> raw.Request:
    return raw.Request(method, url, [(name, to_wit(value)) for name, value in headers.items()], to_wit(body), ca)
