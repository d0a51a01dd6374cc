"""Hosts: real OpenSSH servers on loopback addresses, each with a directory that stands for its file system."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cpu
from places import STATE, Wrong

PORT = int(os.environ.get("RUNBOOK_BENCH_PORT") or 2222)
CLIENT_KEY = STATE / "keys/client"


@dataclass(frozen=True)
class Server:
    """One sshd process, on up to 16 addresses (more it does not take)."""

    name: str
    addresses: tuple[str, ...]
    environment: str = ""

    @property
    def dir(self) -> Path:
        return STATE / "sshd" / self.name

    @property
    def log(self) -> Path:
        return self.dir / "log"

    def pid(self) -> int | None:
        """Its process id while it runs. A number in a file may by now belong to another process: the command line tells."""
        try:
            pid = int((self.dir / "pid").read_text())
            return pid if str(self.dir / "config").encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else None
        except (OSError, ValueError):
            return None

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self.dir.mkdir(parents=True, exist_ok=True)
        key(CLIENT_KEY)
        key(self.dir / "key")
        listen = "".join(f"ListenAddress {a}:{PORT}\n" for a in self.addresses)
        (self.dir / "config").write_text(f"{listen}{self.environment}{SSHD_CONFIG}".format(dir=self.dir, client=CLIENT_KEY))
        self.log.write_text("")
        Path("/run/sshd").mkdir(exist_ok=True)
        subprocess.run([sshd(), "-f", self.dir / "config", "-E", self.log], check=True)
        for address in self.addresses:
            listening(address, PORT, self.log)
        cpu.adopt(self.pid())

    def stop(self) -> None:
        pid = self.pid()
        if pid is None:
            return
        children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for process in [pid, *children]:
            try:
                os.kill(process, signal.SIGTERM)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 5
        while self.pid() and time.monotonic() < deadline:
            time.sleep(0.01)


SSHD_CONFIG = """\
HostKey {dir}/key
PidFile {dir}/pid
AuthorizedKeysFile {client}.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
GSSAPIAuthentication no
StrictModes no
UsePAM no
UseDNS no
X11Forwarding no
PrintMotd no
PrintLastLog no
MaxStartups 2000:30:4000
MaxSessions 2000
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Host:
    """A host as clients see it."""

    name: str
    index: int
    address: str
    port: int
    server: Server
    root: Path


def w20_host(index: int) -> Host:
    """The host `hN`: an sshd of its own, which gives its sessions $HOSTROOT and a home directory."""
    root = STATE / f"hosts/{index}"
    address = f"127.0.1.{index}"
    # What a run leaves notes in is a host's own, as its files are, in a folder that is there, as /var/lib is.
    own = f"HOSTROOT={root} HOME={root}/home XDG_STATE_HOME={root}/home"
    server = Server(f"h{index}", (address,), f"SetEnv {own}\n")
    return Host(f"h{index}", index, address, PORT, server, root)


def machines(count: int) -> list[Host]:
    """The hosts h1 to hCOUNT, which may be down."""
    if not 1 <= count <= 250:
        raise Wrong("from 1 to 250 hosts")
    hosts = [w20_host(i) for i in range(1, count + 1)]
    for host in hosts:
        (host.root / "home").mkdir(parents=True, exist_ok=True)
    return hosts


@contextmanager
def up(count: int):
    """The hosts h1 to hCOUNT. Those that were down before are stopped at the end."""
    hosts = machines(count)
    with running([h.server for h in hosts]):
        yield hosts


@contextmanager
def running(servers: list[Server]):
    """These servers, of which those that were down before are stopped at the end."""
    started = []
    try:
        for server in servers:
            if server.pid() is None:
                started.append(server)
                server.start()
            else:
                cpu.adopt(server.pid())
        yield
    finally:
        for server in started:
            server.stop()


def down() -> int:
    """Stops every server of this folder. Returns how many."""
    servers = [Server(d.name, ()) for d in (STATE / "sshd").glob("*") if Server(d.name, ()).pid()]
    for server in servers:
        server.stop()
    return len(servers)


def through(host: Host, port: int) -> Host:
    """The same host behind a proxy on another port."""
    return replace(host, port=port)


def write_inventories(folder: Path, hosts: list[Host], label: str) -> None:
    """Writes what the tools know of the hosts: all of them have the hosts' keys beforehand and check them."""
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "known_hosts"
    keys = {h.server.name: " ".join((h.server.dir / "key.pub").read_text().split()[:2]) for h in hosts}
    known.write_text("".join(f"[{h.address}]:{h.port} {keys[h.server.name]}\n" for h in hosts))
    (folder / "hosts.toml").write_text("".join(HOSTS_TOML.format(h=h, key=CLIENT_KEY, known=known, label=label) for h in hosts))
    (folder / "ssh_config").write_text(
        "".join(f"Host {h.name}\n  HostName {h.address}\n  Port {h.port}\n" for h in hosts) + SSH_CONFIG.format(key=CLIENT_KEY, known=known)
    )
    (folder / "hosts.ini").write_text(
        "[bench]\n"
        + "".join(f"{h.name} ansible_host={h.address} ansible_port={h.port} hostroot={h.root} host_idx={h.index}\n" for h in hosts)
        + f"\n[bench:vars]\nansible_user=root\nansible_ssh_private_key_file={CLIENT_KEY}\n"
        + f"ansible_ssh_common_args='-o UserKnownHostsFile={known} -o GSSAPIAuthentication=no'\n"
    )
    table = [
        dict(name=h.name, index=h.index, address=h.address, port=h.port, root=str(h.root), key=str(CLIENT_KEY), known_hosts=str(known))
        for h in hosts
    ]
    (folder / "hosts.json").write_text(json.dumps(table, indent=1))


HOSTS_TOML = """\
[hosts.{h.name}]
address = "{h.address}"
port = {h.port}
user = "root"
identity_file = "{key}"
known_hosts = "{known}"
labels = ["{label}"]
vars = {{ root = "{h.root}", index = {h.index} }}

"""

SSH_CONFIG = """\
Host *
  User root
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  GSSAPIAuthentication no
  BatchMode yes
"""


def key(path: Path) -> None:
    """An ed25519 key, made once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "runbook-bench", "-f", path], check=True)


def sshd() -> str:
    """Where sshd is: it wants to be started by its whole path."""
    found = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Wrong("sshd is missing: apt-get install openssh-server openssh-client")
    return found


def listening(address: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Wrong(f"nothing listens on {address}:{port}; see {log}") from None
            time.sleep(0.02)
