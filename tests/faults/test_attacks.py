"""A server under attack, and what a small team notices: each in a few seconds, and in a soak for longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from bench.attacks.hangs import NOTICED_SECONDS, PARTS, hang
from bench.attacks.plans import PLANS
from bench.attacks.siege import LONG, SHORT, Place, Siege
from faults.asked import SOAK, scaled

pytestmark = pytest.mark.alone  # beside other tests, their work is what a small request waits for

SIEGED = [plan for plan in PLANS.values() if SOAK or plan.short]
TRIES = 2
"""The machines that run this are shared."""


Sieges = Callable[[Place], Siege]


@pytest.fixture(scope="module")
def sieges() -> Iterator[Sieges]:
    """A server for each place, begun when it is first asked for."""
    with ExitStack() as stack:
        yield cache(lambda place: stack.enter_context(Siege(place, scaled(SHORT, LONG))))


@pytest.mark.timeout(120 if not SOAK else 300)
@pytest.mark.parametrize("name", [plan.name for plan in SIEGED])
def test_a_small_team_is_served_beside(sieges: Sieges, name: str, say: Callable[[str], None]) -> None:
    plan = PLANS[name]
    for _ in range(TRIES):
        result = sieges(plan.place).under(plan)
        if not (broken := result.broken()):
            break
    say(result.figures)
    assert not broken, f"{plan.what}: {'; '.join(broken)}"


@pytest.mark.skipif(not SOAK, reason="takes minutes; make soak runs it")
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_hangs_is_noticed(part: str, say: Callable[[str], None]) -> None:
    with Siege("teams", LONG) as siege:
        found = hang(siege, part)
    say(f"{part}: noticed after {found.noticed} s, a new caller served after {found.served} s")
    assert found.noticed is not None
    assert found.noticed < NOTICED_SECONDS
    assert found.served is not None
