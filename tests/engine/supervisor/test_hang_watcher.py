from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters, encode_key
from lossd.engine.ipc.heartbeats import Heartbeat, Heartbeats, Pulse, Row, heartbeats_bytes
from lossd.engine.ipc.memory import create_memory
from lossd.engine.supervisor.hang_watcher import HangWatcher
from lossd.engine.supervisor.processes import ROLES, Child, Role

HANG_SECONDS = 1.0
START_SECONDS = 2.0


class Watched:
    """Processes that do nothing, and a watcher that looks at them."""

    def __init__(self) -> None:
        heartbeats = Heartbeats(create_memory(heartbeats_bytes(1, 2)), 1, 2)
        self.rows: dict[Role, Row] = {
            "front-end": heartbeats.front_ends[0],
            "admin": heartbeats.front_ends[1],
            "worker": heartbeats.workers[0],
        }
        self.children: list[Child] = []
        self.counters = Counters(create_memory(COUNTERS_BYTES))
        self.watcher = HangWatcher(self.children, self.counters, HANG_SECONDS, START_SECONDS)

    async def start(self, role: Role) -> Child:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
        control, theirs = socket.socketpair()
        theirs.close()
        child = Child(role, 0, process, control, time.monotonic(), 0, Pulse(self.rows[role]))
        self.children.append(child)
        return child

    def hangs(self, role: Role) -> float:
        return self.counters.get(encode_key(("process_hangs", role)))

    async def run(self, act: Coroutine[Any, Any, None]) -> None:
        watching = asyncio.create_task(self.watcher.follow())
        try:
            await act
        finally:
            watching.cancel()
            for child in self.children:
                child.control.close()
                child.kill()
                await child.process.wait()


async def beat(row: Row, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(row.beat(lambda: True), seconds)


def test_a_process_of_any_kind_is_killed_and_counted_once() -> None:
    watched = Watched()

    async def act() -> None:
        for role in ROLES:
            watched.rows[role].write(Heartbeat(time.monotonic()))
            await watched.start(role)
        began = time.monotonic()
        for child in watched.children:
            assert await asyncio.wait_for(child.process.wait(), 30) == -9
        assert time.monotonic() - began > HANG_SECONDS
        await asyncio.sleep(2 * HANG_SECONDS / 3)  # they are still there: nobody has taken note of their ends
        assert [watched.hangs(role) for role in ROLES] == [1.0] * len(ROLES)

    asyncio.run(watched.run(act()))


def test_a_process_that_beats_is_left_alone() -> None:
    watched = Watched()

    async def act() -> None:
        child = await watched.start("front-end")
        await beat(watched.rows["front-end"], 3 * HANG_SECONDS)
        assert child.process.returncode is None
        assert watched.hangs("front-end") == 0.0

    asyncio.run(watched.run(act()))


def test_the_time_to_start_is_not_a_hang() -> None:
    watched = Watched()

    async def act() -> None:
        child = await watched.start("front-end")
        await asyncio.sleep(1.25 * HANG_SECONDS)
        assert child.process.returncode is None
        assert await asyncio.wait_for(child.process.wait(), 30) == -9  # but it takes no longer than allowed

    asyncio.run(watched.run(act()))
