"""The front end's side of the workers: two of them are sockets here, whose other ends the tests hold."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np
import pytest

from lossd.core.catalog import LOSSES, check_params
from lossd.core.grid import Grid
from lossd.engine.arena import Memory, create_memory
from lossd.engine.frames import (
    MAX_FRAME,
    Cancel,
    Failed,
    FromFrontEnd,
    FromWorker,
    Ready,
    Scored,
    Slice,
    WorkerGone,
    WorkerStarted,
    decode_from_front_end,
    encode,
    socket_pair,
)
from lossd.engine.job import Span, recipe_of
from lossd.engine.pool import Pool
from lossd.engine.run import Run
from lossd.engine.single import Single
from lossd.request import Fault, LossRequest, Tensor

BLOCK = 64
BLOCKS = 10
ARENA = 1 << 16
GRID = Grid((BLOCK * BLOCKS,), (0,), BLOCK)
TENSORS = {
    "logits": Tensor("float32", GRID.shape, 0),
    "targets": Tensor("float32", GRID.shape, 4 * GRID.size),
}
REQUEST = LossRequest("bce", TENSORS, check_params(LOSSES["bce"], {}), {})
ONE = Grid((BLOCK,), (0,), BLOCK)


class Worker:
    """A worker's end."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.setblocking(False)

    def messages(self) -> list[list[FromFrontEnd]]:
        found: list[list[FromFrontEnd]] = []
        with suppress(BlockingIOError):
            while data := self.link.recv(MAX_FRAME):
                found.append(decode_from_front_end(data))
        return found

    def hear(self) -> list[FromFrontEnd]:
        return [frame for message in self.messages() for frame in message]

    def slices(self) -> list[Slice]:
        return [frame for frame in self.hear() if isinstance(frame, Slice)]

    def say(self, frame: FromWorker) -> None:
        self.link.send(encode(frame))


class Desk:
    """A pool of two workers, on two devices of a kind."""

    def __init__(self, memory: Memory) -> None:
        self.supervisor, control = socket_pair()
        self.pool = Pool(memory, control, 2, BLOCK, BLOCK)
        self.workers: list[Worker] = []

    async def start_worker(self, number: int, *, failures: int = 0) -> Worker:
        ours, theirs = socket_pair()
        frame = encode(WorkerStarted(number, f"cuda:{number}", 100 + number, failures))
        socket.send_fds(self.supervisor, [frame], [ours.fileno()])
        ours.close()
        worker = Worker(theirs)
        worker.say(Ready("eager", f"cuda:{number}", "2", "x"))
        await turns()
        return worker

    async def end_worker(self, number: int, running: list[int]) -> None:
        self.workers[number].link.close()
        await turns()
        self.supervisor.send(encode(WorkerGone(number, 100 + number, -9, running)))
        await turns()

    async def start(self) -> Run:
        run = await self.pool.start(REQUEST, GRID, None, 1.0)
        run.set_deadline(math.inf)
        run.append(Span(TENSORS, GRID, last=GRID.blocks))
        run.close(GRID)
        return run


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0.001)


def scored(piece: Slice) -> Scored:
    return Scored(piece.id, [float(piece.first)], None, [0.0], BLOCK, [], 0.25)


def failed(piece: Slice, code: str) -> Failed:
    return Failed(piece.id, code, "it is not", [(f"/logits/{piece.first}", "so")])


def run(test: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        fd = create_memory(ARENA)
        desk = Desk(Memory(fd, ARENA))
        try:
            desk.workers = [await desk.start_worker(number) for number in range(2)]
            async with asyncio.timeout(20):
                await test(desk)
        finally:
            desk.pool.close()
            desk.supervisor.close()
            for worker in desk.workers:
                worker.link.close()
            os.close(fd)

    asyncio.run(main())


async def answer_all(desk: Desk, held: Run, seen: list[tuple[int, int]]) -> None:
    """Have the workers score all that they are sent, each a slice in turn."""
    while not held.over:
        for number, worker in enumerate(desk.workers):
            for piece in worker.slices() if worker.link.fileno() >= 0 else ():
                seen.append((number, piece.first))
                worker.say(scored(piece))
                await turns()


def test_a_request_is_one_workers_until_something_of_it_has_been_scored() -> None:
    async def test(desk: Desk) -> None:
        held = await desk.start()
        await turns()
        first, other = desk.workers[0].slices(), desk.workers[1].slices()
        assert sorted(len(one) for one in (first, other)) == [0, 2]
        number = 0 if first else 1
        pieces = first or other
        desk.workers[number].say(scored(pieces[0]))
        await turns()
        found = [worker.slices() for worker in desk.workers]
        assert len(found[number]) + len(found[1 - number]) == 3  # four in all
        assert len(found[1 - number]) == 2
        seen = [(number, pieces[0].first)]
        for at, piece in [(number, pieces[1]), *((i, one) for i in (0, 1) for one in found[i])]:
            seen.append((at, piece.first))
            desk.workers[at].say(scored(piece))
        await turns()
        await answer_all(desk, held, seen)
        result, seconds = await held.result()
        assert sorted(first for _, first in seen) == list(range(BLOCKS))
        assert (result.sum, result.count, seconds) == (sum(range(BLOCKS)), GRID.size, 0.25 * BLOCKS)
        others = sum(1 for at, _ in seen if f"cuda:{at}" != result.device)
        assert result.elsewhere is not None
        assert sum(result.elsewhere.values()) == pytest.approx(0.25 * others)
        assert result.device not in result.elsewhere

    run(test)


@pytest.mark.parametrize("earlier", ["scored", "failed"])
def test_the_first_fault_is_told_whoever_finds_one_first(earlier: str) -> None:
    async def test(desk: Desk) -> None:
        held = await desk.start()
        await turns()
        out = {piece.first: (worker, piece) for worker in desk.workers for piece in worker.slices()}
        worker, piece = out.pop(0)
        worker.say(scored(piece))
        await turns()
        out |= {piece.first: (worker, piece) for worker in desk.workers for piece in worker.slices()}
        assert sorted(out) == [1, 2, 3, 4]
        for first in (3, 2, 4):
            worker, piece = out[first]
            worker.say(failed(piece, f"code {first}"))
            await turns()
            assert not held.over
        assert not [piece for worker in desk.workers for piece in worker.slices()]
        worker, piece = out[1]
        worker.say(scored(piece) if earlier == "scored" else failed(piece, "code 1"))
        await turns()
        with pytest.raises(Fault) as caught:
            await held.result()
        assert caught.value.code == ("code 2" if earlier == "scored" else "code 1")

    run(test)


def test_memory_is_released_when_neither_worker_has_a_slice() -> None:
    async def test(desk: Desk) -> None:
        held = await desk.start()
        await turns()
        (worker, piece), *_ = [(w, p) for w in desk.workers for p in w.slices()]
        worker.say(scored(piece))
        await turns()
        free: list[bool] = []
        held.end(lambda: free.append(True))
        await turns()
        heard = [worker.hear() for worker in desk.workers]
        assert [[frame for frame in one if isinstance(frame, Cancel)] for one in heard] == [
            [Cancel(held.request)],
            [Cancel(held.request)],
        ]
        pieces = [(i, frame.id) for i, one in enumerate(heard) for frame in one if isinstance(frame, Slice)]
        out = {i: set(desk.pool.seats[i].runs) for i in (0, 1)}
        assert all(slice_id in out[i] for i, slice_id in pieces)
        for i, ids in out.items():
            for slice_id in ids:
                assert not free
                desk.workers[i].say(Failed(slice_id, "cancelled", "nobody waits", []))
                await turns()
        assert free == [True]

    run(test)


@pytest.mark.parametrize("when", ["before it is sent", "when it is there"])
def test_what_a_dead_worker_had_is_anothers(when: str) -> None:
    async def test(desk: Desk) -> None:
        held = await desk.start()
        number = 0 if desk.pool.seats[0].runs else 1
        if when == "when it is there":
            await turns()
        await desk.end_worker(number, [])
        seen: list[tuple[int, int]] = []
        await answer_all(desk, held, seen)
        result, _ = await held.result()
        assert seen == [(1 - number, first) for first in range(BLOCKS)]
        assert result.sum == sum(range(BLOCKS))

    run(test)


def test_a_single_request_that_ends_its_worker_twice_is_refused() -> None:
    async def test(desk: Desk) -> None:
        await desk.end_worker(1, [])
        tensors = {name: Tensor("float32", ONE.shape, 0) for name in TENSORS}
        request = LossRequest("bce", tensors, REQUEST.params, {})
        told: list[Single] = []
        free: list[bool] = []

        def then() -> None:
            told.append(single)
            if single.end(lambda: free.append(True)):
                desk.pool.cancel(single)

        recipe = recipe_of(request, tensors, ONE)
        single = desk.pool.start_single(request, ONE, recipe, 0, math.inf, "team", 1.0, "id", then)
        for attempt in (1, 2):
            await turns()
            (piece,) = desk.workers[0].slices()
            assert piece.alone is (attempt == 2)
            assert not told
            await desk.end_worker(0, [piece.id])
            desk.workers[0] = await desk.start_worker(0, failures=attempt)
        assert told == [single]
        assert free == [True]
        with pytest.raises(Fault, match="worker_crashed"):
            single.outcome()
        assert not desk.workers[0].slices()

    run(test)


def test_small_requests_go_a_few_at_a_time() -> None:
    async def test(desk: Desk) -> None:
        await desk.end_worker(1, [])
        tensors = {name: Tensor("float32", ONE.shape, 0) for name in TENSORS}
        request = LossRequest("bce", tensors, REQUEST.params, {})
        recipe = recipe_of(request, tensors, ONE)
        done: list[int] = []
        for i in range(11):
            desk.pool.start_single(
                request,
                ONE,
                recipe,
                64 * i,
                math.inf,
                "team",
                1.0,
                "id",
                lambda i=i: done.append(i),  # type: ignore[misc] # a default binds it
            )
        await turns()
        messages = desk.workers[0].messages()
        assert [len(message) for message in messages] == [1, 4, 4, 2]  # the first at once: all were idle
        pieces = [frame for message in messages for frame in message if isinstance(frame, Slice)]
        assert [piece.base for piece in pieces] == [64 * i for i in range(11)]
        for i in np.random.default_rng(0).permutation(11):
            desk.workers[0].say(scored(pieces[i]))
        await turns()
        assert sorted(done) == list(range(11))

    run(test)
