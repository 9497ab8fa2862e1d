"""The supervisor's process: starts all others, replaces those that end or hang, and stops all in order.

It imports neither torch nor the HTTP framework, and holds no request. If it died, all others would see their
sockets to it close, and end, too.

Each front end has an arena of its own, and a socket pair with each worker. A new process is connected with
all that run already. When a process ends its sockets close; an arena is freed with the last process that maps
it. The admin listener is started and connected as a front end is, so that it sees what these see; it has no
requests for workers, and ends after all others.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from lossd import logs
from lossd.engine.admission.quotas import quotas_bytes
from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, socket_pair
from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters
from lossd.engine.ipc.heartbeats import NO_HEARTBEAT, Heartbeat, Heartbeats, Pulse, heartbeats_bytes
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.engine.ipc.messages import (
    UNUSABLE,
    FrontEndStarted,
    Leaving,
    ReadAgain,
    WorkerGone,
    WorkerStarted,
)
from lossd.engine.ipc.options import FrontEndOptions, WorkerOptions
from lossd.engine.supervisor.devices import resolve, slice_elements, torch_version
from lossd.engine.supervisor.hang_watcher import HangWatcher
from lossd.engine.supervisor.listening import ListenError, Listening, open_listener
from lossd.engine.supervisor.processes import Child, Pauses, Role, start
from lossd.engine.supervisor.stopping import Stop, pause
from lossd.engine.supervisor.systemd import keep_alive, notify
from lossd.engine.supervisor.teams_watcher import TeamsWatcher
from lossd.engine.supervisor.usage_recorder import UsageRecorder
from lossd.settings import PAGE, Settings
from lossd.teams import BadTeams

logger = logging.getLogger(__name__)

FRONT_END: Final = "lossd.api.main"
_ADMIN: Final = "lossd.api.admin"
_WORKER: Final = "lossd.engine.worker.main"
_LATE_SECONDS: Final = 2.0  # for a front end, once the time for draining is up
_END_SECONDS: Final = 5.0  # for what has nothing left to do
_LAST_SECONDS: Final = 1.0  # for the same, if the front ends have taken all their time
_LOOK_SECONDS: Final = 0.02
_FAILED_STARTS: Final = 3  # front ends in a row that never accepted a request: the next will not either


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit status: 0 for a clean end, else 1."""
    logs.configure("supervisor", None, settings.log_level, settings.log_format)
    try:
        listening = open_listener(settings)
    except ListenError as error:
        logger.error("%s", error)
        return 1
    if not _has_memory(settings.arena_bytes_each):
        logger.error(
            "there is no memory for an arena of %d bytes; lower LOSSD_ARENA_BYTES", settings.arena_bytes
        )
        return 1
    try:
        supervisor = _Supervisor(settings, listening)
    except BadTeams as error:
        logger.error("%s cannot be used: %s", settings.teams, error)
        return 1
    return asyncio.run(supervisor.run())


def _has_memory(nbytes: int) -> bool:
    """Return whether so much memory can be mapped, which does not mean that it can be used."""
    try:
        fd = create_memory(nbytes)
        try:
            Memory(fd, nbytes)
        finally:
            os.close(fd)
    except (OSError, OverflowError):
        return False
    return True


class _Supervisor:
    def __init__(self, settings: Settings, listening: Listening) -> None:
        self._settings = settings
        self._listening = listening
        self._listener = listening.socket
        self._admin_listener = listening.admin
        self._began = time.monotonic()
        self._devices: list[str] = []
        self._threads = 1  # of each worker on a CPU
        self._teams = TeamsWatcher(settings.teams) if settings.teams is not None else None
        self._quotas_fd = create_memory(quotas_bytes(settings.front_ends))
        self._counters_fds = tuple(create_memory(COUNTERS_BYTES) for _ in range(settings.front_ends + 2))
        self._usage: UsageRecorder | None = None
        # With their arenas' descriptors; the admin listener is behind the last.
        self._front_ends: dict[int, tuple[Child, int]] = {}
        self._workers: dict[int, Child] = {}
        self._failures: dict[int, int] = {}  # of each worker's predecessors
        self._admin_over = asyncio.Event()  # the admin listener is to end
        self._ready = asyncio.Event()
        self._stop = Stop(settings.lame_duck_seconds, self._tell_front_ends, stays=listening.stays)
        self._status = 0
        self._end_seconds = _END_SECONDS
        self._heartbeats_fd = -1
        self._heartbeats: Heartbeats

    async def run(self) -> int:
        self._stop.handle_signals(self._ask_to_read)
        await self._find_devices()
        if self._settings.usage_file is not None:
            counters = [Counters(fd) for fd in self._counters_fds]
            self._usage = UsageRecorder(self._settings.usage_file, counters)
        front_ends = [
            asyncio.create_task(self._keep_front_end(index), name=f"front end {index}")
            for index in range(self._settings.front_ends)
        ]
        workers = [
            asyncio.create_task(self._keep_worker(index, device), name=f"worker {index}")
            for index, device in enumerate(self._devices)
        ]
        admin = asyncio.create_task(self._keep_admin())
        watches = [asyncio.create_task(watch, name="the supervisor") for watch in self._watches()]
        ended, _ = await asyncio.wait({*watches, *front_ends, *workers}, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.begun.is_set():
            self._status = 1
            logger.error("stopping: %s cannot run", ", ".join(sorted({task.get_name() for task in ended})))
        self._heartbeats.supervisor.write(Heartbeat(time.monotonic(), serving=False))
        if self._status or not self._ready.is_set():
            self._stop.begin(at_once=True)  # nobody relies on it yet, or any more
        await self._stop.serve_a_while()
        # The front ends keep listening until they have drained, and refuse new requests at once.
        self._listener.close()
        began = time.monotonic()
        await asyncio.gather(*front_ends)
        self._stop.drained.set()
        left = self._settings.drain_seconds + _LATE_SECONDS + _LAST_SECONDS - (time.monotonic() - began)
        self._end_seconds = min(_END_SECONDS, max(_LAST_SECONDS, left))
        if self._usage is not None:
            workers.append(asyncio.create_task(asyncio.to_thread(self._usage.end, self._end_seconds)))
        await asyncio.gather(*workers)
        self._admin_over.set()
        await admin
        for task in watches:
            task.cancel()
        self._close()
        self._stop.ignore_signals()
        return self._status

    def _ask_to_read(self) -> None:
        self._reading = asyncio.create_task(self._read_again())

    async def _read_again(self) -> None:
        """Read the teams and the certificate again."""
        has_files = self._teams is not None or self._settings.tls_certificate is not None
        what = (
            "reading the teams and the certificate again" if has_files else "there is no file to read again"
        )
        logger.info("SIGHUP: %s; other settings need a new start", what)
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._tell_front_ends(ReadAgain())
        if self._teams is not None:
            await self._teams.read(self._tell_teams)
        notify("READY=1")

    def _tell_front_ends(self, message: Leaving | ReadAgain) -> None:
        for child, _ in self._front_ends.values():
            child.tell(message)

    async def _become_ready(self) -> None:
        """Say so once the server is ready, to the server before it, too; then be there for the next."""
        while not self._is_ready():  # noqa: ASYNC110 -- workers say so in shared memory
            await asyncio.sleep(_LOOK_SECONDS)
        logger.info("ready after %.1f s", time.monotonic() - self._began)
        self._ready.set()
        notify("READY=1")
        predecessor, handover = self._listening.predecessor, self._listening.handover
        if predecessor is not None:
            await predecessor.replace()
        if handover is not None:
            await handover.serve(self._hand_over)
        await asyncio.Event().wait()

    def _is_ready(self) -> bool:
        """Return whether all front ends listen, and all workers have passed their known-answer checks."""
        listens = [child.listens for child, _ in self._front_ends.values() if child.role == "front-end"]
        beats = [row.read().beat for row in self._heartbeats.workers]
        return len(listens) == self._settings.front_ends and all(listens) and all(beats)

    def _hand_over(self) -> None:
        """Stop listening, and stop: another server accepts from the listening sockets."""
        self._listener.close()
        if self._admin_listener is not None:
            self._admin_listener.close()
        self._admin_over.set()
        self._stop.hand_over()

    async def _find_devices(self) -> None:
        self._devices = await asyncio.to_thread(resolve, self._settings.device)
        on_cpu = sum(device.startswith("cpu") for device in self._devices)
        self._threads = max(1, self._settings.threads // max(1, on_cpu))
        numbers = self._settings.front_ends, len(self._devices)
        self._heartbeats_fd = create_memory(heartbeats_bytes(*numbers))
        self._heartbeats = Heartbeats(self._heartbeats_fd, *numbers)

    def _watches(self) -> list[Coroutine[Any, Any, object]]:
        """Return what runs beside the processes; the first ends when the server is to stop."""
        settings = self._settings
        own = Counters(self._counters_fds[-1])
        hangs = HangWatcher(self._children, own, settings.hang_seconds, settings.start_seconds)
        watches: list[Coroutine[Any, Any, object]] = [
            self._stop.begun.wait(),
            hangs.follow(),
            self._heartbeats.supervisor.beat(lambda: not self._stop.begun.is_set()),
            self._become_ready(),
            keep_alive(),
        ]
        if self._teams is not None:
            watches.append(self._teams.follow(self._tell_teams))
        if self._usage is not None:
            watches.append(self._usage.follow(self._tell_degraded))
        return watches

    def _children(self) -> Iterator[Child]:
        """Yield all processes that are running now."""
        yield from (child for child, _ in self._front_ends.values())
        yield from self._workers.values()

    def _close(self) -> None:
        for fd in (*self._counters_fds, self._heartbeats_fd, self._quotas_fd):
            os.close(fd)
        if self._teams is not None:
            self._teams.close()
        if self._listening.handover is not None:
            self._listening.handover.close()

    # Front ends, and the admin listener

    async def _keep_front_end(self, index: int) -> None:
        """Keep a front end running until the server stops, then let it answer what it has accepted."""
        pauses, restarts = Pauses(), 0
        while not (self._stop.draining.is_set() or self._stop.handed_over):
            child = await self._start_front_end(index, restarts)
            await _outlive(child, self._stop.draining)
            if self._stop.draining.is_set():
                await self._drain(child)
                self._remove(index)
                return
            listened = child.listens or _has_listened(child)
            self._remove(index)
            logger.error("front end %d (pid %d) ended with status %d", *_ending(child))
            seconds = pauses.after(child, useful=listened)
            if pauses.failures == _FAILED_STARTS or child.process.returncode == UNUSABLE:
                return  # it has logged why; the server stops
            await pause(seconds, self._stop.draining)
            restarts += 1

    async def _keep_admin(self) -> None:
        """Keep the admin listener running, if it is wanted, until all others have ended, or hand over."""
        if self._admin_listener is None:
            return
        pauses, restarts, index = Pauses(), 0, self._settings.front_ends
        while not self._admin_over.is_set():
            child = await self._start_front_end(index, restarts, self._admin_listener)
            await _outlive(child, self._admin_over)
            listened = child.listens or _has_listened(child)
            self._remove(index)
            if self._admin_over.is_set():
                await child.end(self._end_seconds)
                return
            logger.error("admin listener (pid %d) ended with status %d", *_ending(child)[1:])
            await pause(pauses.after(child, useful=listened), self._admin_over)
            restarts += 1

    async def _start_front_end(
        self, index: int, restarts: int, admin_listener: socket.socket | None = None
    ) -> Child:
        is_admin = admin_listener is not None
        arena_fd = create_memory(PAGE if is_admin else self._settings.arena_bytes_each)
        control, theirs = socket_pair()
        options = FrontEndOptions(
            index=index,
            listen_fd=(admin_listener or self._listener).fileno(),
            arena_fd=arena_fd,
            heartbeats_fd=self._heartbeats_fd,
            control_fd=theirs.fileno(),
            quotas_fd=self._quotas_fd,
            counters_fds=self._counters_fds,
            workers=len(self._devices),
            elements=slice_elements(self._devices, self._threads, self._settings.slice_elements),
            restarts=restarts,
            holds_back=self._listening.predecessor is not None and not self._ready.is_set(),
        )
        with theirs:
            process = await start(_ADMIN if is_admin else FRONT_END, options, self._settings.environment())
        pulse = Pulse(self._heartbeats.front_ends[index])
        role: Role = "admin" if is_admin else "front-end"
        child = Child(role, index, process, control, time.monotonic(), restarts, pulse)
        self._front_ends[index] = child, arena_fd
        asyncio.get_running_loop().add_reader(control, self._hear, child)
        if self._stop.begun.is_set():
            child.tell(Leaving(self._stop.handed_over))
        if self._teams is not None:
            self._teams.tell(child)
        if self._usage is not None:
            self._usage.tell(child)
        for worker in self._workers.values():
            self._connect(child, arena_fd, worker)
        return child

    def _tell_teams(self) -> None:
        assert self._teams is not None
        for child, _ in self._front_ends.values():
            self._teams.tell(child)

    def _tell_degraded(self) -> None:
        assert self._usage is not None
        for child, _ in self._front_ends.values():
            self._usage.tell(child)

    def _hear(self, child: Child) -> None:
        """Note that a front end listens, the only thing that it ever says."""
        asyncio.get_running_loop().remove_reader(child.control)
        child.listens = _has_listened(child)

    def _remove(self, index: int) -> None:
        child, arena_fd = self._front_ends.pop(index)
        asyncio.get_running_loop().remove_reader(child.control)
        child.control.close()
        child.pulse.row.write(NO_HEARTBEAT)
        os.close(arena_fd)

    async def _drain(self, child: Child) -> None:
        if child.process.returncode is None:
            child.process.terminate()
        if not await child.end(self._settings.drain_seconds + _LATE_SECONDS):
            logger.error("front end %d did not drain in time; killed", child.index)
            self._status = 1
        elif child.process.returncode not in (0, -signal.SIGTERM):  # SIGTERM came before it handled signals
            self._status = 1

    # Workers

    async def _keep_worker(self, index: int, device: str) -> None:
        """Keep a worker running on a device until all front ends have ended."""
        pauses, restarts = Pauses(), 0
        while not self._stop.drained.is_set():
            self._failures[index] = pauses.failures
            child = await self._start_worker(index, device, restarts)
            await _outlive(child, self._stop.drained)
            del self._workers[index]
            child.control.close()
            if self._stop.drained.is_set():
                if not await child.end(self._end_seconds):
                    logger.error("worker pid %d did not end by itself; killed", child.process.pid)
                return
            self._tell_gone(child)
            if child.process.returncode == UNUSABLE and not restarts:
                return  # it has logged why; a wrong setting stops the server
            answered = child.pulse.row.read().answered
            child.pulse.row.write(NO_HEARTBEAT)
            await pause(pauses.after(child, useful=answered > 0), self._stop.drained)
            restarts += 1

    async def _start_worker(self, index: int, device: str, restarts: int) -> Child:
        settings = self._settings
        control, theirs = socket_pair()
        options = WorkerOptions(
            index=index,
            device=device,
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
            process = await start(_WORKER, options, environment)
        pulse = Pulse(self._heartbeats.workers[index])
        child = Child("worker", index, process, control, time.monotonic(), restarts, pulse)
        self._workers[index] = child
        for front_end, arena_fd in self._front_ends.values():
            self._connect(front_end, arena_fd, child)
        return child

    def _connect(self, front_end: Child, arena_fd: int, worker: Child) -> None:
        """Connect a front end and a worker by a new socket pair."""
        front_link, worker_link = socket_pair()
        with front_link, worker_link:
            started = WorkerStarted(
                worker.index,
                self._devices[worker.index],
                worker.process.pid,
                worker.restarts,
                self._failures[worker.index],
            )
            front_end.tell(started, front_link.fileno())
            joined = FrontEndStarted(front_end.index, os.fstat(arena_fd).st_size)
            worker.tell(joined, worker_link.fileno(), arena_fd)

    def _tell_gone(self, worker: Child) -> None:
        """Tell the front ends that a worker has ended, and which slice it was scoring."""
        number, slice_id = worker.pulse.row.read().running or (None, None)
        for front_end, _ in self._front_ends.values():
            running = slice_id if number == front_end.index else None
            front_end.tell(WorkerGone(*_ending(worker), running))


async def _outlive(child: Child, event: asyncio.Event) -> None:
    """Wait until a child ends or an event is set."""
    waits = [asyncio.create_task(child.process.wait()), asyncio.create_task(event.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _ending(child: Child) -> tuple[int, int, int]:
    """Return a child's number, its process id, and its exit status."""
    return child.index, child.process.pid, child.process.returncode or 0


def _has_listened(child: Child) -> bool:
    """Return whether a front end that has ended had accepted requests."""
    try:
        return bool(child.control.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionError):
        return False
