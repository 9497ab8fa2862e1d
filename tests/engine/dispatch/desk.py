"""A pool of two workers that are sockets, whose other ends a test holds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, socket_pair
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.engine.ipc.messages import (
    FromFrontEnd,
    FromWorker,
    Ready,
    Slice,
    WorkerGone,
    WorkerStarted,
    decode_from_front_end,
    encode,
)


class Worker:
    """A worker's end."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.setblocking(False)

    def hear(self) -> list[FromFrontEnd]:
        found: list[FromFrontEnd] = []
        with suppress(BlockingIOError):
            while data := self.link.recv(MAX_MESSAGE_BYTES):
                found.append(decode_from_front_end(data))
        return found

    def slices(self) -> list[Slice]:
        return [message for message in self.hear() if isinstance(message, Slice)]

    def say(self, message: FromWorker) -> None:
        self.link.send(encode(message))


class Desk:
    """A pool of two workers, on two devices of a kind."""

    def __init__(self, memory: Memory, elements: int) -> None:
        self.memory = memory
        self.supervisor, control = socket_pair()
        self.pool = WorkerPool(memory, control, 2, elements)
        self.workers: list[Worker] = []

    async def start_worker(self, number: int, *, failures: int = 0) -> Worker:
        ours, theirs = socket_pair()
        message = encode(WorkerStarted(number, f"cuda:{number}", 100 + number, failures))
        socket.send_fds(self.supervisor, [message], [ours.fileno()])
        ours.close()
        worker = Worker(theirs)
        worker.say(Ready("torch", f"cuda:{number}", "2", "x"))
        await turns()
        return worker

    async def end_worker(self, number: int, running: int | None) -> None:
        self.workers[number].link.close()
        await turns()
        self.supervisor.send(encode(WorkerGone(number, 100 + number, -9, running)))
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0.001)


def run(test: Callable[[Desk], Awaitable[None]], *, arena: int, elements: int = 64) -> None:
    """Run a test beside a pool of two workers.

    Args:
        test: The test.
        arena: Bytes of the arena.
        elements: Most elements of a slice.
    """

    async def main() -> None:
        fd = create_memory(arena)
        desk = Desk(Memory(fd, arena), elements)
        try:
            desk.workers = [await desk.start_worker(number) for number in range(2)]
            async with asyncio.timeout(20):
                await test(desk)
        finally:
            desk.pool.close()
            desk.supervisor.close()
            for worker in desk.workers:
                worker.link.close()
            os.close(fd)

    asyncio.run(main())
