"""The usage database: each team's usage by day (UTC), in PostgreSQL, added up over all servers that name it.

A connection may break after the database has added a batch, and before it says so. So each writer has a row
with the number of its last batch, changed in the same transaction: a batch that is sent again is added once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

_OPTIONS: Final[Mapping[str, Any]] = {
    "application_name": "lossd",
    "connect_timeout": 3,
    "options": "-c statement_timeout=3s -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # a machine that is gone says nothing
}
_LOCK: Final = 0x6C6F737364  # "lossd": servers that start together make the tables one after the other
_TABLES: Final = """
CREATE TABLE usage (
    day DATE NOT NULL,
    team TEXT NOT NULL,
    requests BIGINT NOT NULL,
    elements BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    device_seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (day, team)
);
CREATE TABLE usage_writers (
    writer UUID PRIMARY KEY,
    batch BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL
)
"""
_FORGET: Final = "DELETE FROM usage_writers WHERE at < now() - interval '30 days'"
_NEXT: Final = """
INSERT INTO usage_writers (writer, batch, at) VALUES (%s, %s, now())
ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at
WHERE usage_writers.batch < excluded.batch
"""
_ADD: Final = """
INSERT INTO usage AS old (day, team, requests, elements, bytes, device_seconds)
VALUES (%(day)s, %(team)s, %(requests)s, %(elements)s, %(bytes)s, %(device_seconds)s)
ON CONFLICT (day, team) DO UPDATE SET
    requests = old.requests + excluded.requests,
    elements = old.elements + excluded.elements,
    bytes = old.bytes + excluded.bytes,
    device_seconds = old.device_seconds + excluded.device_seconds
"""
_READ: Final = """
SELECT day::text, team, requests, elements, bytes, device_seconds FROM usage
WHERE day >= %s AND (team = %s OR %s::text IS NULL) ORDER BY day, team COLLATE "C"
"""
_NOTHING: Final = {"requests": 0, "elements": 0, "bytes": 0, "device_seconds": 0.0}


class DatabaseError(OSError):
    """The usage database cannot be used. Its text says why, without a password."""


class UsageDatabase:
    """Writes to the usage database, from one thread. Connects when needed, and again after an error.

    Args:
        url: Its URL, as libpq has it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._writer = uuid.uuid4()
        self._batch = 1
        self._connection: Any = None  # psycopg's; it is imported where there is a database

    def add(self, used: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
        """Add usage to the totals by (day, team), all or nothing. On return it is in the database.

        Raises:
            DatabaseError: Nothing was added, or the answer was lost: call again with the same usage, which is
            then added once.
        """
        # In the same order everywhere, so that servers never wait for each other in a circle.
        rows = [{**_NOTHING, **used[place], "day": place[0], "team": place[1]} for place in sorted(used)]
        for row in rows:
            row.update({name: int(row[name]) for name in ("requests", "elements", "bytes")})  # type: ignore[call-overload] # numbers
        try:
            with _errors(self._url):
                connection = self._open()
                with connection.transaction(), connection.cursor() as cursor:
                    if cursor.execute(_NEXT, (self._writer, self._batch)).rowcount:
                        cursor.executemany(_ADD, rows)
        except DatabaseError:
            self._drop()
            raise
        self._batch += 1

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            with _quietly(), _errors(self._url):
                self._connection.execute("DELETE FROM usage_writers WHERE writer = %s", (self._writer,))
        self._drop()

    def _open(self) -> Any:  # noqa: ANN401 -- psycopg's
        if self._connection is None:
            self._connection = _connect(self._url)
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                if not _exists(self._connection):  # its role may be allowed to write only
                    self._connection.execute(_TABLES)
                self._connection.execute(_FORGET)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_database(url: str, since: str, team: str | None) -> list[tuple[str, str, int, int, int, float]]:
    """Read the rows since a day, oldest first, of one team or of all.

    Raises:
        DatabaseError: The database cannot be read.
    """
    with _errors(url), _connect(url) as connection:
        if not _exists(connection):
            return []  # nothing has been written yet
        found: list[tuple[str, str, int, int, int, float]]
        found = connection.execute(_READ, (since, team, team)).fetchall()
        return found


def shown_url(url: str) -> str:
    """Return a database's URL without what is secret in it."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{hosts}{parts.path}"


def check_url(url: str) -> str | None:
    """Return why a database cannot be used, without quoting its URL; None if nothing is wrong with that."""
    try:
        import psycopg.conninfo
    except ModuleNotFoundError:
        return "a database for usage needs psycopg: pip install 'lossd[postgres]'"
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "libpq cannot read the URL; write postgresql://USER:PASSWORD@HOST/DATABASE, with % for signs"
    return None


def _connect(url: str) -> Any:  # noqa: ANN401 -- psycopg's
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url)
    return psycopg.connect(**{**_OPTIONS, **given}, autocommit=True)


def _exists(connection: Any) -> bool:  # noqa: ANN401 -- psycopg's
    return bool(connection.execute("SELECT to_regclass('usage_writers')").fetchone()[0])


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turn psycopg's errors into ours."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        password = urlsplit(url).password
        raise DatabaseError(text.replace(password, "***") if password else text) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """Pass over a row that cannot be deleted: after a month another writer deletes it."""
    try:
        yield
    except DatabaseError:
        return
