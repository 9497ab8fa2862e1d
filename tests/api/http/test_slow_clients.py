"""Which clients are too slow: the guard alone, with a connection that only says what it waits for."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from lossd.api.http.slow_clients import SlowClientGuard, Stage
from lossd.settings import Settings
from lossd.types import RequestError

SETTINGS = Settings(
    header_seconds=10.0,
    stall_seconds=30.0,
    upload_bytes_per_second=1000,
    upload_grace_seconds=4.0,
    upload_pause_seconds=5.0,
)


class Connection:
    """Keeps what the guard does with it; it is its own transport."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.requests = 1
        self.body_bytes = self.unread = 0
        self.done: list[str] = []
        self.transport = cast(asyncio.Transport, self)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def idle_too_long(self, now: float) -> bool:
        return now > 60.0

    def close(self) -> None:
        self.done.append("close")

    def hang_up(self) -> None:
        self.done.append("hang up")

    def linger(self) -> None:
        self.done.append("linger")

    def refuse(self, error: RequestError) -> None:
        self.done.append(error.code)


def seconds_until_ended(connection: Connection, guard: SlowClientGuard, *, rate: int = 0) -> int | None:
    """Look once a second, while a body or an answer moves on at a rate."""
    for second in range(1, 100):
        connection.body_bytes += rate
        connection.unread -= rate
        guard.look(connection, float(second), 1.0)
        if connection.done:
            return second
    return None


@pytest.mark.parametrize(
    ("stage", "rate", "seconds", "end"),
    [
        (Stage.REQUEST, 0, 61, "close"),
        (Stage.HEAD, 0, 11, "upload_too_slow"),
        (Stage.BODY, 0, 5, "upload_too_slow"),
        (Stage.BODY, 500, 9, "upload_too_slow"),
        (Stage.BODY, 1000, None, None),
        (Stage.REST, 0, 2, "linger"),
        (Stage.ANSWER, 0, 31, "hang up"),
        (Stage.ANSWER, 1 << 16, None, None),
        (Stage.NOTHING, 0, None, None),
    ],
)
def test_when_a_client_is_too_slow(stage: Stage, rate: int, seconds: int | None, end: str | None) -> None:
    connection = Connection(stage)
    assert seconds_until_ended(connection, SlowClientGuard(SETTINGS), rate=rate) == seconds
    assert connection.done == ([] if end is None else [end])


def test_what_came_fast_pays_for_a_pause_of_so_long_at_most() -> None:
    guard, connection = SlowClientGuard(SETTINGS), Connection(Stage.BODY)
    connection.body_bytes = 1_000_000
    guard.look(connection, 0.0, 0.0)
    assert seconds_until_ended(connection, guard) == 6


def test_each_request_begins_anew() -> None:
    guard, connection = SlowClientGuard(SETTINGS), Connection(Stage.HEAD)
    for second in range(100):
        connection.requests += second % 9 == 0
        guard.look(connection, float(second), 1.0)
    assert not connection.done
