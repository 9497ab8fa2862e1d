"""Each team's usage by day (UTC): in the usage file, with SQLite, or in a database (`usage_database`).

Usage is added to the totals in transactions, so several servers may share a file.

The journal is a rollback journal. A write-ahead log would let readers and writer work at once, but maps a
file into memory: on a full disk the kernel ends the process that touches a page that has no room (SIGBUS),
here the supervisor. With a rollback journal a full disk is an error like others.
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

from lossd.engine.usage_database import UsageDatabase, read_database, shown_url

FIELDS: Final = ("requests", "elements", "bytes", "device_seconds")
"""The usage of a team on a day: answered requests, their elements, the bytes of their bodies, and seconds of
computing. The counters have the same names."""
MOST_DAYS: Final = 3660
"""Most days that are read at a time."""

Amounts: TypeAlias = Mapping[str, float]
"""Usage by the names of `FIELDS`; 0 where one is missing."""

_BUSY_SECONDS: Final = 1.0  # the wait for another process's transaction
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
    """A team's usage on a day.

    Attributes:
        day: The day in UTC, by ISO 8601.
        team: The team's name.
        requests: Requests that were answered with a loss.
        elements: Their elements.
        bytes: The bytes of their bodies, as sent.
        device_seconds: Seconds of computing them.
    """

    day: str
    team: str
    requests: int
    elements: int
    bytes: int
    device_seconds: float


class UsageStore:
    """Writes the usage file, from one thread. Opens it when needed, and again after an error.

    Args:
        path: The file. It and its folders are created if they are missing, for their owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def add(self, used: Mapping[tuple[str, str], Amounts]) -> None:
        """Add usage to the totals by (day, team), all or nothing. On return it is on the disk.

        Raises:
            OSError, sqlite3.Error: Nothing was added.
        """
        rows = [
            (day, team, *(int(some.get(name, 0)) for name in FIELDS[:3]), some.get(FIELDS[3], 0.0))
            for (day, team), some in used.items()
        ]
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")  # also fails at once for a read-only file
            connection.executemany(_ADD, rows)
            connection.execute("COMMIT")
        except (OSError, sqlite3.Error):
            self.close()
            raise

    def close(self) -> None:
        """Close the file; an unfinished transaction is rolled back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and _file_id(self._path) == self._opened:
            return self._connection
        self.close()  # also if the file was moved or deleted: nobody would find what is written there
        _make_folders(self._path.parent)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._connection, self._opened = connection, _file_id(self._path)
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_SCHEMA)
        return connection


def open_store(place: Path | str) -> UsageStore | UsageDatabase:
    """Return what writes to a usage file, or to the database at a URL."""
    return UsageDatabase(place) if isinstance(place, str) else UsageStore(place)


def shown(place: Path | str) -> str:
    """Return where usage is, without a database's password."""
    return shown_url(place) if isinstance(place, str) else str(place)


def first_day(days: int) -> date:
    """Return the first of some days that end today, in UTC."""
    return datetime.now(UTC).date() - timedelta(days=days - 1)


def read_usage(place: Path | str, since: date, team: str | None = None) -> list[Used]:
    """Read the usage since a day, oldest first, of one team or of all. Others may write meanwhile.

    Args:
        place: The file, or the database's URL.
        since: The first day.
        team: The team; None for all.

    Raises:
        OSError, sqlite3.Error: The file does not exist, or it or the database cannot be read.
    """
    if isinstance(place, str):
        return [Used(*row) for row in read_database(place, since.isoformat(), team)]
    place.stat()
    # Not mode=ro: if a writer was killed, the next reader must roll back its transaction.
    where = f"{place.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(where, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA query_only = ON")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'usage'").fetchone():
            return []  # nothing has been written yet
        return [Used(*row) for row in connection.execute(_READ, (since.isoformat(), team, team))]


def total_usage(used: Iterable[Used]) -> dict[str, int | float]:
    """Return the totals, by the names of `FIELDS`."""
    rows = list(used)
    return {
        "requests": sum(row.requests for row in rows),
        "elements": sum(row.elements for row in rows),
        "bytes": sum(row.bytes for row in rows),
        "device_seconds": math.fsum(row.device_seconds for row in rows),
    }


def reason(error: OSError | sqlite3.Error) -> str:
    """Return why a file or a database cannot be used, without its path or password."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _file_id(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path, if there is one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _make_folders(folder: Path) -> None:
    """Create a folder and its parents if they are missing, for their owner alone."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
