"""Turns, in simulated time: an event loop whose clock stands where the next thing happens.

LOSSD_ADMISSION_SEEDS is the number of runs of each simulation.
"""

from __future__ import annotations

import asyncio
import os
import random
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from lossd.engine.admission.concurrency import PATIENCE_SECONDS, ConcurrencyLimiter, Permit
from lossd.types import RequestError

SEEDS = range(int(os.environ.get("LOSSD_ADMISSION_SEEDS", "10")))
BODY = 1000
RATE = 100 * BODY
"""Bytes a second that are scored."""
DEADLINE = 2.0


class _Jump(selectors.SelectSelector):
    """Where the loop would sleep, time passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for ever"
        self.now += timeout
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def simulate(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main)


def limiter(capacity: int) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(capacity, asyncio.get_running_loop().time)


@dataclass
class Seen:
    """What became of a request.

    Attributes:
        team: Whose it was.
        came: When.
        refused: When it was refused, if it was.
        retry_after: What it was told then, in seconds.
        done: When it was scored, if it was.
    """

    team: str
    came: float
    refused: float | None = None
    retry_after: float = 0.0
    done: float | None = None


class Server:
    """Bodies come at once, and are scored one after the other."""

    def __init__(self, turns: ConcurrencyLimiter) -> None:
        self._turns = turns
        self._scoring = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def stop(self, seconds: float) -> None:
        """Score nothing for a while."""
        async with self._scoring:
            await asyncio.sleep(seconds)

    async def serve(self, seen: Seen, patience: float = DEADLINE) -> None:
        try:
            turn = await self._turns.ask(BODY, patience, seen.team)
        except RequestError as fault:
            seen.refused, seen.retry_after = self._loop.time(), fault.retry_after or 0.0
            return
        turn.arrived()
        async with self._scoring:
            await asyncio.sleep(BODY / RATE)
        seen.done = self._loop.time()
        turn.end()


async def come(
    rng: random.Random, server: Server, team: str, rate: float, seconds: float, patience: float = DEADLINE
) -> list[Seen]:
    loop = asyncio.get_running_loop()
    found, tasks = [], []
    ends = loop.time() + seconds
    while True:
        await asyncio.sleep(rng.expovariate(rate))
        if loop.time() >= ends:
            break
        found.append(Seen(team, loop.time()))
        tasks.append(asyncio.create_task(server.serve(found[-1], patience)))
    await asyncio.gather(*tasks)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_of_three_times_what_can_be_done_a_third_is(seed: int) -> None:
    async def main() -> None:
        turns = limiter(10 * BODY)
        rng = random.Random(seed)
        seen = await come(rng, Server(turns), "a", 3 * RATE / BODY, 30.0)
        done = [one.done - one.came for one in seen if one.done is not None]
        refused = [one.refused - one.came for one in seen if one.refused is not None]
        assert len(done) + len(refused) == len(seen)
        assert len(done) >= 0.98 * 30.0 * RATE / BODY
        assert max(done) <= DEADLINE
        assert max(refused) == 0.0  # at once
        assert all(0.5 < one.retry_after < DEADLINE for one in seen if one.refused is not None)
        assert (turns.waiting, turns.nbytes) == (0, 0)

    simulate(main())


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_teams_backlog_is_not_anothers(seed: int) -> None:
    async def main() -> None:
        turns = limiter(4 * BODY)
        rng = random.Random(seed)
        server = Server(turns)
        greedy, modest = await asyncio.gather(
            come(rng, server, "greedy", 5 * RATE / BODY, 20.0),
            come(rng, server, "modest", 0.2 * RATE / BODY, 20.0),
        )
        assert all(one.refused is None for one in modest)
        took = sorted(one.done - one.came for one in modest if one.done is not None)
        assert took[len(took) * 99 // 100] < 20 * BODY / RATE
        assert sum(one.done is not None for one in greedy) > 0.7 * 20.0 * RATE / BODY

    simulate(main())


@pytest.mark.parametrize("seconds", [3.0, 10.0])
def test_what_stands_still_for_a_while_is_no_reason_to_refuse(seconds: float) -> None:
    """As while a worker is replaced: who comes meanwhile, and just after, is served."""

    async def main() -> None:
        server = Server(limiter(10 * BODY))
        coming = asyncio.create_task(come(random.Random(1), server, "a", 0.7 * RATE / BODY, 30.0, 60.0))
        await asyncio.sleep(2.0)
        for _ in range(2):
            await server.stop(seconds)
            await asyncio.sleep(1.0)
        assert all(one.done is not None for one in await coming)

    simulate(main())


def test_who_sends_slowly_is_no_reason_to_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns = limiter(2 * BODY)
        slow = [await turns.ask(BODY, DEADLINE) for _ in range(2)]
        turn = await turns.ask(BODY, DEADLINE)
        assert loop.time() == pytest.approx(PATIENCE_SECONDS)
        assert turns.nbytes == BODY
        turn.arrived()
        other = await turns.ask(BODY, DEADLINE)
        other.arrived()
        assert turns.take(BODY) is None
        for one in slow:
            one.arrived()
            one.end()
        assert turns.take(BODY) is None  # these did not count any more
        turn.end()
        assert turns.nbytes == BODY

    simulate(main())


def test_empty_bodies_have_turns_like_any_other() -> None:
    async def main() -> None:
        turns = limiter(BODY)
        first = await turns.ask(BODY, DEADLINE)
        empty = [asyncio.create_task(turns.ask(0, 60)) for _ in range(2)]
        await asyncio.sleep(0.1)
        first.end()
        for turn in await asyncio.gather(*empty):
            turn.end()
        assert (turns.waiting, turns.nbytes) == (0, 0)
        (await turns.ask(BODY, DEADLINE)).end()

    simulate(main())


def test_one_that_is_too_long_goes_by_itself() -> None:
    async def main() -> None:
        turns = limiter(2 * BODY)
        long = await turns.ask(100 * BODY, DEADLINE)
        long.arrived()
        behind = asyncio.create_task(turns.ask(100 * BODY, DEADLINE))
        await asyncio.sleep(0.1)
        assert not behind.done()
        long.end()
        assert isinstance(await behind, Permit)
        assert turns.take(BODY) is None

    simulate(main())


def test_who_gives_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        turns = limiter(BODY)
        first = await turns.ask(BODY, DEADLINE)
        first.arrived()
        gone = asyncio.create_task(turns.ask(BODY, DEADLINE))
        late = asyncio.create_task(turns.ask(BODY, 0.5))
        patient = asyncio.create_task(turns.ask(BODY, 60))
        await asyncio.sleep(0.1)
        assert turns.waiting == 3
        gone.cancel()
        with pytest.raises(RequestError, match="overloaded"):
            await late
        assert turns.waiting == 1
        first.end()
        (await patient).end()
        assert (turns.waiting, turns.nbytes) == (0, 0)

    simulate(main())
