"""Where things are: the project, and the benchmark's own folder outside of it."""

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent
PROJECT = BENCH.parent.parent
PEERS = BENCH / "peers"
# Everything that is generated: keys, hosts, journals, logs, the peers' virtual environments.
STATE = Path(os.environ.get("RUNBOOK_BENCH") or Path.home() / ".cache/runbook-bench").absolute()
LOGS = STATE / "logs"


class Wrong(Exception):
    """Something that makes a measurement worthless. It is printed, in place of a number."""


def built() -> Path:
    """RUNBOOK_BENCH_BIN, else the release build, which is built where it is missing."""
    named = os.environ.get("RUNBOOK_BENCH_BIN")
    binary = Path(named).absolute() if named else PROJECT / "target/release/runbook"
    if not binary.exists():
        if named:
            raise Wrong(f"RUNBOOK_BENCH_BIN: there is no {binary}")
        if subprocess.run(["cargo", "build", "--release", "-p", "runbook-cli"], cwd=PROJECT).returncode:
            raise Wrong("`cargo build --release -p runbook-cli` failed")
    return binary


@functools.cache
def program() -> Path:
    """The `runbook` that is measured: a copy, as a build that ends in the middle would put two programs into one table."""
    copy = STATE / "runbook"
    copy.unlink(missing_ok=True)
    shutil.copy2(built(), copy)
    return copy


def version() -> str:
    """Which program that is."""
    return f"runbook {hashlib.sha256(program().read_bytes()).hexdigest()[:12]}"


def ours() -> dict[str, str]:
    """The environment of `runbook`: journals beside the other state, on a real disk; a component cache of its own, which stays warm."""
    return {
        "XDG_STATE_HOME": str(STATE / "xdg/state"),
        "XDG_CACHE_HOME": str(STATE / "xdg/cache"),
        "XDG_CONFIG_HOME": str(STATE / "xdg/config"),
    }
