"""The usage file: what each team has used on each day (UTC), in SQLite.

What is written is additions, so that several servers may share a file, and whoever reads it sees whole ones.

With SQLite's write-ahead log readers and the writer would not wait for each other. But it maps a file into
memory, and where a full disk cannot hold a page of that, the kernel ends the process that touches it
(SIGBUS), which here would be the supervisor. With a rollback journal a full disk is an error like others.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

FIGURES: Final = ("requests", "elements", "bytes", "device_seconds")
"""What is kept of a team's day: answered requests, their elements, the bytes of their bodies, and the seconds
of computing. They are named as the counters are."""
MOST_DAYS: Final = 3660
"""As many as are read at a time."""

Amounts: TypeAlias = Mapping[str, float]
"""So much of each of `FIGURES`; none where one is missing."""

_BUSY_SECONDS: Final = 1.0  # for which another server's transaction, or a reader's, is waited for
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL,
    team TEXT NOT NULL,
    requests INTEGER NOT NULL,
    elements INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    device_seconds REAL NOT NULL,
    PRIMARY KEY (day, team)
) WITHOUT ROWID
"""
_ADD: Final = """
INSERT INTO usage (day, team, requests, elements, bytes, device_seconds) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (day, team) DO UPDATE SET
    requests = requests + excluded.requests,
    elements = elements + excluded.elements,
    bytes = bytes + excluded.bytes,
    device_seconds = device_seconds + excluded.device_seconds
"""
_READ: Final = """
SELECT day, team, requests, elements, bytes, device_seconds FROM usage
WHERE day >= ? AND (team = ? OR ? IS NULL) ORDER BY day, team
"""


class Used(NamedTuple):
    """What a team has used on a day.

    Attributes:
        day: As ISO 8601 has it, in UTC.
        team: The team's name.
        requests: Requests that were answered with a loss.
        elements: Their elements.
        bytes: Those of their bodies, as sent.
        device_seconds: Seconds of computing them.
    """

    day: str
    team: str
    requests: int
    elements: int
    bytes: int
    device_seconds: float


class Ledger:
    """Writes the file. To be used by one thread; it opens the file when it needs it, and anew after an error.

    Args:
        path: The file. It and its folders are made, for their owner alone, where they are missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def add(self, used: Mapping[tuple[str, str], Amounts]) -> None:
        """Add to the totals of (day, team), all or nothing. What was added is on the disk.

        Raises:
            OSError, sqlite3.Error: Nothing was added.
        """
        rows = [
            (day, team, *(int(some.get(name, 0)) for name in FIGURES[:3]), some.get(FIGURES[3], 0.0))
            for (day, team), some in used.items()
        ]
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")  # which fails, too, if the file may only be read
            connection.executemany(_ADD, rows)
            connection.execute("COMMIT")
        except (OSError, sqlite3.Error):
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; an unfinished transaction is undone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self._path) == self._opened:
            return self._connection
        self.close()  # also one whose file was taken away: nobody would find again what is written there
        _make_folders(self._path.parent)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._connection, self._opened = connection, _identity(self._path)
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_SCHEMA)
        return connection


def first_day(days: int) -> date:
    """The first of so many days of which today, in UTC, is the last."""
    return datetime.now(UTC).date() - timedelta(days=days - 1)


def read_usage(path: Path, since: date, team: str | None = None) -> list[Used]:
    """What was used from a day on, oldest first, by one team or by all. Works while others write.

    Raises:
        OSError, sqlite3.Error: The file is not there, or cannot be read.
    """
    path.stat()
    # Not mode=ro: what a writer left unfinished that was killed, whoever opens the file next has to undo.
    where = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(where, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA query_only = ON")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'usage'").fetchone():
            return []  # nothing has been written yet
        return [Used(*row) for row in connection.execute(_READ, (since.isoformat(), team, team))]


def figures(used: Iterable[Used]) -> dict[str, int | float]:
    """The totals, by the names of `FIGURES`."""
    rows = list(used)
    return {
        "requests": sum(row.requests for row in rows),
        "elements": sum(row.elements for row in rows),
        "bytes": sum(row.bytes for row in rows),
        "device_seconds": math.fsum(row.device_seconds for row in rows),
    }


def reason(error: OSError | sqlite3.Error) -> str:
    """Why a file cannot be used, without its place."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is that stands at a place, if any."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, for their owner alone, where they are missing."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
