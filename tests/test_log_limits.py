"""The limits on a process's log."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter

import pytest

from lossd import logs
from lossd.log_limits import RATE, LineLimits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(owner: str | None, level: int = logging.WARNING, line: int = 1) -> logging.LogRecord:
    made = logging.LogRecord("a", level, __file__, line, "text", (), None)
    if owner != "":
        made.owner = owner
    return made


def flood(limits: LineLimits, clock: Clock, owners: list[str], seconds: float) -> Counter[str]:
    """Each owner tries to write 50 lines a second."""
    written: Counter[str] = Counter()
    for _ in range(int(50 * seconds)):
        clock.now += 0.02
        for owner in owners:
            written[owner] += limits.allow(record(owner))
    return written


@pytest.mark.parametrize("rate", [RATE, RATE / 2, RATE / 64])
def test_no_more_lines_than_so_many_whoever_writes(rate: float) -> None:
    clock = Clock()
    limits = LineLimits(rate, clock)
    written = flood(limits, clock, ["one"], 100)
    assert 0.8 * 100 * rate - 4 <= written["one"] <= 100 * rate + 20
    many = flood(limits, clock, [f"owner {number}" for number in range(20)], 20)
    assert sum(many.values()) <= 20 * rate + 20


def test_what_a_caller_causes_is_limited_at_every_level() -> None:
    limits = LineLimits(RATE, Clock())
    assert sum(limits.allow(record("strangers", logging.INFO)) for _ in range(100)) < 25
    assert all(limits.allow(record("", logging.INFO)) for _ in range(100))  # the server's own


@pytest.mark.parametrize(
    ("flooders", "rate"), [(1, RATE), (3, RATE), (30, RATE), (1, RATE / 8), (3, RATE / 8)]
)
def test_nobodys_lines_hide_anothers(flooders: int, rate: float) -> None:
    clock = Clock()
    limits = LineLimits(rate, clock)
    strangers = [f"stranger {number}" for number in range(flooders)]
    flood(limits, clock, strangers, 20)
    seen = 0
    for _ in range(10):  # one line of a team's now and then, beside them
        seen += limits.allow(record("team"))
        flood(limits, clock, strangers, 17.3 * 10 / rate)
    assert seen == 10


def test_what_was_left_out_is_counted() -> None:
    clock = Clock()
    limits = LineLimits(clock=clock)
    written = sum(limits.allow(record("one")) for _ in range(100)) + limits.allow(record("two"))
    left_out = limits.take_left_out()
    assert left_out == (101 - written, "one")
    assert limits.take_left_out() is None


def test_some_tracebacks_a_minute_of_each_fault() -> None:
    clock = Clock()
    limits = LineLimits(clock=clock)

    def fail(*, elsewhere: bool) -> bool:
        made = record("")
        try:
            if elsewhere:
                int("x")
            else:
                int("y")
        except ValueError:
            made.exc_info = sys.exc_info()
        return limits.allow(made)

    written: Counter[bool] = Counter()
    for _ in range(600):  # two minutes
        clock.now += 0.2
        for elsewhere in (False, True):
            written[elsewhere] += fail(elsewhere=elsewhere)
    assert 8 <= min(written.values()) <= max(written.values()) <= 9


def test_what_no_caller_causes_is_not_limited() -> None:
    limits = LineLimits(clock=Clock())
    assert all(limits.allow(record("", logging.INFO)) for _ in range(1000))
    assert all(limits.allow(record(None)) for _ in range(1000))
    assert not all(limits.allow(record("", line=7)) for _ in range(100))
    assert limits.allow(record("", line=8))


def test_owners_are_forgotten() -> None:
    clock = Clock()
    limits = LineLimits(clock=clock)
    for number in range(5000):
        clock.now += 1
        assert limits.allow(record(f"owner {number}"))
    assert len(limits._recent) <= 1024


def test_a_process_says_what_it_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    before, level = logging.root.handlers[:], logging.root.level
    hooks = sys.excepthook, sys.unraisablehook
    try:
        logs.configure("front-end", 0, "info", "json")
        for _ in range(50):
            logs.logger.warning("x" * 100_000)
        time.sleep(1.5)
    finally:
        logging.root.handlers[:] = before
        logging.root.setLevel(level)
        logging.captureWarnings(capture=False)
        sys.excepthook, sys.unraisablehook = hooks
    said = capsys.readouterr().err.splitlines()
    assert 5 < len(said) < 20
    assert f'"left_out": {51 - len(said)},' in said[-1]
    assert all(len(line) < 20_000 for line in said)
