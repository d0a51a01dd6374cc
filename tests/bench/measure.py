"""Runs a command and takes what it cost."""

import os
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import cpu
import peers
from hosts import Host
from places import LOGS, Wrong

# No measurement takes longer: what does, hangs.
LIMIT = 1800


@dataclass(frozen=True)
class Sample:
    """What one run of a command cost."""

    wall: float
    client_cpu: float
    host_cpu: float
    # Peak resident memory of the largest process that it consists of, in bytes (VmHWM).
    peak: int
    logins: int
    sessions: int
    # Load average of the machine before it.
    load: float
    output: str


def run(name: str, command: list, hosts: list[Host], env: dict[str, str] | None = None, cwd: Path | None = None) -> Sample:
    """Runs a command to its end. One that fails is an error, with the end of what it said."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    servers = {h.server for h in hosts}
    positions = {s: s.log.stat().st_size for s in servers}
    load, host_before, client_before = os.getloadavg()[0], cpu.hosts(), cpu.clients()
    with open(log, "wb") as out:
        start = time.monotonic()
        child = subprocess.Popen(
            [str(c) for c in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
            cwd=cwd,
            preexec_fn=cpu.enter,
        )
        try:
            code, usage = _wait(child, start + LIMIT)
        except BaseException:
            child.kill()
            raise
        wall = time.monotonic() - start
    peers.close_masters()
    time.sleep(0.15)  # The servers' processes end.
    output = log.read_text(errors="replace")
    if code != 0:
        raise Wrong(f"{name}: exit code {code}; {log} ends with:\n" + "\n".join(output.splitlines()[-8:]))
    new = "".join(_since(s.log, p) for s, p in positions.items())
    client_after = cpu.clients()
    return Sample(
        wall=wall,
        client_cpu=usage.ru_utime + usage.ru_stime if client_after is None else client_after - client_before,
        host_cpu=cpu.hosts() - host_before,
        peak=usage.ru_maxrss * 1024,
        logins=new.count("Accepted publickey"),
        sessions=new.count("Starting session"),
        load=load,
        output=output,
    )


def _wait(child: subprocess.Popen, deadline: float):
    """Like `wait`, with the child's resource usage."""
    pidfd = os.pidfd_open(child.pid)
    try:
        if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            child.kill()
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage


def _since(log: Path, position: int) -> str:
    with open(log, errors="replace") as file:
        file.seek(position)
        return file.read()
