"""From the start of a process to the first TCP connection that it opens, and the first fill of the component cache."""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import hosts
import measure
import peers
import tables
import workload
from places import STATE, ours, program

ADDRESS = "127.0.9.9"


def run(runs: int, wanted: str | None) -> bool:
    with hosts.up(1) as (host,):
        folder = workload.prepare("start", [replace(host, address=ADDRESS)])
        near = workload.prepare("w20-1", [host])
        fill = first_fill(near, host)
        tools = [t for t in peers.TOOLS.values() if t.installed() and t.name not in ("floor", "bash-cm")]
        commands = {t.name: (t.command(folder, 1), t.env(folder, 1)) for t in tools}
        commands["ssh"] = (["ssh", "-F", folder / "ssh_config", "h1", "true"], {})
        commands = peers.pick(wanted, commands)
        seen: dict[str, list[float]] = {name: [] for name in commands}
        with socket.create_server((ADDRESS, hosts.PORT)) as listener:
            listener.settimeout(60)
            for command, env in commands.values():
                first_connect(listener, command, env)  # Warm.
            for _ in range(runs):
                for name, (command, env) in commands.items():
                    seen[name].append(1e3 * first_connect(listener, command, env))
    tables.title(f"From the start of the process to its first TCP connection, 20 steps: milliseconds, median (range) of {runs} runs")
    tables.table(["what", "ms"], [[name, tables.spread(values, 1)] for name, values in seen.items()])
    print(f"Component cache of runbook: the first plan, which fills it, takes {fill[0]:.2f} s; the next one {fill[1]:.2f} s.\n", flush=True)
    return True


def first_connect(listener: socket.socket, command: list, env: dict[str, str]) -> float:
    """Seconds until it connects. It is ended there and then."""
    start = time.monotonic()
    child = subprocess.Popen(
        [str(c) for c in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | env,
        start_new_session=True,
    )
    try:
        connection, _ = listener.accept()
        taken = time.monotonic() - start
        connection.close()
        return taken
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        # What it opened besides is none of the next one's.
        listener.setblocking(False)
        try:
            while True:
                listener.accept()[0].close()
        except BlockingIOError:
            listener.settimeout(60)


def first_fill(folder: Path, host: hosts.Host) -> tuple[float, float]:
    """Seconds of a plan without the component cache, and with it."""
    workload.reset([host])
    shutil.rmtree(STATE / "xdg/cache", ignore_errors=True)
    plan = [program(), "plan", folder / "w20.toml"]
    return tuple(measure.run(f"fill-{n}", plan, [host], ours()).wall for n in ("first", "next"))
