"""The teams' usage, written to the usage file while the server runs.

Front ends count in shared memory. The supervisor writes what has been added since its last look, in a thread
of its own, so that a disk that hangs delays nothing else. What cannot be written is kept in memory and tried
again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lossd.engine.ipc.counters import Counters, decode_key, used_by
from lossd.engine.ipc.messages import Degraded
from lossd.engine.supervisor.processes import Peer
from lossd.engine.usage_store import FIELDS, UsageStore, reason

logger = logging.getLogger(__name__)

_WRITE_SECONDS: Final = 0.5  # with the time of writing, no more than a second's usage is ever lost
_LOOK_SECONDS: Final = 0.25
_STALL_SECONDS: Final = 5.0  # well over the store's own wait for others
_RETRY_SECONDS: Final = 2.0  # at the end, while another process holds the file
_END_SECONDS: Final = 5.0


class UsageRecorder:
    """Writes usage from the moment it is created.

    Args:
        path: The file.
        counters: The counters of all front ends.
    """

    def __init__(self, path: Path, counters: Sequence[Counters]) -> None:
        self._path = path
        self._store = UsageStore(path)
        self._counters = counters
        self._taken: dict[tuple[int, bytes], float] = {}  # by front end and key
        self._pending: defaultdict[tuple[str, str], defaultdict[str, float]] = defaultdict(_nothing)
        self._written = False  # whether the last attempt succeeded
        self._failure: str | None = None
        self._began = 0.0  # the time of the attempt in progress; 0 if there is none
        self._told: str | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """The reason why nothing can be written, if any."""
        began = self._began
        if began and time.monotonic() - began > _STALL_SECONDS:
            return "the disk does not answer"
        return self._failure

    def tell(self, front_end: Peer) -> None:
        """Tell a front end whether usage can be written."""
        reasons = [] if self._told is None else [f"usage cannot be written: {self._told}"]
        front_end.tell(Degraded(reasons))

    async def follow(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever writing begins to fail, or works again."""
        while True:
            failure = self.failure
            if failure != self._told:
                if self._told is None:
                    logger.error(
                        "usage cannot be written to %s: %s; kept in memory; retrying",
                        self._path,
                        failure,
                    )
                elif failure is None:
                    logger.warning("usage is written to %s again, with all that was kept", self._path)
                self._told = failure
                changed()
            await asyncio.sleep(_LOOK_SECONDS)

    def end(self, seconds: float = _END_SECONDS) -> None:
        """Write the rest, once all front ends have ended. Gives up after some seconds."""
        self._ending.set()
        self._thread.join(seconds)
        if self._thread.is_alive() or not self._written:
            logger.error("the last usage could not be written to %s; it is lost", self._path)

    def _run(self) -> None:
        while True:
            ending = self._ending.is_set()
            self._write()
            if ending:
                break
            self._ending.wait(_WRITE_SECONDS)
        ends = time.monotonic() + _RETRY_SECONDS
        while not self._written and time.monotonic() < ends:
            time.sleep(0.1)
            self._write()
        self._store.close()

    def _write(self) -> None:
        """Write what has been used since the last time, and what could not be written then."""
        self._began = time.monotonic()
        self._take()
        if self._pending or not self._written:
            try:
                self._store.add(self._pending)
            except (OSError, sqlite3.Error) as error:
                self._failure, self._written = reason(error), False
            else:
                self._pending.clear()
                self._failure, self._written = None, True
        self._began = 0.0

    def _take(self) -> None:
        """Add what has been counted since the last time to the pending usage of today."""
        day = datetime.now(UTC).date().isoformat()
        for i, counters in enumerate(self._counters):
            for data, number in counters.items():
                more = number - self._taken.get((i, data), 0.0)
                if not more:
                    continue
                self._taken[i, data] = number
                key = decode_key(data)
                for name in FIELDS:
                    team = used_by(key, name)
                    if team is not None:
                        self._pending[day, team][name] += more


def _nothing() -> defaultdict[str, float]:
    return defaultdict(float)
