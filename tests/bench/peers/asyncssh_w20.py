"""asyncssh_w20.py SET: W20 by hand in one process, one connection for each host, one exec channel for each step."""

import asyncio
import hashlib
import json
import re
import sys
from pathlib import Path

import asyncssh

SET = Path(sys.argv[1])
FUNCTIONS = dict((m[1], m[0]) for m in re.finditer(r"^(\w+)\(\) \{.*?^\}$", Path(__file__).with_name("lib.sh").read_text(), re.S | re.M))
TEMPLATES = {n: (SET / f"files/t{n}.conf.j2").read_text() for n in range(1, 7)}
PAYLOAD = (SET / "files/payload.bin").read_bytes()


async def apply(host: dict) -> None:
    app, etc = f"{host['root']}/app", f"{host['root']}/etc"
    values = dict(host_name=host["name"], host_idx=host["index"], env="prod", app_port=8443, workers=12, db_host="db01.internal")
    said = []
    async with asyncssh.connect(
        host["address"],
        host["port"],
        username="root",
        client_keys=[host["key"]],
        known_hosts=host["known_hosts"],
        config=None,
        agent_path=None,
    ) as connection:

        async def step(command: str, data: bytes = b"") -> str:
            """A function of lib.sh with its arguments."""
            script = FUNCTIONS.get(command.split()[0], "") + "\n" + command
            result = await connection.run(script, input=data, encoding=None, check=True)
            said.append(result.stdout.decode().strip())
            return said[-1]

        await step(f"dir {app} 755 root root")
        await step(f"dir {app}/conf 750 root adm")
        await step(f"dir {app}/data 700 nobody nogroup")
        await step(f"dir {app}/log 775 root adm")
        for n, text in TEMPLATES.items():
            for name, value in values.items():
                text = text.replace("{{ %s }}" % name, str(value))
            await step(f"put {app}/conf/t{n}.conf " + ("644 root root" if n < 4 else "640 root adm"), text.encode())
        await step(f"replace {etc}/app.conf '^MaxConnections ' 'MaxConnections 512'")
        await step(f"append {etc}/hosts '10.0.0.7 db01.internal'")
        await step(f"block {etc}/profile BENCH 'export APP_PORT=8443\nexport APP_ENV=prod'")
        if await step(f"same {app}/data/payload.bin 644 root root {hashlib.sha256(PAYLOAD).hexdigest()}") != "ok":
            await step(f"put {app}/data/payload.bin 644 root root", PAYLOAD)
        await step(f"creates {app}/data/payload.sha256 'cd {app}/data && sha256sum payload.bin > payload.sha256'")
        await step(f"creates {app}/data/generated.txt 'tr a-z A-Z < {app}/conf/t1.conf > {app}/data/generated.txt'")
        await step(f"link {app}")
        await step(f"creates {app}/data/lines.txt 'cat {app}/conf/*.conf | sort -u | wc -l > {app}/data/lines.txt'")
        if await step(f"cat {app}/data/svc.state 2>/dev/null || echo stopped") != "running":
            await step(f"echo running > {app}/data/svc.state; echo changed")
    print(host["name"], f"steps={len(said)} changed={said.count('changed')}")


async def main() -> None:
    await asyncio.gather(*(apply(host) for host in json.loads((SET / "hosts.json").read_text())))


asyncio.run(main())
