"""What this server may use of the teams' limits, and what it asks for: the supervisor's view of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from lossd.engine.admission.quota_memory import KINDS, QuotaMemory
from lossd.engine.admission.quotas import WINDOW_SECONDS
from lossd.teams import MOST_TEAMS, Limits, Team

OTHERS: Final = ""
"""Stands, among limits, for all those that no server asks for."""
_SMOOTH_SECONDS: Final = 0.5
_LEAST_DEMAND: Final = 1e-3
_SAME: Final = 1e-9

Shares: TypeAlias = Mapping[str, float]
"""The parts of limits that a server may use, by limit; `OTHERS` has all that are not named."""


class Asked(NamedTuple):
    """What a server asks for of a limit, in parts of it.

    Attributes:
        demand: What it would use if nothing were refused.
        in_use: What is in flight, and cannot be given up.
        share: What it may use now.
    """

    demand: float
    in_use: float
    share: float


class _Limit(NamedTuple):
    name: str
    row: int
    kind: int
    most: float


class QuotaShares:
    """The shares of all limits.

    Args:
        fd: The memory of the quotas.
        front_ends: Number of front ends.
        leased: Whether the shares change while the server runs.
        clock: Seconds, the same for all processes.
    """

    def __init__(
        self, fd: int, front_ends: int, *, leased: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory = QuotaMemory(fd, front_ends, 0, leased=leased, clock=clock)
        self._clock = clock
        self._limits: list[_Limit] = []
        self._counted: dict[str, float] = {}  # by limit: what was used and refused up to the last look
        self._demands: dict[str, float] = {}
        self._looked = clock()
        self._others = 0.0  # the share of all limits that are not named

    def divide(self, servers: int) -> None:
        """Let this server use an equal part of all limits, for good."""
        self._fill(1.0 / servers, set())

    def change(self, teams: Mapping[str, Team], rows: Mapping[str, int]) -> None:
        """Take over other teams or limits; `rows` has the row of each team, which never changes."""
        self._limits = [
            _Limit(f"{kind} {name}", rows[name], kind, most)
            for name, team in teams.items()
            for kind, most in enumerate(msgspec.structs.astuple(team.limits))
            if most is not None and team.limits != Limits()
        ]

    def ask(self, *, leased: bool) -> dict[str, Asked]:
        """Return what this server asks for: `OTHERS`, and each limit that is in use.

        Args:
            leased: Whether it has a lease; else it has been given nothing yet.
        """
        now = self._clock()
        seconds, self._looked = max(now - self._looked, 1e-3), now
        smooth = 1.0 - math.exp(-seconds / _SMOOTH_SECONDS)
        asked = {OTHERS: Asked(0.0, 0.0, self._others if leased else 0.0)}
        for limit in self._limits:
            share = self._share(limit) if leased else 0.0
            in_use, wanted = self._look(limit, seconds)
            demand = self._demands.get(limit.name, 0.0)
            demand += smooth * (wanted - demand)
            self._demands[limit.name] = demand
            if demand >= _LEAST_DEMAND or in_use or (leased and abs(share - self._others) > _SAME):
                asked[limit.name] = Asked(demand if demand >= _LEAST_DEMAND else 0.0, in_use, share)
        return asked

    def take(self, shares: Shares) -> None:
        """Use other shares from now on. What has been used so far is first drained at the old rate."""
        for limit in self._limits:
            share = shares.get(limit.name, shares[OTHERS])
            if abs(share - self._share(limit)) > _SAME:
                if limit.kind < 2:
                    rate = limit.most * max(self._share(limit), _SAME)
                    self._memory.rates.update(2 * limit.row + limit.kind, rate)
                self._memory.withheld[KINDS * limit.row + limit.kind] = 1.0 - share
        if abs(shares[OTHERS] - self._others) > _SAME:
            self._others = shares[OTHERS]
            self._fill(self._others, {(limit.row, limit.kind) for limit in self._limits})

    def _fill(self, share: float, but: set[tuple[int, int]]) -> None:
        """Set the share of every row, future teams' too, except `but`."""
        for row, kind in self._places():
            if (row, kind) not in but:
                self._memory.withheld[KINDS * row + kind] = 1.0 - share

    @staticmethod
    def _places() -> Iterator[tuple[int, int]]:
        return ((row, kind) for row in range(MOST_TEAMS) for kind in range(KINDS))

    def _share(self, limit: _Limit) -> float:
        return 1.0 - self._memory.withheld[KINDS * limit.row + limit.kind]

    def _look(self, limit: _Limit, seconds: float) -> tuple[float, float]:
        """Return the parts of a limit that are in flight, and that were wanted since the last look."""
        memory, row, kind, most = self._memory, limit.row, limit.kind, limit.most
        in_use = debt = 0.0
        counted = sum(refused[KINDS * row + kind] for refused in memory.refused)
        if kind < 2:
            bucket = 2 * row + kind
            counted += memory.rates.used(bucket)
            rate = most * max(self._share(limit), _SAME)
            debt = max(0.0, memory.rates.level(bucket, rate) / most - self._share(limit) * WINDOW_SECONDS)
        else:
            in_use = sum(own[2 * row + kind - 2] for own in memory.in_flight) / most
        more = max(0.0, counted - self._counted.get(limit.name, counted)) / most
        self._counted[limit.name] = counted
        return max(0.0, in_use), debt + (more / seconds if kind < 2 else in_use + more)
