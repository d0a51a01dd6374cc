"""Many hosts: how memory and time of one `runbook` grow with them."""

import shutil
import sys

import hosts
import measure
import tables
from hosts import Host, Server
from places import STATE, Wrong, ours, program

STEPS = 20
# As many addresses as one sshd takes.
PER_SERVER = 16


def run(counts: list[int]) -> bool:
    """Measures and prints. False where a run went wrong."""
    rows, wrong = [], False
    for count in counts:
        all_hosts = [fleet_host(i) for i in range(count)]
        servers = sorted({h.server for h in all_hosts}, key=lambda s: s.name)
        with hosts.running(servers):
            folder = STATE / "sets/fleet"
            hosts.write_inventories(folder, all_hosts, "fleet")
            (folder / "fleet.toml").write_text(runbook())
            shutil.rmtree(STATE / "fleet", ignore_errors=True)
            for host in all_hosts:
                host.root.mkdir(parents=True)
            for phase in ("first", "second"):
                print(f"  {count} hosts: {phase} apply", file=sys.stderr, flush=True)
                try:
                    sample = measure.run(f"fleet-{count}-{phase}", [program(), "exec", folder / "fleet.toml"], all_hosts, ours())
                    check(all_hosts)
                except Wrong as error:
                    print(f"{error}\n", file=sys.stderr)
                    rows.append([count, phase, "WRONG", "-", "-", "-", "-", "-"])
                    wrong = True
                    break
                per = sample.wall / count / STEPS * 1e3, sample.client_cpu / count / STEPS * 1e3
                rows.append(
                    [
                        count,
                        phase,
                        f"{sample.wall:.2f}",
                        f"{sample.client_cpu:.2f} / {sample.host_cpu:.2f}",
                        f"{per[0]:.3f}",
                        f"{per[1]:.3f}",
                        f"{sample.peak / 1e6:.0f}",
                        f"{sample.sessions / count:.1f}",
                    ]
                )
        shutil.rmtree(STATE / "fleet", ignore_errors=True)
    tables.title(f"{STEPS} steps on each of many hosts")
    tables.table(
        [
            "hosts",
            "apply",
            "seconds",
            "CPU client / hosts",
            "wall ms per host and step",
            "client CPU ms per host and step",
            "peak MB",
            "sessions per host",
        ],
        rows,
    )
    return not wrong


def fleet_host(index: int) -> Host:
    """A host of the fleet: an address of an sshd process that it shares with others, and a folder."""
    address = lambda i: f"127.2.{i // 200}.{i % 200 + 1}"
    group = index // PER_SERVER
    addresses = tuple(address(i) for i in range(group * PER_SERVER, (group + 1) * PER_SERVER))
    # A home without a ~/.bashrc, which may take longer than all of the steps.
    server = Server(f"fleet-{group}", addresses, f"SetEnv HOME={STATE}/fleet\n")
    return Host(f"f{index}", index, address(index), hosts.PORT, server, STATE / f"fleet/{index}")


def runbook() -> str:
    """Directories, files, lines and commands in turn, five of each."""
    kinds = (
        ("core/directory", 'path = "{root}/d{n}", mode = "0755"'),
        ("core/file", 'path = "{root}/d{n}/file", content = "step {n} on {{{{ host.name }}}}\\n", mode = "0644"'),
        ("core/line", 'path = "{root}/d{n}/lines", match = "^level ", line = "level {n}", create = true'),
        ("core/command", 'argv = ["touch", "{root}/d{n}/done"], creates = "{root}/d{n}/done"'),
    )
    steps = (
        f'[[step]]\nid = "s{i}"\nuses = "{kinds[i % 4][0]}"\non = "fleet"\nwith = {{ '
        + kinds[i % 4][1].format(root="{{ host.vars.root }}", n=i // 4)
        + " }\n\n"
        for i in range(STEPS)
    )
    return 'schema = 1\nname = "fleet"\ninventory = "hosts.toml"\n\n' + "".join(steps)


def check(all_hosts: list[Host]) -> None:
    """Every host has what the steps make, and nothing else."""
    for host in all_hosts:
        have = {str(p.relative_to(host.root)): p.read_text() for p in host.root.rglob("*") if p.is_file()}
        want: dict[str, str] = {}
        for n in range(STEPS // 4):
            want |= {f"d{n}/file": f"step {n} on {host.name}\n", f"d{n}/lines": f"level {n}\n", f"d{n}/done": ""}
        if have != want:
            raise Wrong(f"{host.name} is in another state: {sorted(have.items() ^ want.items())[:4]}")
