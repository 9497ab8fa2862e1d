from __future__ import annotations

import os

from lossd.engine.ipc.heartbeats import NO_HEARTBEAT, Heartbeat, Heartbeats, Pulse, Row, heartbeats_bytes
from lossd.engine.ipc.memory import create_memory


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def one_row() -> Row:
    return Heartbeats(create_memory(heartbeats_bytes(1, 1)), 1, 1).supervisor


def rows(heartbeats: Heartbeats) -> list[Row]:
    return [heartbeats.supervisor, *heartbeats.front_ends, *heartbeats.workers]


def test_each_process_has_a_row() -> None:
    fd = create_memory(heartbeats_bytes(2, 3))
    writer, reader = rows(Heartbeats(fd, 2, 3)), rows(Heartbeats(fd, 2, 3))
    os.close(fd)
    assert len(writer) == 1 + 2 + 1 + 3  # the third is the admin listener
    assert [row.read() for row in reader] == [NO_HEARTBEAT] * 7
    beats = [
        Heartbeat(1.0 + number, bool(number % 2), 2**63 + number, (63 - number, 2**48 - 1))
        for number in range(7)
    ]
    for row, beat in zip(writer, beats, strict=True):
        row.write(beat)
    assert [row.read() for row in reader] == beats
    writer[-1].write(Heartbeat(13.0))
    assert reader[-1].read() == Heartbeat(13.0, serving=True, answered=0, running=None)


def test_a_heartbeat_that_stops_is_noticed() -> None:
    row, clock = one_row(), Clock()
    row.write(Heartbeat(clock()))
    pulse = Pulse(row, clock)
    for _ in range(40):
        clock.now += 0.25
        pulse.look()
        assert not pulse.hangs(10.0)
    clock.now += 0.25
    pulse.look()
    assert pulse.hangs(10.0)
    row.write(Heartbeat(clock()))
    pulse.look()
    assert not pulse.hangs(10.0)


def test_a_process_that_has_not_begun_to_beat_does_not_hang() -> None:
    clock = Clock()
    pulse = Pulse(one_row(), clock)
    for _ in range(100):
        clock.now += 1.0
        pulse.look()
    assert not pulse.hangs(10.0)
    assert pulse.still_seconds == 100.0


def test_a_machine_that_stood_still_has_not_hung() -> None:
    """Nobody ran, so nobody beat; whoever looks first afterwards must not count that."""
    row, clock = one_row(), Clock()
    row.write(Heartbeat(clock()))
    pulse = Pulse(row, clock)
    for _ in range(5):
        clock.now += 3600.0
        pulse.look()
        assert not pulse.hangs(10.0)
