"""A hostile caller's connections, over raw sockets and from addresses of their own."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

import uvloop

_BIND_ADDRESS_NO_PORT: Final = 24
_PACE_SECONDS: Final = 0.02
_NICENESS: Final = 10
"""A real one has a machine of its own, so this one takes what the server and the measuring leave."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked.

    Attributes:
        port: The server's port on 127.0.0.1.
        key: The hostile caller's key; empty if it has none.
        connections: How many connections it has.
        addresses: From how many addresses.
    """

    port: int
    key: str
    connections: int
    addresses: int = 1


class Peer:
    """One connection.

    Args:
        swarm: Whose it is.
        connected: The connected socket.
    """

    def __init__(self, swarm: Swarm, connected: socket.socket) -> None:
        self._swarm = swarm
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send bytes, as fast as they are taken."""
        await self._loop.sock_sendall(self._socket, data)
        self._swarm.sent += len(data)

    async def drip(self, data: bytes, rate: float) -> None:
        """Send bytes at a rate a second."""
        step = max(1, int(rate * _PACE_SECONDS))
        for start in range(0, len(data), step):
            await self.send(data[start : start + step])
            await asyncio.sleep(min(step, len(data)) / rate)

    async def receive(self, most: int = 1 << 16) -> bytes:
        """Return what has come; nothing at the end of the connection."""
        return await self._loop.sock_recv(self._socket, most)

    async def wait(self) -> None:
        """Read what comes until the connection ends."""
        with suppress(OSError):
            while await self.receive():
                pass

    def reset(self) -> None:
        """End the connection at once, with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Swarm:
    """All connections of a hostile caller.

    Args:
        target: What is attacked.

    Attributes:
        sent: Bytes sent so far.
        most: The most connections at a time.
    """

    def __init__(self, target: Target) -> None:
        self.port: Final = target.port
        self.connections: Final = target.connections
        self.key: Final = f"X-API-Key: {target.key}\r\n".encode() if target.key else b""
        self.sent = self.most = 0
        self._open = 0
        self._addresses = itertools.cycle([f"127.6.6.{1 + n}" for n in range(target.addresses)])

    def head(self, line: str, *headers: str) -> bytes:
        """Return a head with the caller's key, if it has one."""
        return b"".join(
            (
                f"{line} HTTP/1.1\r\nHost: x\r\n".encode(),
                self.key,
                *(f"{one}\r\n".encode() for one in headers),
                b"\r\n",
            )
        )

    @asynccontextmanager
    async def connect(self, buffer: int | None = None) -> AsyncIterator[Peer]:
        """Open a connection for a block.

        Args:
            buffer: Bytes of its receive buffer.
        """
        with socket.socket() as own:
            if buffer is not None:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            own.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own.setblocking(False)
            own.bind((next(self._addresses), 0))
            await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self.port))
            self._open += 1
            self.most = max(self.most, self._open)
            try:
                yield Peer(self, own)
            finally:
                self._open -= 1

    async def each(
        self,
        one: Callable[[Peer], Awaitable[object]],
        *,
        count: int = 0,
        buffer: int | None = None,
        every: float = 0.0,
    ) -> None:
        """Have many connections do the same, again and again on a new one once it has ended.

        Args:
            one: What a connection does.
            count: How many connections; `connections` if not given.
            buffer: Bytes of their receive buffers.
            every: The least seconds between two connections in one's place.
        """

        async def again(number: int) -> None:
            await asyncio.sleep(number / 4000)  # as fast as a server with one accept queue can take them
            while True:
                pause = asyncio.create_task(asyncio.sleep(every))
                with suppress(OSError):
                    async with self.connect(buffer) as peer:
                        await one(peer)
                await pause

        async with asyncio.TaskGroup() as group:
            for number in range(count or self.connections):
                group.create_task(again(number))


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attack cost its caller.

    Attributes:
        sent: Bytes sent.
        connections: The most connections at a time.
    """

    sent: int
    connections: int


Attack = Callable[[Swarm], Coroutine[Any, Any, None]]


class Attacker:
    """A process that attacks, from `start` to `stop`.

    Args:
        attack: What it does.
        target: What is attacked.
    """

    def __init__(self, attack: Attack, target: Target) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_attack, args=(attack, target, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def start(self) -> None:
        """Begin."""
        assert self._pipe.recv() == "ready"
        self._pipe.send("begin")

    def cost(self) -> Cost:
        """Return what it has cost so far."""
        self._pipe.send("cost")
        found: Cost = self._pipe.recv()
        return found

    def stop(self) -> None:
        """End it, with all its connections."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _attack(attack: Attack, target: Target, pipe: Pipe) -> None:
    """Attack until killed: the process."""
    os.nice(_NICENESS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_attack_and_tell(attack, Swarm(target), pipe))


async def _attack_and_tell(attack: Attack, swarm: Swarm, pipe: Pipe) -> None:
    pipe.send("ready")
    pipe.recv()

    def tell() -> None:
        try:
            pipe.recv()
        except EOFError:
            os._exit(0)
        pipe.send(Cost(swarm.sent, swarm.most))

    asyncio.get_running_loop().add_reader(pipe.fileno(), tell)
    await attack(swarm)
