"""Counters in shared memory, as those who come later and those beside see them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters, totals
from lossd.engine.ipc.memory import create_memory


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_memory(COUNTERS_BYTES)
    yield fd
    os.close(fd)


def test_a_successor_goes_on_with_what_was_counted(fd: int) -> None:
    first = Counters(fd)
    first.numbers[first.cell(b"requests")] += 3.0
    first.numbers[first.cell(b"seconds")] += 0.25
    second = Counters(fd)
    second.numbers[second.cell(b"requests")] += 2.0
    second.numbers[second.cell(b"elements")] += 80.0
    expected = {b"requests": 5.0, b"seconds": 0.25, b"elements": 80.0}
    assert dict(second.items()) == dict(first.items()) == expected
    assert first.get(b"elements") == 80.0
    assert first.get(b"bytes") == 0.0


def test_totals_are_sums_by_key(fd: int) -> None:
    other_fd = create_memory(COUNTERS_BYTES)
    one, other = Counters(fd), Counters(other_fd)
    os.close(other_fd)
    one.numbers[one.cell(b"a")] = 1.5
    other.numbers[other.cell(b"b")] = 7.0
    other.numbers[other.cell(b"a")] = 2.0
    assert totals([one, other]) == {b"a": 3.5, b"b": 7.0}


def test_when_it_is_full_the_rest_is_not_counted(fd: int, caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters(fd)
    room = COUNTERS_BYTES // 256 - 1
    for i in range(room):
        counters.numbers[counters.cell(b"%d" % i)] = float(i)
    counters.numbers[counters.cell(b"beyond")] += 1.0
    counters.numbers[counters.cell(b"beyond")] += 1.0
    assert len(caplog.records) == 1
    assert dict(Counters(fd).items()) == {b"%d" % i: float(i) for i in range(room)}


def test_keys_have_a_longest(fd: int) -> None:
    counters = Counters(fd)
    counters.numbers[counters.cell(b"k" * 240)] = 1.0
    counters.numbers[counters.cell(b"l")] = 2.0
    assert dict(Counters(fd).items()) == {b"k" * 240: 1.0, b"l": 2.0}
    with pytest.raises(AssertionError):
        counters.cell(b"k" * 241)
