"""CPU seconds of the clients and of the hosts, apart from each other and from whatever else runs on this machine.

With cgroups (version 1 or 2, writable) they are exact, and count what outlives its parent, such as ControlMasters, or the shells of a
connection that is gone. Without, the clients' are those of processes that were waited for, and the hosts' are not known: what sshd has
waited for is less than half for one tool and all for another, so that no ratio of it would be true.
"""

import hashlib
import os
from pathlib import Path

from places import STATE

# Of this folder alone: another benchmark may run beside this one, and must not be counted with it.
_NAME = "runbook-bench-" + hashlib.sha256(str(STATE).encode()).hexdigest()[:8]


def _group(name: str) -> tuple[Path, str] | None:
    """The cgroup of this name and its file that holds CPU time."""
    for root, usage in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage"), ("/sys/fs/cgroup", "cpu.stat")):
        if not Path(root, "cgroup.procs").exists():
            continue
        group = Path(root, f"{_NAME}-{name}")
        try:
            group.mkdir(exist_ok=True)
            (group / usage).read_text()
        except OSError:
            continue
        if os.access(group / "cgroup.procs", os.W_OK):
            return group, usage
    return None


_CLIENTS, _HOSTS = _group("clients"), _group("hosts")


def adopt(server: int | None) -> None:
    """Counts this server, and what it will start, among the hosts."""
    if _HOSTS and server is not None:
        (_HOSTS[0] / "cgroup.procs").write_text(str(server))


def enter() -> None:
    """Counts the calling process, and what it will start, among the clients. For use between fork and exec."""
    if _CLIENTS:
        (_CLIENTS[0] / "cgroup.procs").write_text("0")


def _seconds(group: tuple[Path, str]) -> float:
    text = (group[0] / group[1]).read_text()
    return int(text.split()[1]) / 1e6 if group[1] == "cpu.stat" else int(text) / 1e9


def clients() -> float | None:
    """CPU seconds of all clients so far; none where `wait4` has to do."""
    return _seconds(_CLIENTS) if _CLIENTS else None


def hosts() -> float:
    """CPU seconds of all hosts so far; not a number where there are no cgroups."""
    return _seconds(_HOSTS) if _HOSTS else float("nan")
