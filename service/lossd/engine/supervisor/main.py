"""The supervisor's process: starts all others, replaces those that end or hang, and stops all in order.

It imports neither torch nor the HTTP framework, and holds no request. If it died, all others would see their
sockets to it close, and end, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any, Final

from lossd import logs
from lossd.engine.ipc.heartbeats import Heartbeat
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.engine.ipc.messages import UNUSABLE, Leaving, ReadAgain
from lossd.engine.supervisor.children import Children, has_listened
from lossd.engine.supervisor.devices import resolve
from lossd.engine.supervisor.keeper import Keeper, outlive
from lossd.engine.supervisor.listening import ListenError, Listening, open_listener
from lossd.engine.supervisor.processes import Child, Pauses, Peer
from lossd.engine.supervisor.stopping import Stop, pause
from lossd.engine.supervisor.systemd import keep_alive, notify
from lossd.engine.supervisor.teams_watcher import TeamsWatcher
from lossd.settings import Settings
from lossd.teams import BadTeams

logger = logging.getLogger(__name__)

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
        listening.remove()
        return 1
    try:
        teams = TeamsWatcher(settings.teams) if settings.teams is not None else None
    except BadTeams as error:
        logger.error("%s cannot be used: %s", settings.teams, error)
        listening.remove()
        return 1
    return asyncio.run(_run(settings, listening, teams))


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


async def _run(settings: Settings, listening: Listening, teams: TeamsWatcher | None) -> int:
    began = time.monotonic()
    children = Children(settings, await asyncio.to_thread(resolve, settings.device))
    return await _Supervisor(settings, listening, teams, children, began).run()


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        listening: Listening,
        teams: TeamsWatcher | None,
        children: Children,
        began: float,
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._teams = teams
        self._children = children
        self._began = began
        self._stop = Stop(settings.lame_duck_seconds, children.tell_front_ends, stays=listening.stays)
        self._admin_over = asyncio.Event()  # the admin listener is to end
        self._ready = asyncio.Event()
        self._status = 0
        self._end_seconds = _END_SECONDS
        children.greetings.append(self._greet)
        self._keeper = Keeper(settings, children, teams, self._stop.drained)

    async def run(self) -> int:
        self._stop.handle_signals(self._ask_to_read)
        front_ends = [
            asyncio.create_task(self._keep_front_end(index), name=f"front end {index}")
            for index in range(self._settings.front_ends)
        ]
        workers = self._keeper.start_workers()
        admin = asyncio.create_task(self._keep_admin())
        watches = [asyncio.create_task(watch, name="the supervisor") for watch in self._watches()]
        ended, _ = await asyncio.wait({*watches, *front_ends, *workers}, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.begun.is_set():
            self._status = 1
            logger.error("stopping: %s cannot run", ", ".join(sorted({task.get_name() for task in ended})))
        serving = self._stop.seems_ready and not self._status
        self._children.heartbeats.supervisor.write(Heartbeat(time.monotonic(), serving))
        if self._status or not self._ready.is_set():
            self._stop.begin(at_once=True)  # nobody relies on it yet, or any more
        await self._stop.serve_a_while()
        # The front ends keep listening until they have drained, and refuse new requests at once.
        self._listening.close()
        began = time.monotonic()
        await asyncio.gather(*front_ends)
        left = self._settings.drain_seconds + _LATE_SECONDS + _LAST_SECONDS - (time.monotonic() - began)
        self._end_seconds = min(_END_SECONDS, max(_LAST_SECONDS, left))
        await self._keeper.end(self._end_seconds)
        self._admin_over.set()
        await admin
        for task in watches:
            task.cancel()
        self._keeper.close()
        self._listening.remove()
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
        self._children.tell_front_ends(ReadAgain())
        await self._keeper.read_again()
        notify("READY=1")

    async def _become_ready(self) -> None:
        """Tell systemd and the server before when this one is ready; then wait for the next server."""
        while not self._children.ready:  # noqa: ASYNC110 -- workers say so in shared memory
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

    def _hand_over(self) -> None:
        """Begin to stop: another server accepts from the listening sockets now."""
        self._listening.close()
        if self._listening.admin is not None:
            self._listening.admin.close()
        self._admin_over.set()
        self._stop.hand_over()

    def _watches(self) -> list[Coroutine[Any, Any, object]]:
        """Return what runs beside the processes; the first ends when the server is to stop."""
        return [
            self._stop.begun.wait(),
            self._children.heartbeats.supervisor.beat(lambda: self._stop.seems_ready),
            self._become_ready(),
            keep_alive(),
            *self._keeper.watches(),
        ]

    def _greet(self, peer: Peer) -> None:
        """Tell a new front end about a stop."""
        if self._stop.begun.is_set():
            peer.tell(Leaving(self._stop.handed_over))

    @property
    def _holds_back(self) -> bool:
        """Whether the server before this one still accepts requests."""
        return self._listening.predecessor is not None and not self._ready.is_set()

    async def _keep_front_end(self, index: int) -> None:
        """Keep a front end running until the server stops, then let it answer what it has accepted."""
        pauses, restarts = Pauses(), 0
        while not (self._stop.draining.is_set() or self._stop.handed_over):
            child = await self._children.start_front_end(
                "front-end", index, restarts, self._listening.service, holds_back=self._holds_back
            )
            await outlive(child, self._stop.draining)
            if self._stop.draining.is_set():
                await self._drain(child)
                self._children.remove_front_end(child)
                return
            listened = has_listened(child)
            self._children.remove_front_end(child)
            status = child.process.returncode
            logger.error("front end %d (pid %d) ended with status %d", index, child.process.pid, status)
            seconds = pauses.after(child, useful=listened)
            if pauses.failures == _FAILED_STARTS or status == UNUSABLE:
                return  # it has logged why; the server stops
            await pause(seconds, self._stop.draining)
            restarts += 1

    async def _keep_admin(self) -> None:
        """Keep the admin listener running, if it is wanted, until all others have ended, or hand over."""
        listener = self._listening.admin
        if listener is None:
            return
        pauses, restarts, index = Pauses(), 0, self._settings.front_ends
        while not self._admin_over.is_set():
            child = await self._children.start_front_end(
                "admin", index, restarts, [listener], holds_back=self._holds_back
            )
            await outlive(child, self._admin_over)
            listened = has_listened(child)
            self._children.remove_front_end(child)
            if self._admin_over.is_set():
                await child.end(self._end_seconds)
                return
            status = child.process.returncode
            logger.error("admin listener (pid %d) ended with status %d", child.process.pid, status)
            await pause(pauses.after(child, useful=listened), self._admin_over)
            restarts += 1

    async def _drain(self, child: Child) -> None:
        if child.process.returncode is None:
            child.process.terminate()
        if not await child.end(self._settings.drain_seconds + _LATE_SECONDS):
            logger.error("front end %d did not drain in time; killed", child.index)
            self._status = 1
        elif child.process.returncode not in (0, -signal.SIGTERM):  # SIGTERM came before it handled signals
            self._status = 1
