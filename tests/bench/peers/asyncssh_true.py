"""asyncssh_true.py SET N: one connection, and N times one exec channel with `true`."""

import asyncio
import json
import sys
from pathlib import Path

import asyncssh

host = json.loads(Path(sys.argv[1], "hosts.json").read_text())[0]


async def main() -> None:
    async with asyncssh.connect(
        host["address"],
        host["port"],
        username="root",
        client_keys=[host["key"]],
        known_hosts=host["known_hosts"],
        config=None,
        agent_path=None,
    ) as connection:
        for _ in range(int(sys.argv[2])):
            await connection.run("true", check=True)


asyncio.run(main())
