"""Limits on the lines of a process's log: no caller fills a disk with it, and nobody's lines hide another's.

Each line has an owner: the team of its request, all callers without a key together, or the place in the code
that wrote it. All owners share one rate. The more lines an owner has written lately, the more must be left
when it writes another one, so there is always one left for an owner who has written few.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

RATE: Final = 10.0
"""Lines a second, of one process; of all front ends together."""
_BURST_SECONDS: Final = 2.0
_LEAST_BURST: Final = 4.0
_LATELY: Final = 300.0
"""Lines that one owner alone may write in the time that counts as lately."""
_FEW: Final = 5.0
"""An owner who has written this many lately leaves half of a burst to others."""
_TRACEBACKS: Final = 3
"""Tracebacks of one fault that may come at once."""
_TRACEBACK_SECONDS: Final = 20.0
"""Seconds until there may be another one."""
_MOST_OWNERS: Final = 1024
_NEVER: Final = (0.0, 0.0)


class LeftOut(NamedTuple):
    """The lines that were left out.

    Attributes:
        lines: Their number.
        owner: The owner of most of them.
    """

    lines: int
    owner: str


class LineLimits:
    """The limits of one process.

    Lines below a warning that name no owner are not limited, since no caller causes any; nor are those whose
    owner is None.

    Args:
        rate: Lines a second.
        clock: The time in seconds.
    """

    def __init__(self, rate: float = RATE, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._most = max(_LEAST_BURST, _BURST_SECONDS * rate)
        self._memory = _LATELY / rate
        self._left, self._at = self._most, clock()
        self._recent: dict[str, tuple[float, float]] = {}  # by owner: lines lately, and when that was so
        self._traces: dict[str, tuple[float, float]] = {}  # the same for tracebacks, by fault
        self._left_out: dict[str, int] = {}

    def allow(self, record: logging.LogRecord) -> bool:
        """Return whether a line may be written; if not, count it as left out."""
        by_place = None if record.levelno < logging.WARNING else f"{record.name}:{record.lineno}"
        owner: str | None = getattr(record, "owner", by_place)
        if owner is None:
            return True
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        lines, then = self._recent.get(owner, _NEVER)
        lines *= math.exp((then - now) / self._memory)
        needed = 1 + (self._most - 2) * lines / (lines + _FEW)
        if self._left < needed or not self._allow_traceback(record, now):
            self._left_out[owner] = self._left_out.get(owner, 0) + 1
            return False
        self._left -= 1
        _note(self._recent, owner, lines + 1, now)
        return True

    def take_left_out(self) -> LeftOut | None:
        """Return what was left out since the last call, if anything."""
        found, self._left_out = self._left_out, {}
        return LeftOut(sum(found.values()), max(found, key=lambda name: found[name])) if found else None

    def _allow_traceback(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether a line has no traceback, or one that may be written."""
        fault = _fault(record)
        if fault is None:
            return True
        level, then = self._traces.get(fault, _NEVER)
        level = max(0.0, level - (now - then) / _TRACEBACK_SECONDS)
        if level > _TRACEBACKS - 1:
            return False
        _note(self._traces, fault, level + 1, now)
        return True


def _fault(record: logging.LogRecord) -> str | None:
    """Return the place in the code that raised a line's exception; None for a line without one."""
    if not record.exc_info or record.exc_info[1] is None:
        return None
    trace, place = record.exc_info[2], f"{record.name}:{record.lineno}"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _note(counts: dict[str, tuple[float, float]], name: str, count: float, now: float) -> None:
    """Note a count, and forget the oldest if there are too many."""
    counts.pop(name, None)
    counts[name] = count, now
    if len(counts) > _MOST_OWNERS:
        del counts[next(iter(counts))]
