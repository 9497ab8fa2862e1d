"""The server's processes that run now: how each is started, and connected with the others."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from lossd.engine.admission.quota_memory import quotas_bytes
from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, socket_pair
from lossd.engine.ipc.counters import COUNTERS_BYTES
from lossd.engine.ipc.heartbeats import NO_HEARTBEAT, Heartbeats, Pulse, heartbeats_bytes
from lossd.engine.ipc.memory import create_memory
from lossd.engine.ipc.messages import FromSupervisor, FrontEndStarted, WorkerGone, WorkerStarted
from lossd.engine.ipc.options import FrontEndOptions, WorkerOptions
from lossd.engine.supervisor.devices import slice_elements, torch_version
from lossd.engine.supervisor.processes import Child, Peer, Role, send, start
from lossd.settings import PAGE, Settings

_MODULES: Final[dict[Role, str]] = {
    "front-end": "lossd.api.main",
    "admin": "lossd.api.admin",
    "worker": "lossd.engine.worker.main",
}


class Embedding:
    """The front end in this process, which another program's listener feeds."""

    index: Final = 0

    def __init__(self, control: socket.socket) -> None:
        self.control: Final = control

    def tell(self, message: FromSupervisor, *fds: int) -> None:
        """Send it a message with descriptors. It reads in the same event loop, so there is room."""
        with suppress(ConnectionError):  # it has ended
            send(self.control, message, *fds)


class Children:
    """The front ends, the admin listener and the workers.

    Each front end has an arena of its own, and a socket pair with each worker. A new process is connected
    with all that run already. When a process ends its sockets close; an arena is freed with the last process
    that maps it. The admin listener is started and connected as a front end is, behind the last of them.

    Where another program embeds the engine, that process is the one front end, and only workers are started.

    Attributes:
        heartbeats: All processes' heartbeats.
        quotas_fd: The memory of the teams' quotas.
        counters_fds: The counters of the front ends, of the admin listener, and of the supervisor.
        greetings: What is called with each new front end.
    """

    def __init__(self, settings: Settings, devices: Sequence[str]) -> None:
        self._settings = settings
        self._devices = devices
        on_cpu = sum(device.startswith("cpu") for device in devices)
        self._threads = max(1, settings.threads // max(1, on_cpu))  # of each worker on a CPU
        self.quotas_fd: Final = create_memory(quotas_bytes(settings.front_ends))
        self.counters_fds: Final = tuple(
            create_memory(COUNTERS_BYTES) for _ in range(settings.front_ends + 2)
        )
        numbers = settings.front_ends, len(devices)
        self._heartbeats_fd = create_memory(heartbeats_bytes(*numbers))
        self.heartbeats: Final = Heartbeats(self._heartbeats_fd, *numbers)
        self.greetings: Final[list[Callable[[Peer], None]]] = []
        self._front_ends: dict[int, tuple[Child, int]] = {}  # with their arenas' descriptors
        self._embedding: tuple[Embedding, int] | None = None  # likewise
        self._workers: dict[int, tuple[Child, int]] = {}  # with the failures of those before them

    def __iter__(self) -> Iterator[Child]:
        """Yield the processes."""
        yield from self.front_ends
        yield from (worker for worker, _ in self._workers.values())

    @property
    def front_ends(self) -> Iterator[Child]:
        """The front ends, and the admin listener."""
        return (child for child, _ in self._front_ends.values())

    @property
    def peers(self) -> Iterator[Peer]:
        """The front ends and the admin listener, and a process that embeds the engine."""
        return (peer for peer, _ in self._peers)

    @property
    def ready(self) -> bool:
        """Whether all front ends listen, and all workers have passed their known-answer checks."""
        listening = sum(child.listens for child in self.front_ends if child.role == "front-end")
        beats = [row.read().beat for row in self.heartbeats.workers]
        return listening == self._settings.front_ends and all(beats)

    async def start_front_end(
        self, role: Role, index: int, restarts: int, listeners: Sequence[socket.socket], *, holds_back: bool
    ) -> Child:
        """Start a front end, or the admin listener.

        Args:
            role: Which of them.
            index: Its number; the admin listener's is that behind the last front end.
            restarts: Number of processes before it in its place.
            listeners: The sockets it listens on.
            holds_back: Whether it waits until the workers are ready before it accepts requests.
        """
        arena_fd = create_memory(PAGE if role == "admin" else self._settings.arena_bytes_each)
        control, theirs = socket_pair()
        options = msgspec.structs.replace(
            self._front_end_options(index, arena_fd, theirs.fileno()),
            listen_fds=tuple(listener.fileno() for listener in listeners),
            restarts=restarts,
            holds_back=holds_back,
        )
        with theirs:
            process = await start(_MODULES[role], options, self._settings.environment())
        pulse = Pulse(self.heartbeats.front_ends[index])
        child = Child(role, index, process, control, time.monotonic(), restarts, pulse)
        self._front_ends[index] = child, arena_fd
        asyncio.get_running_loop().add_reader(control, self._hear, child)
        self._welcome(child, arena_fd)
        return child

    def embed(self) -> FrontEndOptions:
        """Make this process the one front end, which another program listens for.

        Returns:
            Its options. The descriptors are its own, but for the quotas'.
        """
        arena_fd = create_memory(self._settings.arena_bytes_each)
        control, theirs = socket_pair()
        options = self._front_end_options(0, arena_fd, theirs.detach())
        embedding = Embedding(control)
        self._embedding = embedding, arena_fd
        self._welcome(embedding, arena_fd)
        return msgspec.structs.replace(
            options,
            arena_fd=os.dup(arena_fd),
            heartbeats_fd=os.dup(options.heartbeats_fd),
            counters_fds=tuple(os.dup(fd) for fd in options.counters_fds),
        )

    async def start_worker(self, index: int, restarts: int, failures: int) -> Child:
        """Start a worker.

        Args:
            index: Its number.
            restarts: Number of processes before it in its place.
            failures: How many of them, up to the last, ended in a row without having answered anything.
        """
        settings = self._settings
        control, theirs = socket_pair()
        options = WorkerOptions(
            index=index,
            device=self._devices[index],
            control_fd=theirs.fileno(),
            heartbeats_fd=self._heartbeats_fd,
            front_ends=settings.front_ends,
            workers=len(self._devices),
            log_level=settings.log_level,
            log_format=settings.log_format,
            traces=settings.traces,
            kernel=settings.kernel,
            threads=self._threads,
            torch=torch_version(),
            losses=settings.losses,
            check_seconds=settings.check_seconds,
        )
        environment = {**settings.environment(), "OPENBLAS_NUM_THREADS": "1"}  # numpy's threads are not used
        with theirs:
            embedded = self._embedding is not None
            process = await start(_MODULES["worker"], options, environment, embedded=embedded)
        pulse = Pulse(self.heartbeats.workers[index])
        child = Child("worker", index, process, control, time.monotonic(), restarts, pulse)
        self._workers[index] = child, failures
        for peer, arena_fd in self._peers:
            self._connect(peer, arena_fd, child)
        return child

    def remove_front_end(self, child: Child) -> None:
        """Forget a front end, or the admin listener, that ends."""
        _, arena_fd = self._front_ends.pop(child.index)
        asyncio.get_running_loop().remove_reader(child.control)
        child.control.close()
        child.pulse.row.write(NO_HEARTBEAT)
        os.close(arena_fd)

    def remove_worker(self, child: Child) -> None:
        """Forget a worker that ends."""
        del self._workers[child.index]
        child.control.close()

    def tell_front_ends(self, message: FromSupervisor) -> None:
        """Send a message to all front ends, and to the admin listener."""
        for peer in self.peers:
            peer.tell(message)

    def tell_gone(self, worker: Child) -> None:
        """Tell the front ends that a worker has ended, and which slice it was scoring."""
        number, slice_id = worker.pulse.row.read().running or (None, None)
        status = worker.process.returncode or 0
        for peer in self.peers:
            running = slice_id if number == peer.index else None
            peer.tell(WorkerGone(worker.index, worker.process.pid, status, running))

    def close(self) -> None:
        """Close the memory, and the embedding process's socket."""
        if self._embedding is not None:
            embedding, arena_fd = self._embedding
            embedding.control.close()
            os.close(arena_fd)
        for fd in (*self.counters_fds, self._heartbeats_fd, self.quotas_fd):
            os.close(fd)

    def _hear(self, child: Child) -> None:
        """Note that a front end listens. It never says anything else."""
        asyncio.get_running_loop().remove_reader(child.control)
        child.listens = has_listened(child)

    @property
    def _peers(self) -> Iterator[tuple[Peer, int]]:
        """The front ends and the admin listener, with their arenas' descriptors."""
        yield from self._front_ends.values()
        if self._embedding is not None:
            yield self._embedding

    def _front_end_options(self, index: int, arena_fd: int, control_fd: int) -> FrontEndOptions:
        """Return the options of a front end that does not listen."""
        return FrontEndOptions(
            index=index,
            listen_fds=(),
            arena_fd=arena_fd,
            heartbeats_fd=self._heartbeats_fd,
            control_fd=control_fd,
            quotas_fd=self.quotas_fd,
            counters_fds=self.counters_fds,
            workers=len(self._devices),
            elements=slice_elements(self._devices, self._threads, self._settings.slice_elements),
            restarts=0,
            holds_back=False,
        )

    def _welcome(self, peer: Peer, arena_fd: int) -> None:
        """Inform a new front end, and connect it with the workers."""
        for greet in self.greetings:
            greet(peer)
        for worker, _ in self._workers.values():
            self._connect(peer, arena_fd, worker)

    def _connect(self, front_end: Peer, arena_fd: int, worker: Child) -> None:
        """Connect a front end and a worker by a new socket pair."""
        front_link, worker_link = socket_pair()
        with front_link, worker_link:
            _, failures = self._workers[worker.index]
            device = self._devices[worker.index]
            started = WorkerStarted(worker.index, device, worker.process.pid, worker.restarts, failures)
            front_end.tell(started, front_link.fileno())
            joined = FrontEndStarted(front_end.index, os.fstat(arena_fd).st_size)
            worker.tell(joined, worker_link.fileno(), arena_fd)


def has_listened(child: Child) -> bool:
    """Return whether a front end has ever accepted requests."""
    try:
        return child.listens or bool(child.control.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionError):
        return False
