"""From counted to the usage file, while writing it goes wrong and right."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters, encode_key
from lossd.engine.ipc.memory import create_memory
from lossd.engine.supervisor.usage_recorder import UsageRecorder
from lossd.engine.usage_store import first_day, read_usage, total_usage

pytestmark = pytest.mark.slow


@pytest.fixture
def counted() -> Iterator[list[Counters]]:
    fds = [create_memory(COUNTERS_BYTES) for _ in range(2)]
    yield [Counters(fd) for fd in fds]
    for fd in fds:
        os.close(fd)


def count(counters: Counters, *key: str, number: float = 1.0) -> None:
    counters.numbers[counters.cell(encode_key(key))] += number


def requests_of(path: Path, team: str) -> float:
    try:
        return total_usage(read_usage(path, first_day(2), team))["requests"]
    except FileNotFoundError:
        return -1.0


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 -- it is a file that is looked at
            await asyncio.sleep(0.02)


def test_what_was_answered_is_written_down_by_team(tmp_path: Path, counted: list[Counters]) -> None:
    path = tmp_path / "usage.sqlite3"
    count(counted[0], "requests", "bce", "npy", "ok", "a", number=3)
    count(counted[0], "elements", "bce", "a", number=240)
    recorder = UsageRecorder(path, counted)
    count(counted[1], "requests", "focal", "json", "ok", "a", number=2)
    count(counted[1], "requests", "focal", "json", "ok", "b")
    count(counted[1], "requests", "focal", "json", "rate_limited", "b", number=99)
    count(counted[1], "requests", "focal", "none", "unauthorized", "", number=99)
    count(counted[1], "elements", "focal", "a", number=10)
    count(counted[1], "bytes", "a", number=77)
    count(counted[0], "device_seconds", "a", "cpu:0", number=0.25)
    count(counted[1], "device_seconds", "a", "cpu:1", number=0.5)
    count(counted[1], "request_seconds", "read", "sum", number=9)
    recorder.end()
    rows = read_usage(path, first_day(2))
    assert {row.team for row in rows} == {"a", "b"}
    a = total_usage(row for row in rows if row.team == "a")
    assert a == {"requests": 5, "elements": 250, "bytes": 77, "device_seconds": 0.75}
    assert requests_of(path, "b") == 1


def test_it_is_on_the_disk_within_a_second_and_counted_once(tmp_path: Path, counted: list[Counters]) -> None:
    path = tmp_path / "usage.sqlite3"
    recorder = UsageRecorder(path, counted)

    async def follow() -> None:
        for i in range(1, 4):
            count(counted[i % 2], "requests", "bce", "npy", "ok", "a")
            await until(lambda i=i: requests_of(path, "a") == i)  # type: ignore[misc] # mypy has no type for such a lambda

    asyncio.run(follow())
    time.sleep(1.2)
    assert requests_of(path, "a") == 3
    recorder.end()
    successor = UsageRecorder(path, [])  # of a server that has been started anew
    successor.end()
    assert requests_of(path, "a") == 3


def test_what_cannot_be_written_is_kept_and_said_once(
    tmp_path: Path, counted: list[Counters], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "usage.sqlite3"
    path.write_bytes(b"no database" * 500)
    changes = list[bool]()

    async def follow() -> None:
        recorder = UsageRecorder(path, counted)
        task = asyncio.create_task(recorder.follow(lambda: changes.append(recorder.failure is None)))
        await until(lambda: changes == [False])
        for _ in range(4):
            count(counted[0], "requests", "bce", "npy", "ok", "a")
            await asyncio.sleep(0.5)
        assert recorder.failure == "file is not a database"
        path.unlink()
        await until(lambda: requests_of(path, "a") == 4)
        await until(lambda: changes == [False, True])
        task.cancel()
        await asyncio.to_thread(recorder.end)

    with caplog.at_level(logging.INFO):
        asyncio.run(follow())
    said = [
        record.getMessage()
        for record in caplog.records
        if record.name == "lossd.engine.supervisor.usage_recorder"
    ]
    assert len(said) == 2, said
    assert "cannot be written" in said[0]
    assert "again" in said[1]
    assert requests_of(path, "a") == 4


def test_a_lock_is_outwaited_also_at_the_end(tmp_path: Path, counted: list[Counters]) -> None:
    path = tmp_path / "usage.sqlite3"
    recorder = UsageRecorder(path, counted)

    async def follow() -> None:
        await until(lambda: requests_of(path, "a") == 0)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            count(counted[0], "requests", "bce", "npy", "ok", "a")
            await until(lambda: recorder.failure == "database is locked")
            ending = asyncio.create_task(asyncio.to_thread(recorder.end))
            await asyncio.sleep(0.5)
            assert not ending.done()
            other.execute("ROLLBACK")
            await ending

    asyncio.run(follow())
    assert requests_of(path, "a") == 1
