"""What one command costs on a connection that is open: 200 steps of `true`, less one step of `true`."""

import sys
from collections.abc import Callable
from pathlib import Path

import hosts
import measure
import peers
import tables
import w20
import workload
from hosts import Host
from measure import Sample
from peers import PEERS, SOCKETS
from places import Wrong, ours, program

STEPS = 200


def run(runs: int, wanted: str | None) -> bool:
    """Measures and prints. False where a tool went wrong."""
    rows, wrong = [], set()
    with hosts.up(1) as all_hosts:
        folder = workload.prepare("command", all_hosts)
        write(folder, all_hosts[0])
        w20.warm(folder, all_hosts)
        kinds = peers.pick(wanted, commands(folder))
        seen: dict[str, list[tuple[Sample, Sample]]] = {name: [] for name in kinds}
        for number in range(runs):
            for name in [n for n in kinds if n not in wrong]:
                try:
                    few, many = (kinds[name](n) for n in (1, STEPS))
                    one, all_ = measure_one(name, 1, few, all_hosts), measure_one(name, STEPS, many, all_hosts)
                    seen[name].append((one, all_))
                except Wrong as error:
                    wrong.add(name)
                    print(f"{error}\n", file=sys.stderr)
                print(f"  run {number + 1} of {runs}, {STEPS} commands: {name}", file=sys.stderr, flush=True)
    tables.title(
        f"One command over an open connection: milliseconds, median (range) of {runs} runs, ({STEPS} steps - 1 step) / {STEPS - 1}"
    )
    for name, pairs in seen.items():
        if name in wrong:
            rows.append([name, "WRONG", "-", "-", "-", "-"])
            continue
        wall, client, host, sessions = (per_step(pairs, what) for what in ("wall", "client_cpu", "host_cpu", "sessions"))
        whole = tables.median((1e3 * one.wall for one, _ in pairs), 0)
        rows.append([name, tables.spread(wall), tables.median(client), tables.median(host), f"{sessions[0] / 1e3:.1f}", whole])
    tables.table(["what", "ms per step", "client CPU ms", "host CPU ms", "SSH sessions per step", "whole run of one step, ms"], rows)
    return not wrong


def per_step(pairs: list[tuple[Sample, Sample]], what: str) -> list[float]:
    """Thousandths of something for each step."""
    return [1e3 * (getattr(many, what) - getattr(one, what)) / (STEPS - 1) for one, many in pairs]


def measure_one(name: str, steps: int, command: tuple[list, dict], all_hosts: list[Host]) -> Sample:
    return measure.run(f"command-{name}-{steps}", command[0], all_hosts, command[1])


def commands(folder: Path) -> dict[str, Callable[[int], tuple[list, dict]]]:
    """What is compared: for a number of steps, the command line and its environment."""
    ansible = lambda strategy: lambda n: (peers.ansible(folder / f"true{n}.yml", folder, 1), peers.ansible_env(strategy))
    everything = {
        "runbook": ("runbook", lambda n: ([program(), "exec", folder / f"true{n}.toml"], ours())),
        "sh-channel": ("floor", lambda n: ([sys.executable, PEERS / "shell_true.py", folder, n], {})),
        "asyncssh": ("asyncssh", lambda n: ([peers.venv("asyncssh"), PEERS / "asyncssh_true.py", folder, n], {})),
        "bash-cm": ("bash-cm", lambda n: ([PEERS / "bash-cm-true.sh", folder, n], {"SOCKETS": str(SOCKETS)})),
        "pyinfra": ("pyinfra", lambda n: (peers.pyinfra("pyinfra_true.py"), peers.pyinfra_env(folder, n))),
        "mitogen": ("mitogen", ansible("mitogen")),
        "ansible-tuned": ("ansible-tuned", ansible("ansible-tuned")),
    }
    return {name: command for name, (tool, command) in everything.items() if peers.TOOLS[tool].installed()}


def write(folder: Path, host: Host) -> None:
    """The runbooks and playbooks of one step, and of many."""
    for n in (1, STEPS):
        step = '[[step]]\nid = "t{}"\nuses = "core/command"\non = "h1"\nwith.argv = ["true"]\n\n'
        (folder / f"true{n}.toml").write_text(
            'schema = 1\nname = "true"\ninventory = "hosts.toml"\n\n' + "".join(step.format(i) for i in range(n))
        )
        tasks = "".join(f'    - {{name: "t{i}", command: "true", changed_when: false}}\n' for i in range(n))
        (folder / f"true{n}.yml").write_text("- hosts: bench\n  gather_facts: false\n  tasks:\n" + tasks)
