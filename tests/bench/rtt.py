"""W20 on one host that is 20 ms away: how long it takes, and how many round trips it waits for."""

import statistics
import sys

import hosts
import tables
import w20
import workload
from peers import Tool
from places import Wrong
from proxy import Proxy

ROUND_TRIP = 0.020


def run(runs: int, tools: list[Tool]) -> bool:
    """Measures and prints. False where a tool went wrong."""
    seen: dict[tuple[str, str], list[tuple]] = {}
    wrong = set()
    with hosts.up(1) as (host,):
        w20.warm(workload.prepare("w20-1", [host]), [host])
        with Proxy(host.address, host.port + 1, host.port, ROUND_TRIP, host.server.log) as proxy:
            away = hosts.through(host, proxy.port)
            folder = workload.prepare("rtt", [away])
            for number in range(runs):
                for tool in [t for t in tools if t.name not in wrong]:
                    try:
                        proxy.restart()
                        for phase, sample in w20.once(tool, folder, [away]):
                            seen.setdefault((tool.name, phase), []).append((sample, proxy.round_trips()))
                            proxy.restart()
                    except Wrong as error:
                        wrong.add(tool.name)
                        print(f"{error}\n", file=sys.stderr)
                    print(f"  run {number + 1} of {runs}, {ROUND_TRIP * 1e3:.0f} ms away: {tool.name}", file=sys.stderr, flush=True)
    show(runs, tools, seen, wrong)
    return not wrong


def show(runs: int, tools: list[Tool], seen: dict, wrong: set) -> None:
    tables.title(f"W20 on 1 host, {ROUND_TRIP * 1e3:.0f} ms away: seconds, median (range) of {runs} runs, and round trips")
    rows = []
    for tool in tools:
        row = [tool.name]
        for phase in w20.PHASES:
            if tool.name in wrong:
                row += ["WRONG", "-", "-", "-"]
                continue
            mine = seen[tool.name, phase]
            floor = seen.get(("floor", phase)) if "floor" not in wrong else None
            median = lambda of, i: statistics.median(s.wall if i is None else c[i] for s, c in of)
            row += [
                tables.spread([s.wall for s, _ in mine]),
                f"{median(mine, None) / median(floor, None):.2f}" if floor else "-",
                f"{median(mine, 0):g} + {median(mine, 1):g}",
                f"{median(mine, 2):g}",
            ]
        rows.append(row)
    head = ["tool"]
    for phase in w20.PHASES:
        head += [f"{phase} apply", "x floor", "login + round trips", "bursts"]
    tables.table(head, rows)
    print(
        "Round trips, counted at the proxy: flushes of the client that it waited for one after another, until it was logged in + after it.\n"
        "Bursts: all its flushes after an answer, those included that were under way side by side.\n",
        flush=True,
    )
