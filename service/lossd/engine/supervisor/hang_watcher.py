"""Kills workers whose heartbeats stop, so that they are replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from lossd.engine.ipc.heartbeats import Heartbeats
from lossd.engine.supervisor.processes import Child

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25


class HangWatcher:
    """Looks at the heartbeats four times a second.

    It counts looks, not seconds: if the whole machine stands still for a while, that is one look.

    Args:
        heartbeats: The heartbeats.
        workers: The running workers, by number.
        hang_seconds: The longest time without a heartbeat.
        start_seconds: The longest time until the first.
    """

    def __init__(
        self, heartbeats: Heartbeats, workers: Mapping[int, Child], hang_seconds: float, start_seconds: float
    ) -> None:
        self._heartbeats = heartbeats
        self._workers = workers
        self._hang_seconds = hang_seconds
        self._start_seconds = start_seconds
        self._seen: dict[int, tuple[Child, float, int]] = {}  # with the last beat, and looks since

    async def follow(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for index, worker in self._workers.items():
                self._look(index, worker)

    def _look(self, index: int, worker: Child) -> None:
        beat = self._heartbeats.read(index).beat
        seen, last, looks = self._seen.get(index, (worker, beat, 0))
        looks = looks + 1 if (seen, last) == (worker, beat) else 0
        self._seen[index] = worker, beat, looks
        seconds = looks * _LOOK_SECONDS
        if beat and seconds > self._hang_seconds:
            logger.error("worker pid %d has made no progress for %.1f s; killed", worker.process.pid, seconds)
            worker.kill()
        elif not beat and seconds > self._start_seconds:
            logger.error("worker pid %d is not ready after %.0f s; killed", worker.process.pid, seconds)
            worker.kill()
