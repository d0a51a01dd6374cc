"""The tools that are compared, and how each is told to carry W20 out."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from places import PEERS, STATE, Wrong, ours, program

# What `--install-peers` installs: the versions that the figures in the README were taken with.
VENVS = {
    "asyncssh": ["asyncssh==2.24.1"],
    "pyinfra": ["pyinfra==3.10.0"],
    "ansible": ["ansible-core==2.19.14", "mitogen==0.3.54"],
}
SOCKETS = STATE / "sockets"


@dataclass(frozen=True)
class Tool:
    """A tool: the program that has to be there, and its command line for a set of hosts."""

    name: str
    needs: Path | None
    command: Callable[[Path, int], list]
    env: Callable[[Path, int], dict[str, str]] = lambda folder, count: {}

    def installed(self) -> bool:
        return self.needs is None or self.needs.exists()


def venv(name: str, binary: str = "python") -> Path:
    return STATE / f"venv-{name}/bin/{binary}"


def ansible(playbook: Path, folder: Path, count: int) -> list:
    return [venv("ansible", "ansible-playbook"), "-i", folder / "hosts.ini", "-f", count, playbook, "-e", f"files={folder}/files"]


def ansible_env(strategy: str) -> dict[str, str]:
    """Ansible at its best: pipelining, persistent connections, no facts, a known interpreter, and (by `-f`) a fork for each host."""
    home = STATE / "ansible"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    SOCKETS.mkdir(parents=True, exist_ok=True)
    # Empty: what counts is below, and no other file is to be found.
    (home / "ansible.cfg").write_text("")
    env = {
        "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(SOCKETS),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s -o PreferredAuthentications=publickey",
        "ANSIBLE_NOCOLOR": "1",
    }
    if strategy == "mitogen":
        site = next(STATE.glob("venv-ansible/lib/python3*/site-packages"))
        env |= {"ANSIBLE_STRATEGY_PLUGINS": str(site / "ansible_mitogen/plugins/strategy"), "ANSIBLE_STRATEGY": "mitogen_linear"}
    return env


def pyinfra(deploy: str) -> list:
    return [venv("pyinfra", "pyinfra"), "-y", PEERS / "pyinfra_hosts.py", PEERS / deploy]


def pyinfra_env(folder: Path, steps: int = 0) -> dict[str, str]:
    return {"SET": str(folder), "STEPS": str(steps), "PYTHONDONTWRITEBYTECODE": "1"}


# Commands and environments are functions of the folder that `workload.prepare` made, and of the number of hosts.
TOOLS = {
    tool.name: tool
    for tool in (
        Tool("runbook", None, lambda folder, n: [program(), "exec", folder / "w20.toml"], lambda folder, n: ours()),
        Tool("floor", None, lambda folder, n: [PEERS / "floor.sh", folder, n]),
        Tool("asyncssh", venv("asyncssh"), lambda folder, n: [venv("asyncssh"), PEERS / "asyncssh_w20.py", folder]),
        Tool("bash-cm", None, lambda folder, n: [PEERS / "bash-cm.sh", folder, n], lambda folder, n: {"SOCKETS": str(SOCKETS)}),
        Tool("pyinfra", venv("pyinfra"), lambda folder, n: pyinfra("pyinfra_w20.py"), lambda folder, n: pyinfra_env(folder)),
        *(
            Tool(
                name,
                venv("ansible"),
                lambda folder, n: ansible(PEERS / "ansible_w20.yml", folder, n),
                lambda folder, n, name=name: ansible_env(name),
            )
            for name in ("mitogen", "ansible-tuned")
        ),
    )
}


def pick(wanted: str | None, available: dict[str, Any]) -> dict[str, Any]:
    """Those of the available things that are wanted (NAME,NAME), else all."""
    names = wanted.split(",") if wanted else list(available)
    for name in names:
        if name not in available:
            raise Wrong(f"there is no {name!r} here; there are {', '.join(available)}")
    return {name: available[name] for name in names}


def chosen(wanted: str | None) -> list[Tool]:
    """The tools of these names, else all; those that are not installed are left out, and named."""
    tools = list(pick(wanted, TOOLS).values())
    missing = [t.name for t in tools if not t.installed()]
    if missing:
        print(f"Left out, as they are not installed (`tests/bench/run --install-peers`): {', '.join(missing)}\n", flush=True)
    return [t for t in tools if t.installed()]


def close_masters() -> None:
    """Ends ssh masters that a tool left behind, so that every run begins without a connection."""
    for path in SOCKETS.glob("*"):
        subprocess.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "x"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path.unlink(missing_ok=True)


def install() -> None:
    """Installs the peers into virtual environments of the benchmark's folder."""
    for name, packages in VENVS.items():
        if not venv(name).exists():
            subprocess.run([sys.executable, "-m", "venv", STATE / f"venv-{name}"], check=True)
        subprocess.run([venv(name), "-m", "pip", "install", "-q", *packages], check=True)
        print(f"{name}: {', '.join(packages)}", flush=True)
