"""A small team's steady load, probes and large requests: what they see, alone or beside an attack."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from bench.payloads import CLASSES, SMALL, payload

RATE: Final = 20.0
"""Small requests a second on connections that are kept."""
_LARGE_ROWS: Final = 20_000_000 // (8 * CLASSES)
_ARRAY_ROWS: Final = 2_000
_LARGE_SECONDS: Final = 1.0


@dataclass(slots=True)
class Kind:
    """Requests of one kind: the seconds that each took, and what became of those that failed."""

    took: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def p99(self) -> float:
        """The 99th percentile by rank of all that were sent; infinite if that one was not answered."""
        ranked = sorted(self.took) + [math.inf] * self.failed.total()
        return ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))] if ranked else 0.0


@dataclass(slots=True)
class Seen:
    """What was seen of a server.

    Attributes:
        small: 32x80 .npy requests on connections that are kept.
        fresh: The same, each on a new connection.
        probes: /livez and /readyz, each on a new connection.
        admin: The same on the admin listener, if there is one.
        large: Bodies of 20 MB, and array answers.
    """

    small: Kind = field(default_factory=Kind)
    fresh: Kind = field(default_factory=Kind)
    probes: Kind = field(default_factory=Kind)
    admin: Kind = field(default_factory=Kind)
    large: Kind = field(default_factory=Kind)

    def failures(self) -> dict[str, int]:
        """Return what failed, by kind and outcome."""
        names = ("small", "fresh", "probes", "admin", "large")
        return {f"{name} {why}": n for name in names for why, n in getattr(self, name).failed.items()}


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> bytes:
        """Send a request, and return its answer, the head in lower case."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length: ")[2].split(b"\r\n", 1)[0])
        return head + await self._reader.readexactly(length)

    @property
    def ended(self) -> bool:
        """Whether the server has closed it."""
        return self._reader.at_eof()

    def close(self) -> None:
        self._writer.transport.abort()


class Steady:
    """The load.

    Args:
        port: The service's port on 127.0.0.1.
        key: The small team's key; empty without teams.
        tls: How to trust the certificate, if there is one.
        admin: The admin listener's port, if there is one.
        patience: The seconds in which every answer is expected.
    """

    def __init__(
        self,
        port: int,
        key: str,
        *,
        tls: ssl.SSLContext | None = None,
        admin: int | None = None,
        patience: float = 10.0,
    ) -> None:
        self._port = port
        self._tls = tls
        self._admin = admin
        self._patience = patience
        self._key = f"X-API-Key: {key}\r\n" if key else ""
        self._kept: list[_Connection] = []
        self._small = self._post("/focal", SMALL)

    async def run(self, seconds: float, *, large: bool = False) -> Seen:
        """Put the load on the server for some seconds, and wait for its last answers.

        Args:
            seconds: How long requests are sent.
            large: Whether there are large requests too.
        """
        seen = Seen()
        loads = [
            (seen.small, 1 / RATE, self._small),
            (seen.fresh, 1.0, self._small),
            (seen.probes, 0.25, _get("/livez")),
            (seen.probes, 1.0, _get("/readyz")),
        ]
        if self._admin is not None:
            loads += [(seen.admin, 0.25, _get("/livez")), (seen.admin, 1.0, _get("/readyz"))]
        async with asyncio.TaskGroup() as group:
            for kind, every, request in loads:
                group.create_task(self._open_loop(kind, every, request, seconds, seen))
            if large:
                group.create_task(self._large(seconds, seen))
        return seen

    async def ready(self) -> bool:
        """Return whether every /readyz that is answered within a second says that all is well."""
        for port in filter(None, (self._port, self._admin)):
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(1.0):
                    connection = await self._connect(port)
                    try:
                        if b'"ready"' not in await connection.ask(_get("/readyz")):
                            return False
                    finally:
                        connection.close()
        return True

    async def close(self) -> None:
        """Let go of all connections."""
        while self._kept:
            self._kept.pop().close()
        await asyncio.sleep(0)

    async def _open_loop(self, kind: Kind, every: float, request: bytes, seconds: float, seen: Seen) -> None:
        """Send each request when it is due, whatever became of those before."""
        began = time.perf_counter()
        port = self._port if kind is not seen.admin or self._admin is None else self._admin
        async with asyncio.TaskGroup() as group:
            for number in range(math.ceil(seconds / every)):
                due = began + number * every
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._ask(kind, request, due, port, keep=kind is seen.small))

    async def _large(self, seconds: float, seen: Seen) -> None:
        """Send large requests, one after the other."""
        requests = self._post("/bce", _LARGE_ROWS), self._post("/bce?reduction=none", _ARRAY_ROWS)
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            for request in requests:
                await self._ask(seen.large, request, time.perf_counter(), self._port)
            await asyncio.sleep(_LARGE_SECONDS)

    async def _ask(self, kind: Kind, request: bytes, due: float, port: int, *, keep: bool = False) -> None:
        """Send a request, and note what comes of it.

        Args:
            kind: Where it is noted.
            request: The request.
            due: When it was to be sent.
            port: Where it is sent.
            keep: Send it on a connection that was kept, if one is free, and keep that.
        """
        connection = None
        try:
            async with asyncio.timeout(self._patience):
                connection = self._take_kept() if keep else None
                if connection is None:
                    connection = await self._connect(port)
                status = (await connection.ask(request)).split(maxsplit=2)[1].decode()
        except TimeoutError:
            outcome = "silent"
        except (OSError, EOFError) as error:
            outcome = type(error).__name__
        else:
            outcome = "" if status == "200" else status
        if outcome:
            kind.failed[outcome] += 1
        else:
            kind.took.append(time.perf_counter() - due)
        if connection is not None:
            if keep and not outcome:
                self._kept.append(connection)
            else:
                connection.close()

    def _take_kept(self) -> _Connection | None:
        """Return a connection that was kept, and that the server has not closed."""
        while self._kept:
            if not (connection := self._kept.pop()).ended:
                return connection
            connection.close()
        return None

    async def _connect(self, port: int) -> _Connection:
        tls = self._tls if port == self._port else None
        return _Connection(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 24))

    def _post(self, target: str, rows: int) -> bytes:
        body = payload("npy", rows)
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\n{self._key}Content-Type: application/x-npy\r\n"
        if "none" in target:
            head += "Accept: application/x-npy\r\n"
        return f"{head}Content-Length: {len(body.data)}\r\n\r\n".encode() + body.data


def _get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
