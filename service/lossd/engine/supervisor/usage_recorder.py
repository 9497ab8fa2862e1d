"""The teams' usage, written to the usage file or the database while the server runs.

Front ends count in shared memory. The supervisor writes what has been added since its last look, in a thread
of its own, so that a disk that hangs delays nothing else. What cannot be written is kept in memory and tried
again: as the same batch, since a database may have added it although its answer was lost.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from lossd.engine.ipc.counters import Counters, decode_key, used_by
from lossd.engine.supervisor.outages import Outage
from lossd.engine.usage_store import FIELDS, open_store, reason, shown

logger = logging.getLogger(__name__)

_WRITE_SECONDS: Final = 0.5  # with the time of writing, no more than a second's usage is ever lost
_STALL_SECONDS: Final = 5.0  # well over the store's own wait for others
_RETRY_SECONDS: Final = 2.0  # at the end, while another process holds the file
_END_SECONDS: Final = 5.0


_Usage: TypeAlias = dict[tuple[str, str], defaultdict[str, float]]
"""Usage by day and team."""


class UsageRecorder(Outage):
    """Writes usage from the moment it is created.

    Args:
        place: The file, or the database's URL.
        counters: The counters of all front ends.
    """

    what = "usage cannot be written"

    def __init__(self, place: Path | str, counters: Sequence[Counters]) -> None:
        super().__init__()
        self._shown = shown(place)
        self._store = open_store(place)
        self._silent = f"the {'database' if isinstance(place, str) else 'disk'} does not answer"
        self._counters = counters
        self._taken: dict[tuple[int, bytes], float] = {}  # by front end and key
        self._batch: _Usage = {}  # what is being written
        self._pending: _Usage = defaultdict(_nothing)  # what has been counted since
        self._written = False  # whether the last attempt succeeded
        self._failure: str | None = None
        self._began = 0.0  # the time of the attempt in progress; 0 if there is none
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """The reason why nothing can be written, if any."""
        began = self._began
        if began and time.monotonic() - began > _STALL_SECONDS:
            return self._silent
        return self._failure

    def say(self, failure: str | None) -> None:
        """Log that nothing can be written, or that writing works again."""
        if failure is None:
            logger.warning("usage is written to %s again, with all that was kept", self._shown)
        else:
            logger.error("usage cannot be written to %s: %s; kept in memory; retrying", self._shown, failure)

    def end(self, seconds: float = _END_SECONDS) -> None:
        """Write the rest, once all front ends have ended. Gives up after some seconds."""
        self._ending.set()
        self._thread.join(seconds)
        if self._thread.is_alive() or not self._written:
            logger.error("the last usage could not be written to %s; it is lost", self._shown)

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
        """Write what could not be written the last time, then what has been used since."""
        self._began = time.monotonic()
        self._take()
        try:
            while self._batch or self._pending or not self._written:
                if not self._batch:
                    self._batch, self._pending = self._pending, defaultdict(_nothing)
                self._store.add(self._batch)
                self._batch, self._written = {}, True
            self._failure = None
        except (OSError, sqlite3.Error) as error:
            self._failure, self._written = reason(error), False
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
