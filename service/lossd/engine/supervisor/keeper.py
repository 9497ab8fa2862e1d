"""Keeps the workers running, and tells front ends of teams and failures.

It runs in the supervisor, and in a program that embeds the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from lossd.engine.ipc.counters import Counters
from lossd.engine.ipc.heartbeats import NO_HEARTBEAT
from lossd.engine.ipc.messages import UNUSABLE, Degraded
from lossd.engine.supervisor.children import Children
from lossd.engine.supervisor.hang_watcher import HangWatcher
from lossd.engine.supervisor.outages import Outage
from lossd.engine.supervisor.processes import Child, Pauses, Peer
from lossd.engine.supervisor.quota_leases import hold_quotas
from lossd.engine.supervisor.stopping import pause
from lossd.engine.supervisor.teams_watcher import TeamsWatcher
from lossd.engine.supervisor.usage_recorder import UsageRecorder
from lossd.settings import Settings

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps the workers, the teams, their limits and the record of usage.

    Args:
        settings: The server's settings.
        children: The processes.
        teams: The teams; None if there are none.
        drained: Set once no front end has requests any more, so that the workers are to end.
    """

    def __init__(
        self, settings: Settings, children: Children, teams: TeamsWatcher | None, drained: asyncio.Event
    ) -> None:
        self._settings = settings
        self._children = children
        self._teams = teams
        self._drained = drained
        self._usage: UsageRecorder | None = None
        if settings.usage_file is not None:
            self._usage = UsageRecorder(settings.usage_file, [Counters(fd) for fd in children.counters_fds])
        self._leases = hold_quotas(settings, children.quotas_fd, teams)
        self._outages: list[Outage] = [each for each in (self._usage, self._leases) if each is not None]
        self._workers: list[asyncio.Task[None]] = []
        self._end_seconds = 0.0
        children.greetings.append(self._greet)

    def start_workers(self) -> list[asyncio.Task[None]]:
        """Start the workers. A task ends early if its worker cannot run at all, which has logged why."""
        self._workers = [
            asyncio.create_task(self._keep_worker(index), name=f"worker {index}")
            for index in range(len(self._children.heartbeats.workers))
        ]
        return self._workers

    def watches(self) -> list[Coroutine[Any, Any, object]]:
        """Return coroutines that run until the server ends."""
        settings = self._settings
        own = Counters(self._children.counters_fds[-1])
        hangs = HangWatcher(self._children, own, settings.hang_seconds, settings.start_seconds)
        watches: list[Coroutine[Any, Any, object]] = [hangs.follow()]
        if self._teams is not None:
            watches.append(self._teams.follow(self._tell_teams))
        watches += [outage.follow(self._tell_degraded) for outage in self._outages]
        return watches

    async def read_again(self) -> None:
        """Read the teams again."""
        if self._teams is not None:
            await self._teams.read(self._tell_teams)

    async def end(self, seconds: float) -> None:
        """End the workers, write the last usage, and give leases back.

        Args:
            seconds: How long that may take; then workers are killed, and usage is lost.
        """
        self._end_seconds = seconds
        self._drained.set()
        ends: list[Coroutine[Any, Any, None]] = []
        if self._usage is not None:
            ends.append(asyncio.to_thread(self._usage.end, seconds))
        if self._leases is not None:
            ends.append(asyncio.to_thread(self._leases.end))
        await asyncio.gather(*self._workers, *ends)

    def close(self) -> None:
        """Close the memory of the processes and of the teams."""
        self._children.close()
        if self._teams is not None:
            self._teams.close()

    def _greet(self, peer: Peer) -> None:
        """Tell a new front end about the teams, and what fails beside the scoring."""
        if self._teams is not None:
            self._teams.tell(peer)
        peer.tell(self._degraded)

    def _tell_teams(self) -> None:
        assert self._teams is not None
        for peer in self._children.peers:
            self._teams.tell(peer)

    def _tell_degraded(self) -> None:
        self._children.tell_front_ends(self._degraded)

    @property
    def _degraded(self) -> Degraded:
        return Degraded([reason for outage in self._outages for reason in outage.reasons])

    async def _keep_worker(self, index: int) -> None:
        """Keep a worker running until all front ends have ended."""
        pauses, restarts = Pauses(), 0
        while not self._drained.is_set():
            child = await self._children.start_worker(index, restarts, pauses.failures)
            await outlive(child, self._drained)
            self._children.remove_worker(child)
            if self._drained.is_set():
                if not await child.end(self._end_seconds):
                    logger.error("worker pid %d did not end by itself; killed", child.process.pid)
                return
            self._children.tell_gone(child)
            if child.process.returncode == UNUSABLE and not restarts:
                return  # it has logged why; a wrong setting stops the server
            answered = child.pulse.row.read().answered
            child.pulse.row.write(NO_HEARTBEAT)
            await pause(pauses.after(child, useful=answered > 0), self._drained)
            restarts += 1


async def outlive(child: Child, event: asyncio.Event) -> None:
    """Wait until a child ends or an event is set."""
    waits = [asyncio.create_task(child.process.wait()), asyncio.create_task(event.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
