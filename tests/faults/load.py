"""Load from a process of its own, over raw sockets that are kept open: what a caller sees, and when.

An open loop sends each request when it is due, whatever became of those before, and counts from then: a
server that stalls is not spared the requests that would have come meanwhile. An answer is looked for while a
request is still being sent, and ends the sending.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from random import Random
from types import TracebackType
from typing import Final, Self, cast

import orjson
import uvloop

KEPT_BYTES: Final = 4096
PIECE_BYTES: Final = 1 << 17
PRIORITY: Final = -10
"""The generator's, where it may have it: what it does is little, but must be done in time."""
PATIENCE: Final = 60.0
"""Seconds that outstanding requests are waited for at the end."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        name: What it is.
        head: The request line and the headers.
        body: What follows.
        cut: After how many bytes the caller hangs up; None if it waits for the answer.
    """

    name: str
    head: bytes
    body: bytes = b""
    cut: int | None = None


def post(
    target: str, body: bytes, media: str = "application/x-npy", name: str = "", **headers: object
) -> Request:
    """A request with a body; headers with underscores for hyphens."""
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", f"Content-Type: {media}"]
    lines += [f"Content-Length: {len(body)}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return Request(name or target, "\r\n".join([*lines, "", ""]).encode(), body)


@dataclass(frozen=True, slots=True)
class Plan:
    """What load is put on.

    Attributes:
        port: Of 127.0.0.1.
        requests: What is sent, in turn, or drawn at random if there is a seed; none for those of the plan
            before, which need not be handed over again.
        rate: So many a second, in an open loop; or
        at_once: so many at any time, in a closed loop.
        count: How many; None for as many as there are
        seconds: in so long; None for until it is stopped.
        seed: Decides which are sent; None for all in turn.
    """

    port: int
    requests: Sequence[Request]
    rate: float = 0.0
    at_once: int = 1
    count: int | None = None
    seconds: float | None = None
    seed: int | None = None


@dataclass(slots=True)
class Shot:
    """What came of a request; times by time.monotonic(), 0 for never.

    Attributes:
        name: The request's.
        due: When it was to be sent.
        fired: When the generator came to that.
        sent: When its headers were sent.
        whole: When its last byte had been given to the kernel.
        first: When the answer's first byte came.
        done: When its last byte came, or the connection ended.
        status: Of the answer; 0 without one.
        headers: Of the answer, names in lower case.
        answer: The first bytes of the answer's body.
        broken: Why there is no answer: ``refused``, ``reset``, ``closed``, ``silent``, or ``hung up`` if the
            caller did.
    """

    name: str
    due: float
    fired: float = 0.0
    sent: float = 0.0
    whole: float = 0.0
    first: float = 0.0
    done: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""
    broken: str = ""

    @property
    def seconds(self) -> float:
        """How long the caller waited, from when it wanted to send."""
        return self.done - self.due

    @property
    def figures(self) -> tuple[object, object]:
        """The loss and the sum, as they are written: equal texts are equal bits."""
        said = orjson.loads(self.answer)
        return said["loss"], said["sum"]

    @property
    def code(self) -> str:
        """What became of it, in a word."""
        if not self.status:
            return self.broken
        return "ok" if self.status == 200 else str(orjson.loads(self.answer).get("code", self.status))


class Load:
    """A process that puts load on a server, for as long as a ``with`` block lasts."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_generate, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, plan: Plan) -> None:
        """Begin."""
        self._pipe.send(plan)
        assert self._pipe.recv() == "begun"

    def finish(self, *, stop: bool = False) -> list[Shot]:
        """Wait for the end, or bring it about, and for the answers that are due."""
        if stop:
            self._pipe.send("stop")
        shots: list[Shot] = self._pipe.recv()
        return shots

    def run(self, plan: Plan) -> list[Shot]:
        """All of a plan that ends by itself."""
        self.start(plan)
        return self.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # which ends it, whatever it does
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _generate(pipe: Pipe) -> None:
    """The process: a plan in, its shots out, until the pipe is closed."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    requests: Sequence[Request] = ()
    try:
        while True:
            plan: Plan = pipe.recv()
            requests = plan.requests or requests
            shots = uvloop.run(_Generator(replace(plan, requests=requests), pipe).run())
            os.set_blocking(pipe.fileno(), True)  # which the event loop had changed
            pipe.send(shots)
    except (EOFError, ConnectionError):
        return


class _Generator:
    def __init__(self, plan: Plan, pipe: Pipe) -> None:
        self._plan = plan
        self._pipe = pipe
        self._shots: list[Shot] = []
        self._idle: list[_Connection] = []
        self._stopped = asyncio.Event()

    async def run(self) -> list[Shot]:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._stop)
        self._pipe.send("begun")
        await (self._open_loop() if self._plan.rate else self._closed_loop())
        loop.remove_reader(self._pipe.fileno())
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)
        return self._shots

    def _stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._stopped.set()
        try:
            self._pipe.recv()
        except (EOFError, ConnectionError):  # nobody waits for this any more
            os._exit(0)

    def _drawn(self) -> Iterator[Request]:
        """The plan's requests, up to its count and until its end."""
        plan, random = self._plan, Random(self._plan.seed)
        ends = None if plan.seconds is None else time.monotonic() + plan.seconds
        number = 0
        while number != plan.count and not self._stopped.is_set():
            if ends is not None and time.monotonic() >= ends:
                return
            yield (
                plan.requests[number % len(plan.requests)]
                if plan.seed is None
                else random.choice(plan.requests)
            )
            number += 1

    async def _open_loop(self) -> None:
        began = time.monotonic()
        tasks = set()
        for number, request in enumerate(self._drawn()):
            due = began + number / self._plan.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._fire(request, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)

    async def _closed_loop(self) -> None:
        drawn = self._drawn()

        async def one_after_the_other() -> None:
            for request in drawn:
                await self._fire(request, time.monotonic())

        await asyncio.gather(*(one_after_the_other() for _ in range(self._plan.at_once)))

    async def _fire(self, request: Request, due: float) -> None:
        shot = Shot(request.name, due, time.monotonic())
        self._shots.append(shot)
        connection = self._connection()
        if connection is None:
            try:
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, "127.0.0.1", self._plan.port
                )
            except OSError:
                shot.broken, shot.done = "refused", time.monotonic()
                return
        try:
            async with asyncio.timeout(PATIENCE):
                await connection.ask(request, shot)
        except TimeoutError:
            shot.broken, shot.done = "silent", time.monotonic()
            connection.close()
        if connection.kept:
            self._idle.append(connection)

    def _connection(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.kept:
                return connection
        return None


class _Connection(asyncio.Protocol):
    """A connection, for one request at a time.

    Attributes:
        kept: It can be asked again.
    """

    def __init__(self) -> None:
        self.kept = False
        self._transport: asyncio.Transport | None = None
        self._shot: Shot | None = None
        self._answered: asyncio.Future[None] | None = None
        self._received = bytearray()
        self._left = -1  # bytes of the answer's body that are still to come; -1 before its headers
        self._writable = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # so that it is told when all has been sent

    async def ask(self, request: Request, shot: Shot) -> None:
        """Send a request, and wait for what comes of it."""
        assert self._transport is not None
        self.kept = False
        self._shot, self._answered = shot, asyncio.get_running_loop().create_future()
        self._received.clear()
        self._left = -1
        self._writable.set()
        shot.sent = time.monotonic()
        if request.cut is not None:
            self._transport.write((request.head + request.body)[: request.cut])
            await asyncio.sleep(0.001)
            if self._shot is not None:  # else it has been refused
                self._end("hung up")
            self.close()
            return
        self._transport.write(request.head)
        await self._send(request.body, shot)
        await self._answered

    async def _send(self, body: bytes, shot: Shot) -> None:
        """Send a body piece by piece, until it is sent or something has come back."""
        assert self._transport is not None
        view = memoryview(body)
        for start in range(0, len(body), PIECE_BYTES):
            if shot.first or shot.done:
                return
            self._transport.write(view[start : start + PIECE_BYTES])
            await asyncio.sleep(0)
            await self._writable.wait()
        shot.whole = time.monotonic()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        shot = self._shot
        if shot is None:
            return
        shot.first = shot.first or time.monotonic()
        self._received += data
        if self._left < 0:
            head, blank, rest = bytes(self._received).partition(b"\r\n\r\n")
            if not blank:
                return
            self._read_head(shot, head.decode("latin-1"))
            self._received[:] = rest
            data = rest
        self._left -= len(data)
        del self._received[KEPT_BYTES:]
        if self._left <= 0:
            self._finish(shot)

    def connection_lost(self, error: Exception | None) -> None:
        self.kept = False
        if self._shot is not None:
            self._end("closed" if error is None else "reset")

    def close(self) -> None:
        """Let go of it."""
        self.kept = False
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self, shot: Shot, head: str) -> None:
        line, *fields = head.split("\r\n")
        shot.status = int(line.split()[1])
        shot.headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        self._left = int(shot.headers["content-length"])  # every short answer has one

    def _finish(self, shot: Shot) -> None:
        assert self._transport is not None
        shot.answer = bytes(self._received)
        self._end("")
        if shot.whole and shot.headers.get("connection", "").lower() != "close":
            self.kept = True
        else:
            self._transport.abort()  # what is still unsent is not sent

    def _end(self, broken: str) -> None:
        assert self._shot is not None
        assert self._answered is not None
        self._shot.broken, self._shot.done = broken, time.monotonic()
        self._writable.set()
        if broken:
            self._shot.status = 0
        self._shot = None
        if not self._answered.done():
            self._answered.set_result(None)
