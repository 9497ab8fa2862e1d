from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import uvloop

from lossd.api.helpers.process import Helper, HelperDiedError, HelperHungError

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
Runner: TypeAlias = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(autouse=True)
def where_the_handlers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    found: Runner = request.param
    return found


@asynccontextmanager
async def a_helper(
    fds: tuple[int, ...] = (),
    seconds: float = 30.0,
    hang_seconds: float = 10.0,
    when_hung: Callable[[], None] = lambda: None,
) -> AsyncIterator[Helper]:
    """A helper that must leave nothing behind."""
    helper = Helper("api.helpers.handlers", "", fds, seconds, hang_seconds, when_hung)
    try:
        yield helper
    finally:
        pid = helper.pid
        await helper.close()
        assert helper.pid is None
        assert pid is None or not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ask(helper: Helper, request: bytes) -> bytes:
    """Ask, and check that the helper reports once that it is done."""
    ended: list[None] = []
    try:
        answer = await helper.call(request, lambda: ended.append(None))
    finally:
        await asyncio.sleep(0)
        assert len(ended) == 1
    return answer


async def pid_of(helper: Helper) -> int:
    return int((await ask(helper, b"pid")).split()[0])


def test_requests_and_answers_of_any_length(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            assert helper.pid is None  # not before it is needed
            for length in (0, 1, 1 << 16, 3_000_000):
                assert (await ask(helper, b"echo " + length * b"x")).endswith(b" " + length * b"x")
            assert await pid_of(helper) == helper.pid

    run(check())


def test_one_after_the_other(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            order: list[int] = []

            async def one(number: int) -> None:
                assert (await ask(helper, b"echo %d" % number)).endswith(b" %d" % number)
                order.append(number)

            await asyncio.gather(*(one(number) for number in range(50)))
            assert order == list(range(50))

    run(check())


def test_printed_text_is_not_an_answer(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            assert await ask(helper, b"print") == b"printed"

    run(check())


def test_it_inherits_descriptors(run: Runner) -> None:
    async def check() -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"shared")
            file.flush()
            async with a_helper((file.fileno(),)) as helper:
                assert await ask(helper, b"descriptor %d" % file.fileno()) == b"shared"

    run(check())


def test_it_has_low_priority_and_ignores_signals(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            assert int(await ask(helper, b"nice")) == os.nice(0) + 10
            pid = await pid_of(helper)
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
            assert await pid_of(helper) == pid

    run(check())


def test_a_dead_helper_is_replaced_and_the_request_tried_again(run: Runner, tmp_path: Path) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            first = await pid_of(helper)
            answer = await ask(helper, b"die-once " + os.fsencode(tmp_path / "mark"))
            assert int(answer.split()[0]) not in (first, 0)
            assert not alive(first)

    run(check())


def test_a_death_between_requests_costs_none(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            for _ in range(3):
                os.kill(await pid_of(helper), signal.SIGKILL)
            await pid_of(helper)

    run(check())


@pytest.mark.parametrize("request_", [b"die", b"raise it"])
def test_a_request_that_kills_it_twice_fails(run: Runner, request_: bytes) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            with pytest.raises(HelperDiedError):
                await ask(helper, request_)
            assert helper.pid is None
            await pid_of(helper)

    run(check())


def test_a_helper_that_computes_for_too_long_is_killed(run: Runner) -> None:
    async def check() -> None:
        async with a_helper(seconds=0.5) as helper:
            pid = await pid_of(helper)
            with pytest.raises(HelperDiedError):
                await ask(helper, b"compute 600")
            assert not alive(pid)
            await pid_of(helper)

    run(check())


def test_a_helper_that_hangs_twice_is_killed_twice(run: Runner) -> None:
    async def check() -> None:
        hangs: list[None] = []
        async with a_helper(hang_seconds=1.0, when_hung=lambda: hangs.append(None)) as helper:
            pid = await pid_of(helper)
            with pytest.raises(HelperHungError):
                await ask(helper, b"hang")
            assert len(hangs) == 2
            assert not alive(pid)
            await pid_of(helper)

    run(check())


def test_a_stopped_helper_is_replaced_and_the_request_tried_again(run: Runner) -> None:
    async def check() -> None:
        hangs: list[None] = []
        async with a_helper(hang_seconds=1.0, when_hung=lambda: hangs.append(None)) as helper:
            first = await pid_of(helper)
            os.kill(first, signal.SIGSTOP)
            assert await pid_of(helper) != first
            assert len(hangs) == 1
            assert not alive(first)

    run(check())


def test_a_helper_that_computes_does_not_hang(run: Runner) -> None:
    """Nor does one that hardly gets a processor: it is stopped for 9 of 10 parts of the time."""

    async def check() -> None:
        async with a_helper(hang_seconds=1.0) as helper:
            pid = await pid_of(helper)
            task = asyncio.create_task(ask(helper, b"compute 0.3"))
            while not task.done():
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(0.45)
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.05)
            assert int((await task).split()[0]) == pid

    run(check())


def test_teams_take_turns(run: Runner) -> None:
    """One team's backlog, which came first, costs another team one of its requests at most."""

    async def check() -> None:
        async with a_helper() as helper:
            order: list[str] = []

            async def one(team: str, request: bytes, weight: float) -> None:
                await helper.call(request, lambda: None, team, weight)
                order.append(team)

            backlog = [asyncio.create_task(one("greedy", b"compute 0.1", 1.0)) for _ in range(20)]
            await asyncio.sleep(0.05)
            await asyncio.gather(*(one("modest", b"compute 0.01", 1.0) for _ in range(5)))
            assert len([team for team in order if team == "greedy"]) <= 2
            for task in backlog:
                task.cancel()
            await asyncio.wait(backlog)

    run(check())


def test_a_request_that_waits_is_idle_as_soon_as_it_is_given_up(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            begun = asyncio.create_task(ask(helper, b"compute 0.5"))
            await asyncio.sleep(0.01)
            idle: list[bytes] = []
            waiting = asyncio.create_task(helper.call(b"die", lambda: idle.append(b"idle")))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert idle == [b"idle"]
            assert not begun.done()
            await begun
            await pid_of(helper)
            assert idle == [b"idle"]

    run(check())


def test_a_cancelled_request_that_has_begun_goes_on(run: Runner, tmp_path: Path) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            pid = await pid_of(helper)
            fifo = tmp_path / "fifo"
            os.mkfifo(fifo)
            idle = asyncio.Event()
            begun = asyncio.create_task(helper.call(b"read " + os.fsencode(fifo), idle.set))
            waiting_idle = asyncio.Event()
            waiting = asyncio.create_task(helper.call(b"die", waiting_idle.set))
            await asyncio.sleep(0.01)
            begun.cancel()
            waiting.cancel()
            await asyncio.wait([begun, waiting])
            await asyncio.sleep(0)
            assert begun.cancelled()
            assert waiting.cancelled()
            assert waiting_idle.is_set()
            assert not idle.is_set()
            fifo.write_bytes(b"go on")
            await asyncio.wait_for(idle.wait(), 10)
            assert await pid_of(helper) == pid

    run(check())


def test_a_cancelled_request_that_computes_gives_way_to_others(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            pid = await pid_of(helper)
            idle = asyncio.Event()
            begun = asyncio.create_task(helper.call(b"compute 600", idle.set))
            await asyncio.sleep(0.01)
            begun.cancel()
            await asyncio.wait([begun])
            await asyncio.sleep(2.0)
            assert not idle.is_set()  # nobody else waits
            assert await asyncio.wait_for(pid_of(helper), 30) != pid
            assert idle.is_set()
            assert not alive(pid)

    run(check())


def test_closing_ends_requests_in_flight(run: Runner) -> None:
    async def check() -> None:
        async with a_helper() as helper:
            pid = await pid_of(helper)
            idle: list[bool] = []
            begun = asyncio.create_task(helper.call(b"hang", lambda: idle.append(alive(pid))))
            waiting = asyncio.create_task(ask(helper, b"pid"))
            await asyncio.sleep(0.01)
            await helper.close()
            await asyncio.wait([begun, waiting])
            assert idle == [False]
            assert begun.cancelled()
            assert waiting.cancelled()

    run(check())


def processor_seconds(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)


FRONT_END = """
import asyncio
from lossd.api.helpers.process import Helper

async def main():
    helper = Helper("api.helpers.handlers", "", (), 600, 10)
    print((await helper.call(b"pid", lambda: None)).decode(), flush=True)
    await helper.call(b"compute 600", lambda: None)

asyncio.run(main())
"""


def test_it_ends_with_a_killed_front_end() -> None:
    with subprocess.Popen([sys.executable, "-c", FRONT_END], stdout=subprocess.PIPE, text=True) as front_end:
        assert front_end.stdout is not None
        pid = int(front_end.stdout.readline())
        began = processor_seconds(pid)
        while processor_seconds(pid) < began + 0.2:  # it computes
            time.sleep(0.01)
        front_end.kill()
    ends = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < ends
        time.sleep(0.01)
