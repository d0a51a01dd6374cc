"""Looks for powers that nobody gave it."""

import os
import random
import socket
import subprocess
import time
import uuid

from runbook_sdk import Machine, Plugin

plugin = Plugin()


@plugin.converge("ambient")
def ambient(inputs):
    attempts = {
        "read": lambda: open("/etc/hostname").read(),
        "read relative": lambda: open("plugin.py").read(),
        "list": lambda: os.listdir("/"),
        "list here": lambda: os.listdir("."),
        "write": lambda: open("/tmp/probe-python-was-here", "w").write("x"),
        "connect": lambda: socket.create_connection(("127.0.0.1", 22), timeout=1),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53)),
        "look up": lambda: socket.getaddrinfo("localhost", 22),
        "run": lambda: subprocess.run(["true"]),
        "standard input": lambda: os.read(0, 1) or None,
    }
    reached = {
        name: repr(found) for name, found in ((name, trial(attempt)) for name, attempt in attempts.items()) if found
    }
    reached |= {f"variable {name}": value for name, value in os.environ.items()}
    return reached


def trial(attempt):
    try:
        return attempt()
    except Exception:
        return None


@plugin.converge("chance")
def chance(inputs):
    files = Machine.target("host").files
    if files.stat(inputs["path"]) is None:
        drawn = [time.time(), random.random(), os.urandom(8).hex(), str(uuid.uuid4())]
        files.file(inputs["path"], " ".join(map(str, drawn)) + "\n")


@plugin.converge("mistake")
def mistake(inputs):
    return {}["nothing"]


@plugin.converge("memory")
def memory(inputs):
    kept = []
    while True:
        kept.append(bytes(1 << 20))
