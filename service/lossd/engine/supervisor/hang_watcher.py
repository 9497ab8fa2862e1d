"""Kills processes whose heartbeats stop, so that they are replaced, and counts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from lossd.engine.ipc.counters import Counters, encode_key
from lossd.engine.ipc.heartbeats import BEAT_SECONDS
from lossd.engine.supervisor.processes import ROLES, Child

logger = logging.getLogger(__name__)


class HangWatcher:
    """Looks at the heartbeats of the running processes a few times a second.

    Args:
        children: The processes.
        counters: The supervisor's own counters.
        hang_seconds: The longest time without a heartbeat.
        start_seconds: The longest time until the first.
    """

    def __init__(
        self,
        children: Iterable[Child],
        counters: Counters,
        hang_seconds: float,
        start_seconds: float,
    ) -> None:
        self._children = children
        self._hang_seconds = hang_seconds
        self._start_seconds = start_seconds
        self._numbers = counters.numbers
        self._hangs: Final = {role: counters.cell(encode_key(("process_hangs", role))) for role in ROLES}

    async def follow(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for child in self._children:
                self.look(child)

    def look(self, child: Child) -> None:
        """Look at a process, and kill it if it hangs."""
        pulse = child.pulse
        begun = pulse.look().beat
        if pulse.still_seconds <= (self._hang_seconds if begun else self._start_seconds):
            return
        what = "has made no progress for" if begun else "is not ready after"
        logger.error("%s pid %d %s %.1f s; killed", child.role, child.process.pid, what, pulse.still_seconds)
        self._numbers[self._hangs[child.role]] += 1.0
        child.kill()
        pulse.still_seconds = 0.0  # it is counted once, however long its end takes
