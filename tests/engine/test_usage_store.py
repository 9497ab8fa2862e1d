"""The usage file, with real files and real faults of theirs."""

from __future__ import annotations

import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import pytest

from lossd.engine.usage_store import FIELDS, UsageStore, Used, read_usage, total_usage

DAY = "2026-03-01"
SINCE = date(2026, 3, 1)
SOME = dict(zip(FIELDS, (2.0, 160.0, 1000.0, 0.25), strict=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lossd" / "usage.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[UsageStore]:
    with closing(UsageStore(path)) as found:
        yield found


@contextmanager
def file_sizes_up_to(nbytes: int) -> Iterator[None]:
    """This process's files cannot grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_days_totals_are_sums(store: UsageStore, path: Path) -> None:
    store.add({(DAY, "b"): SOME, ("2026-02-28", "b"): SOME})
    store.add({(DAY, "b"): SOME, (DAY, "a"): {"requests": 1.0}})
    store.add({("2026-03-02", "a"): SOME})
    a, b = Used(DAY, "a", 1, 0, 0, 0.0), Used(DAY, "b", 4, 320, 2000, 0.5)
    later = Used("2026-03-02", "a", 2, 160, 1000, 0.25)
    assert read_usage(path, SINCE) == [a, b, later]
    assert read_usage(path, SINCE, "a") == [a, later]
    assert read_usage(path, SINCE, "c") == []
    assert total_usage([b, later]) == {"requests": 6, "elements": 480, "bytes": 3000, "device_seconds": 0.75}
    assert total_usage([]) == {"requests": 0, "elements": 0, "bytes": 0, "device_seconds": 0.0}


def test_what_is_made_is_its_owners_alone(store: UsageStore, path: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    store.add({})
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}
    made = list(path.parent.iterdir())
    assert path in made
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}


def test_several_may_write_to_a_file(path: Path) -> None:
    with closing(UsageStore(path)) as one, closing(UsageStore(path)) as other:
        for _ in range(10):
            one.add({(DAY, "a"): SOME})
            other.add({(DAY, "a"): SOME})
        assert read_usage(path, SINCE) == [Used(DAY, "a", 40, 3200, 20000, 5.0)]


def test_a_new_file_takes_the_place_of_one_that_was_taken_away(store: UsageStore, path: Path) -> None:
    store.add({(DAY, "a"): SOME})
    for file in path.parent.iterdir():
        file.unlink()
    store.add({(DAY, "a"): SOME})
    assert read_usage(path, SINCE) == [Used(DAY, "a", 2, 160, 1000, 0.25)]


def test_on_a_full_disk_nothing_is_added_and_nothing_lost(store: UsageStore, path: Path) -> None:
    store.add({(DAY, "a"): SOME})
    many = {(DAY, f"team{i}"): SOME for i in range(2000)}
    for _ in range(3):
        with file_sizes_up_to(65536), pytest.raises(sqlite3.OperationalError):
            store.add({(DAY, "a"): SOME, **many})
        assert read_usage(path, SINCE) == [Used(DAY, "a", 2, 160, 1000, 0.25)]
    store.add({(DAY, "a"): SOME, **many})
    assert len(read_usage(path, SINCE)) == 2001
    assert read_usage(path, SINCE, "a") == [Used(DAY, "a", 4, 320, 2000, 0.5)]


def test_what_another_has_locked_is_waited_for_but_not_long(store: UsageStore, path: Path) -> None:
    store.add({(DAY, "a"): SOME})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.add({(DAY, "a"): SOME})
        assert read_usage(path, SINCE) == [Used(DAY, "a", 2, 160, 1000, 0.25)]
    store.add({(DAY, "a"): SOME})
    assert total_usage(read_usage(path, SINCE))["requests"] == 4


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_another_kind_of_file_is_left_as_it_is(store: UsageStore, path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError):
        store.add({(DAY, "a"): SOME})
    with pytest.raises(sqlite3.DatabaseError):
        read_usage(path, SINCE)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = UsageStore(tmp_path / "file" / "usage.sqlite3")
    with closing(store), pytest.raises(OSError, match="file"):
        store.add({})


def test_what_a_killed_writer_left_unfinished_is_undone_by_who_reads(store: UsageStore, path: Path) -> None:
    store.add({(DAY, f"team{i}"): SOME for i in range(500)})
    store.close()
    unfinished = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size = 1')\n"  # so that it writes to the file before the end
        "connection.execute('BEGIN')\n"
        "connection.execute('UPDATE usage SET requests = 99')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", unfinished, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(f"{path.name}-journal").stat().st_size
    assert {row.requests for row in read_usage(path, SINCE)} == {2}


def test_reading_makes_no_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_usage(path, SINCE)
    path.parent.mkdir(parents=True)
    path.touch()  # as it is before anything has been written
    assert read_usage(path, SINCE) == []
