"""W20: its files, what a fresh host looks like, and what every host has to look like afterwards."""

import grp
import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path

import hosts as bench_hosts
from hosts import Host
from places import BENCH, STATE, Wrong

PAYLOAD = hashlib.shake_128(b"runbook-bench payload").digest(1 << 20)
TEMPLATES = range(1, 7)
# Bytes of the six templates, about.
_SIZES = (1024, 2048, 3072, 4096, 6144, 8192)
_WORDS = (
    "queue",
    "leader",
    "journal",
    "shard",
    "retry",
    "buffer",
    "commit",
    "thread",
    "region",
    "socket",
    "quorum",
    "replica",
    "backoff",
    "cache",
    "listen",
    "worker",
)
_HEAD = """\
# managed file t{n} for {{{{ host_name }}}} ({{{{ env }}}})
listen = 0.0.0.0:{{{{ app_port }}}}
workers = {{{{ workers }}}}
db = {{{{ db_host }}}}
index = {{{{ host_idx }}}}
"""


def template(n: int) -> str:
    """The n-th template: settings, every ninth of which uses a variable. The same text on every machine."""
    text, line = _HEAD.format(n=n), 0
    noise = iter(hashlib.shake_128(f"runbook-bench t{n}".encode()).digest(8192))
    while len(text) < _SIZES[n - 1]:
        line += 1
        a, b, c = (_WORDS[next(noise) % 16] for _ in range(3))
        text += f"{a}_{b}_{line} = {next(noise) * 256 + next(noise)}  ; {c}" + (
            " on {{ host_name }}:{{ app_port }}\n" if line % 9 == 0 else "\n"
        )
    return text


def rendered(n: int, host: Host) -> str:
    values = dict(host_name=host.name, host_idx=host.index, env="prod", app_port=8443, workers=12, db_host="db01.internal")
    text = template(n)
    for name, value in values.items():
        text = text.replace("{{ %s }}" % name, str(value))
    return text


def prepare(name: str, hosts: list[Host]) -> Path:
    """A folder with the runbook, its files and the inventories of all tools."""
    folder = STATE / "sets" / name
    (folder / "files").mkdir(parents=True, exist_ok=True)
    for n in TEMPLATES:
        (folder / f"files/t{n}.conf.j2").write_text(template(n))
    (folder / "files/payload.bin").write_bytes(PAYLOAD)
    shutil.copy(BENCH / "w20.toml", folder / "w20.toml")
    bench_hosts.write_inventories(folder, hosts, "w20")
    return folder


def _seed() -> dict[str, str]:
    """Files of a fresh host that the steps edit."""
    return {
        "etc/app.conf": "".join(f"# comment line {k}\nOption{k} value{k}\n" for k in range(1, 41)) + "MaxConnections 100\n",
        "etc/hosts": "127.0.0.1 localhost\n" + "".join(f"10.1.0.{k} node{k}.internal\n" for k in range(1, 31)),
        "etc/profile": "# /etc/profile\n" + "".join(f"export VAR{k}={k}\n" for k in range(1, 31)),
    }


def reset(hosts: list[Host]) -> None:
    """Makes the hosts fresh."""
    for host in hosts:
        for name in ("app", "etc", "big", "home"):
            shutil.rmtree(host.root / name, ignore_errors=True)
        for path, text in _seed().items():
            (host.root / path).parent.mkdir(exist_ok=True)
            (host.root / path).write_text(text)
            (host.root / path).chmod(0o644)
        (host.root / "home").mkdir(mode=0o700)
    os.sync()


def expected(host: Host) -> list[str]:
    """The manifest that the 20 steps lead to."""
    conf = {n: rendered(n, host) for n in TEMPLATES}
    seed = _seed()
    sums = f"{hashlib.sha256(PAYLOAD).hexdigest()}  payload.bin\n"
    lines = len({line for text in conf.values() for line in text.splitlines()})
    upper = "".join(c.upper() if c.isascii() else c for c in conf[1])
    return sorted(
        [
            "app directory 755 root:root",
            "app/conf directory 750 root:adm",
            "app/data directory 700 nobody:nogroup",
            "app/log directory 775 root:adm",
            "app/current link data",
            *(_file(f"app/conf/t{n}.conf", conf[n], *(("644", "root:root") if n < 4 else ("640", "root:adm"))) for n in TEMPLATES),
            _file("app/data/payload.bin", PAYLOAD),
            _file("app/data/payload.sha256", sums),
            _file("app/data/generated.txt", upper),
            _file("app/data/lines.txt", f"{lines}\n"),
            _file("app/data/svc.state", "running\n"),
            "etc directory 755 root:root",
            _file("etc/app.conf", seed["etc/app.conf"].replace("MaxConnections 100", "MaxConnections 512")),
            _file("etc/hosts", seed["etc/hosts"] + "10.0.0.7 db01.internal\n"),
            _file("etc/profile", seed["etc/profile"] + "# BEGIN BENCH\nexport APP_PORT=8443\nexport APP_ENV=prod\n# END BENCH\n"),
        ]
    )


def _file(path: str, content: str | bytes, mode: str = "644", owner: str = "root:root") -> str:
    content = content.encode() if isinstance(content, str) else content
    return f"{path} file {mode} {owner} {hashlib.sha256(content).hexdigest()[:16]}"


def manifest(host: Host) -> list[str]:
    """What is there: kind, mode, owner, target and content of everything below app/ and etc/."""
    found = []
    for top in ("app", "etc"):
        for path in [host.root / top, *(host.root / top).rglob("*")]:
            name, info = str(path.relative_to(host.root)), path.lstat()
            mode = f"{stat.S_IMODE(info.st_mode):o} {pwd.getpwuid(info.st_uid).pw_name}:{grp.getgrgid(info.st_gid).gr_name}"
            if stat.S_ISLNK(info.st_mode):
                found.append(f"{name} link {path.readlink()}")
            elif stat.S_ISDIR(info.st_mode):
                found.append(f"{name} directory {mode}")
            else:
                found.append(f"{name} file {mode} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
    return sorted(found)


def digest(lines: list[str]) -> str:
    """A manifest in a few letters."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check(tool: str, hosts: list[Host]) -> None:
    """Every host is as it has to be."""
    for host in hosts:
        want, have = expected(host), manifest(host) if (host.root / "app").exists() else []
        if want != have:
            differ = [f"  - {line}" for line in want if line not in have] + [f"  + {line}" for line in have if line not in want]
            raise Wrong(f"{tool} left {host.name} in another state ({digest(have)}, not {digest(want)}):\n" + "\n".join(differ[:12]))


def identities(hosts: list[Host]) -> dict[str, tuple[int, int]]:
    """Which files there are, and when each was last written: a second apply must leave this alone."""
    return {
        str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for h in hosts for p in h.root.rglob("*") if p.is_file() and "/home/" not in str(p)
    }
