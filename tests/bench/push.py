"""Pushes 256 MiB to one host."""

import filecmp
import hashlib
import os
import shutil
import sys
from pathlib import Path

import hosts
import measure
import peers
import tables
import w20
import workload
from measure import Sample
from places import STATE, Wrong, ours, program

SIZE = 256 << 20


def run(runs: int, wanted: str | None) -> bool:
    """Measures and prints. False where a tool went wrong."""
    source, wrong = big_file(), set()
    with hosts.up(1) as (host,):
        folder = workload.prepare("push", [host])
        target, config = host.root / "big/big.bin", folder / "ssh_config"
        (folder / "push.toml").write_text(RUNBOOK.format(source=source))
        (folder / "batch").write_text(f"put {source} {target}\n")
        w20.warm(folder, [host])
        commands = {
            "runbook": ([program(), "exec", folder / "push.toml"], ours()),
            "sftp": (["sftp", "-q", "-F", config, "-b", folder / "batch", "h1"], {}),
            "scp": (["scp", "-q", "-F", config, source, f"h1:{target}"], {}),
            "ssh-cat": (["sh", "-c", f"ssh -F {config} h1 'cat > {target}' < {source}"], {}),
        }
        commands = peers.pick(wanted, commands)
        seen: dict[str, list[Sample]] = {name: [] for name in commands}
        for number in range(runs):
            for name in [n for n in commands if n not in wrong]:
                shutil.rmtree(target.parent, ignore_errors=True)
                target.parent.mkdir()
                os.sync()
                try:
                    seen[name].append(measure.run(f"push-{name}", commands[name][0], [host], commands[name][1]))
                    if not filecmp.cmp(source, target, shallow=False):
                        raise Wrong(f"{name}: what arrived is not what was sent")
                except Wrong as error:
                    wrong.add(name)
                    print(f"{error}\n", file=sys.stderr)
                print(f"  run {number + 1} of {runs}, {SIZE >> 20} MiB: {name}", file=sys.stderr, flush=True)
        shutil.rmtree(target.parent, ignore_errors=True)
    tables.title(f"Push of {SIZE >> 20} MiB: seconds, median (range) of {runs} runs")
    rows = []
    for name, samples in seen.items():
        if name in wrong:
            rows.append([name, "WRONG", "-", "-", "-", "-"])
            continue
        ratio = f"{w20.wall(samples) / w20.wall(seen['sftp']):.2f}" if seen.get("sftp") and "sftp" not in wrong else "-"
        cpus = f"{tables.median(s.client_cpu for s in samples)} / {tables.median(s.host_cpu for s in samples)}"
        rows.append(
            [
                name,
                tables.spread([s.wall for s in samples]),
                f"{SIZE / 1e6 / w20.wall(samples):.0f}",
                ratio,
                cpus,
                f"{max(s.peak for s in samples) / 1e6:.0f}",
            ]
        )
    tables.table(["what", "seconds", "MB/s", "x sftp", "CPU client / host", "peak MB"], rows)
    return not wrong


RUNBOOK = """\
schema = 1
name = "push"
inventory = "hosts.toml"

[[step]]
id = "big"
uses = "core/file"
on = "h1"
with = {{ path = "{{{{ host.vars.root }}}}/big/big.bin", source = "{source}", mode = "0644" }}
"""


def big_file() -> Path:
    """Bytes that cannot be compressed, made once."""
    path = STATE / "push.bin"
    if not path.exists() or path.stat().st_size != SIZE:
        with open(path, "wb") as file:
            for part in range(SIZE >> 20):
                file.write(hashlib.shake_128(f"runbook-bench push {part}".encode()).digest(1 << 20))
    return path
