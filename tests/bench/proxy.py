"""A TCP proxy that adds a round-trip time, and counts the round trips that a client waited for.

Both directions hold each piece of data back for half of the time: propagation delay alone, without limits of bandwidth. What is
written on the wire is encrypted, but cause and effect are not: a piece from the client can answer only what was delivered to the client
before, and a piece from the server only what had reached the server. So every piece has a depth: a client's piece is one deeper than
the deepest piece that had been delivered to it, a server's is as deep as the deepest that had been delivered to the server. The depth
of the last answer is the number of flushes that the client, one after another, had to wait for. Requests that are under way side by
side count once.
"""

import asyncio
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class Connection:
    """Depths of one connection."""

    # The deepest piece that has reached the client, and the server.
    client: int = 0
    server: int = 0
    # As `client`, when the server first said that it had let somebody in.
    login: int | None = None
    # Bursts of the client that came after something had reached it.
    flushes: int = 0
    answered: bool = True
    # The client has hung up: it waits for nothing any more.
    over: bool = False


@dataclass
class Proxy:
    """Listens on an address and passes everything on to another port of it. A context manager."""

    address: str
    port: int
    target: int
    round_trip: float
    # The log of the server behind it: it says when a login is over.
    log: Path
    connections: list[Connection] = field(default_factory=list)

    def __enter__(self) -> "Proxy":
        self.restart()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise OSError(f"nothing could listen on {self.address}:{self.port}")
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def restart(self) -> None:
        """Forgets what it counted."""
        self.connections.clear()
        self._position = self.log.stat().st_size

    def round_trips(self) -> tuple[int, int, int]:
        """Round trips until the login, round trips after it, and all bursts of the client after it, summed over connections."""
        login = sum(c.login or 0 for c in self.connections)
        return login, sum(c.client for c in self.connections) - login, sum(c.flushes for c in self.connections) - login

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._accept, self.address, self.port))
        started.set()
        self._loop.run_forever()

    async def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.round_trip)  # That of the TCP handshake, which this machine did by itself.
        server_in, server_out = await asyncio.open_connection(self.address, self.target)
        for writer in (client_out, server_out):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection()
        self.connections.append(connection)
        await asyncio.gather(self._pump(client_in, server_out, connection, True), self._pump(server_in, client_out, connection, False))
        for writer in (client_out, server_out):
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection, from_client: bool) -> None:
        queue: asyncio.Queue = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, depth, data = await queue.get()
                if (wait := due - self._loop.time()) > 0:
                    await asyncio.sleep(wait)
                try:
                    writer.write(data) if data else writer.write_eof()
                except OSError:
                    return
                self._delivered(connection, depth, from_client)
                if not data:
                    return

        delivery = asyncio.ensure_future(deliver())
        data = b"more"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            if from_client:
                depth = connection.client + 1 if data else 0
                connection.over = not data
                if data and connection.answered:
                    connection.flushes, connection.answered = connection.flushes + 1, False
            else:
                depth = connection.server if data else 0
            queue.put_nowait((self._loop.time() + self.round_trip / 2, depth, data))
        await delivery

    def _delivered(self, connection: Connection, depth: int, to_server: bool) -> None:
        if to_server:
            connection.server = max(connection.server, depth)
            return
        if connection.over:
            return
        connection.client, connection.answered = max(connection.client, depth), True
        if connection.login is None and self._let_in(connection):
            connection.login = connection.client

    def _let_in(self, connection: Connection) -> bool:
        with open(self.log, errors="replace") as file:
            file.seek(self._position)
            return file.read().count("Accepted publickey") > self.connections.index(connection)
