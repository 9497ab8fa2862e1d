from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest
import uvloop

from lossd.api.helpers.json_parser import Parser
from lossd.engine.admission.arena import Arena, Region
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.types import Body, RequestError
from lossd.wire.json.document import arena_bytes
from wire.feeding import array_of, check_error, same_bits

pytestmark = pytest.mark.slow

SIZE = 256 << 20
X = np.random.default_rng(0).normal(0, 3, (10_000, 80))
LARGE = orjson.dumps({"gamma": 2, "logits": X, "targets": X}, option=orjson.OPT_SERIALIZE_NUMPY)


def later(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


class Parsing:
    """An arena, and a parser at work in it."""

    def __init__(self, fd: int) -> None:
        self.arena = Arena(Memory(fd, SIZE), 0, SIZE, "tests")
        self.parser = Parser(fd, SIZE, seconds=30.0, hang_seconds=10.0)

    async def store(self, document: bytes) -> Region:
        """A region that holds a document, with room for its arrays."""
        region = await self.arena.reserve(arena_bytes(len(document)), 10)
        region.view[: len(document)] = document
        return region

    async def parse(self, document: bytes) -> tuple[Body, bytes]:
        """The parsed document, and the region's bytes."""
        region = await self.store(document)
        try:
            body = await self.parser.parse_document(region, len(document), deadline=later())
            return body, bytes(region.view)
        finally:
            region.release()

    async def refused(self, document: bytes) -> RequestError:
        with pytest.raises(RequestError) as caught:
            await self.parse(document)
        check_error(caught.value)
        return caught.value


@asynccontextmanager
async def open_parser() -> AsyncIterator[Parsing]:
    """A parser that must leave nothing behind."""
    fd = create_memory(SIZE)
    setup = Parsing(fd)
    os.close(fd)
    try:
        yield setup
        assert setup.arena.reserved == 0
    finally:
        pid = setup.parser.pid
        await setup.parser.close()
        assert pid is None or not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def check_large(parsed: tuple[Body, bytes]) -> None:
    body, region = parsed
    assert body.params == {"gamma": 2}
    assert body.arrays == {}
    for name in ("logits", "targets"):
        assert same_bits(array_of(body.tensors[name], region), X)


async def documents() -> None:
    async with open_parser() as setup:
        check_large(await setup.parse(LARGE))

        params = {
            "a": None,
            "b": [True, -0.0, 1e22, 10**300, 0.1],
            "c": {"é\u2028": "x"},
            "big": "y" * 500_000,
        }
        body, region = await setup.parse(json.dumps({"targets": [[1, 0]], **params}).encode())
        assert body.params == params
        assert repr(body.params) == repr(params)
        assert same_bits(array_of(body.tensors["targets"], region), np.array([[1.0, 0.0]]))

        body, region = await setup.parse(b'{"targets": [1, null], "logits": ["-Infinity", 7]}')
        assert same_bits(array_of(body.tensors["targets"], region), np.array([1, np.nan]))
        assert same_bits(array_of(body.tensors["logits"], region), np.array([-np.inf, 7]))

        error = await setup.refused(b'{"logits": [[1, 2], [3]]}')
        assert error.code == "bad_shape"
        assert error.errors == (("/logits/1", "1 elements, but the arrays before have 2"),)
        assert (await setup.refused(b'{"logits": [1, 2')).code == "malformed_json"
        assert (await setup.refused(b'{"logits": [null]}')).code == "dtype_not_allowed"


def test_documents_and_their_errors() -> None:
    uvloop.run(documents())


async def part_of(region: Region, length: int) -> None:
    """Wait until some of a document's first tensor has been stored."""
    while not any(region.view[length + 64 : length + 128]):  # noqa: ASYNC110 -- memory sets no event
        await asyncio.sleep(0)


async def killed(times: int) -> None:
    async with open_parser() as setup:
        await setup.parse(b'{"logits": [1]}')
        region = await setup.store(LARGE)
        task = asyncio.create_task(setup.parser.parse_document(region, len(LARGE), deadline=later()))
        for _ in range(times):
            region.view[len(LARGE) + 64 : len(LARGE) + 128] = bytes(64)
            await part_of(region, len(LARGE))
            pid = setup.parser.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while setup.parser.pid == pid:  # noqa: ASYNC110 -- nor does a process of another's
                await asyncio.sleep(0)
        try:
            check_large((await task, bytes(region.view)))
        finally:
            region.release()


def test_killed_in_the_middle() -> None:
    uvloop.run(killed(1))


def test_killed_in_the_middle_twice() -> None:
    with pytest.raises(RequestError) as caught:
        uvloop.run(killed(2))
    check_error(caught.value)
    assert caught.value.code == "internal_error"


async def given_up(*, by_deadline: bool) -> None:
    async with open_parser() as setup:
        await setup.parse(b'{"logits": [1]}')
        region = await setup.store(LARGE)
        deadline = time.monotonic() + 0.02 if by_deadline else later()
        task = asyncio.create_task(setup.parser.parse_document(region, len(LARGE), deadline=deadline))
        await part_of(region, len(LARGE))
        if not by_deadline:
            task.cancel()
        await asyncio.wait([task])
        region.release()
        assert setup.arena.reserved == region.nbytes  # it is still being written to
        if by_deadline:
            error = task.exception()
            assert isinstance(error, RequestError)
            assert error.code == "deadline_exceeded"
        check_large(await setup.parse(LARGE))
        assert setup.arena.reserved == 0


def test_memory_is_held_while_the_helper_writes() -> None:
    uvloop.run(given_up(by_deadline=False))
    uvloop.run(given_up(by_deadline=True))


async def longest_turns() -> list[float]:
    """The longest block of the event loop while large documents were parsed."""
    async with open_parser() as setup:
        await setup.parse(b'{"logits": [1]}')
        region = await setup.store(LARGE)
        parsing = asyncio.gather(
            *(setup.parser.parse_document(region, len(LARGE), deadline=later()) for _ in range(3))
        )
        turns = []
        last = time.perf_counter()
        while not parsing.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            turns.append(now - last)
            last = now
        await parsing
        region.release()
    return turns


def test_the_event_loop_is_not_blocked() -> None:
    turns = uvloop.run(longest_turns())
    assert len(turns) > 50
    assert sorted(turns)[int(0.95 * len(turns))] < 0.01  # seconds; more is another process's turn


def test_the_helper_imports_neither_torch_nor_the_http_framework() -> None:
    script = """
import sys, lossd.api.helpers.json_parser
assert not {"torch", "fastapi", "starlette", "uvicorn", "pydantic", "pyarrow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
