"""The memory of the quotas: what all front ends used, were refused, and may still use, by team.

Each front end writes numbers of its own; the supervisor writes what is withheld. New memory is all zeros:
nothing is used, and nothing is withheld.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from typing import Final

from lossd.engine.admission.rate_buckets import RateBuckets
from lossd.teams import MOST_TEAMS

KINDS: Final = 4
"""Number of limits of a team, in the order of the fields of `Limits`: two rates, then what is in flight."""
_RATES: Final = 2
_BUCKETS: Final = _RATES * MOST_TEAMS
_OWN: Final = (_RATES + KINDS) * MOST_TEAMS  # each front end's: in flight, and refused


def quotas_bytes(front_ends: int) -> int:
    """Return the bytes of memory that the quotas need; most of its pages are never touched."""
    return 8 * (_rate_numbers(front_ends) + front_ends * _OWN + KINDS * MOST_TEAMS)


def _rate_numbers(front_ends: int) -> int:
    return RateBuckets.numbers_needed(_BUCKETS, front_ends)


class QuotaMemory:
    """The memory, as one process sees it.

    Args:
        fd: The memory, `quotas_bytes` long, from `create_memory`. It stays open.
        front_ends: Number of front ends.
        index: This one's number; any of them for a process that uses nothing itself.
        leased: Whether the supervisor changes what is withheld while the server runs.
        clock: Seconds, the same for all processes.

    Attributes:
        rates: The buckets: ``2 * row`` of a team's requests, ``2 * row + 1`` of its elements.
        in_flight: By front end, at ``2 * row``, a team's requests, and their bytes next.
        refused: By front end, at ``KINDS * row + kind``, the units that a limit has refused.
        withheld: At ``KINDS * row + kind``, the part of a limit that this server may not use, of 1.
    """

    def __init__(
        self,
        fd: int,
        front_ends: int,
        index: int,
        *,
        leased: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        numbers = memoryview(mmap.mmap(fd, quotas_bytes(front_ends))).cast("d")
        first = _rate_numbers(front_ends)
        alone = front_ends == 1 and not leased
        self.rates: Final = RateBuckets(
            fd, numbers[:first], _BUCKETS, front_ends, index, clock, locked=not alone
        )
        starts = [first + i * _OWN for i in range(front_ends)]
        border = _RATES * MOST_TEAMS
        self.in_flight: Final = [numbers[start : start + border] for start in starts]
        self.refused: Final = [numbers[start + border : start + _OWN] for start in starts]
        self.withheld: Final = numbers[first + front_ends * _OWN :][: KINDS * MOST_TEAMS]
