"""W20: every tool on fresh hosts, then once more."""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import hosts
import measure
import peers
import tables
import workload
from hosts import Host
from measure import Sample
from peers import Tool
from places import Wrong

PHASES = ("first", "second")
Samples = dict[tuple[str, str], list[Sample]]


def run(counts: list[int], runs: int, tools: list[Tool]) -> bool:
    """Measures and prints. False where a tool went wrong."""
    good = True
    for count in counts:
        with hosts.up(count) as all_hosts:
            folder = workload.prepare(f"w20-{count}", all_hosts)
            warm(folder, all_hosts[:1])
            samples, wrong = repeat(tools, folder, all_hosts, runs)
        show(count, runs, tools, samples, wrong, all_hosts)
        good &= not wrong
    return good


def warm(folder: Path, some: list[Host]) -> None:
    """Fills the component cache of `runbook`, and the disk cache with the tools."""
    workload.reset(some)
    tool = peers.TOOLS["runbook"]
    measure.run("warm", [peers.program(), "plan", folder / "w20.toml"], some, tool.env(folder, 1))


def once(tool: Tool, folder: Path, all_hosts: list[Host]) -> Iterator[tuple[str, Sample]]:
    """Applies W20 twice to fresh hosts. Raises where a tool fails, leaves another end state, or changes something the second time."""
    workload.reset(all_hosts)
    count = len(all_hosts)
    for phase in PHASES:
        before = workload.identities(all_hosts)
        sample = measure.run(f"{folder.name}-{tool.name}-{phase}", tool.command(folder, count), all_hosts, tool.env(folder, count))
        workload.check(tool.name, all_hosts)
        if phase == "second" and before != workload.identities(all_hosts):
            raise Wrong(f"{tool.name} wrote a file again that was as it should be")
        yield phase, sample


def repeat(tools: list[Tool], folder: Path, all_hosts: list[Host], runs: int) -> tuple[Samples, dict[str, str]]:
    """Lets the tools take turns, so that what the machine does otherwise hits all of them."""
    samples: Samples = {}
    wrong: dict[str, str] = {}
    for number in range(runs):
        for tool in tools:
            if tool.name in wrong:
                continue
            try:
                for phase, sample in once(tool, folder, all_hosts):
                    samples.setdefault((tool.name, phase), []).append(sample)
            except Wrong as error:
                wrong[tool.name] = str(error)
                print(f"{error}\n", file=sys.stderr)
            print(f"  run {number + 1} of {runs}, {len(all_hosts)} hosts: {tool.name}", file=sys.stderr, flush=True)
    return samples, wrong


def show(count: int, runs: int, tools: list[Tool], samples: Samples, wrong: dict[str, str], all_hosts: list[Host]) -> None:
    tables.title(f"W20 on {count} host{'s' if count > 1 else ''}: seconds, median (range) of {runs} runs")
    rows = []
    for tool in tools:
        row = [tool.name]
        for phase in PHASES:
            mine, floor = samples.get((tool.name, phase), []), samples.get(("floor", phase), [])
            if tool.name in wrong:
                row += ["WRONG", "-", "-", "-"]
                continue
            ratio = f"{wall(mine) / wall(floor):.2f}" if floor and "floor" not in wrong else "-"
            cpus = f"{tables.median(s.client_cpu for s in mine)} / {tables.median(s.host_cpu for s in mine)}"
            channels = f"{statistics.median(s.logins for s in mine) / count:g} / {statistics.median(s.sessions for s in mine) / count:g}"
            row += [tables.spread([s.wall for s in mine]), ratio, cpus, channels]
        rows.append(row)
    head = ["tool"]
    for phase in PHASES:
        head += [f"{phase} apply", "x floor", "CPU client / hosts", "logins / sessions"]
    tables.table(head, rows)
    loads = [s.load for many in samples.values() for s in many] or [0.0]
    print(
        "CPU in seconds, of all hosts together; logins and SSH sessions for each host. "
        f"End state of every run: {workload.digest(workload.expected(all_hosts[0]))} on h1. "
        f"Load average {min(loads):.1f}-{max(loads):.1f}.\n",
        flush=True,
    )


def wall(samples: list[Sample]) -> float:
    return statistics.median(s.wall for s in samples)
