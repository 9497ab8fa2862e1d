"""The front end's side of the workers: two of them are sockets here, whose other ends the tests hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.dispatch.desk import Desk, run, turns
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.parameters import check_params
from lossd.engine.admission.arena import Arena
from lossd.engine.dispatch import worker_pool
from lossd.engine.dispatch.array_outputs import output_bytes
from lossd.engine.dispatch.job import Batch, Job
from lossd.engine.ipc.messages import Cancel, Cancelled, Failed, Scored, Slice, decode_batch
from lossd.types import ErrorCode, LossRequest, RequestError, Tensor

ELEMENTS = 64
PARTS = 20
ARENA = 1 << 18
CUT = Cut((ELEMENTS * PARTS,), (0,), ELEMENTS)
TENSORS = {
    "logits": Tensor("float32", CUT.shape, 640),
    "targets": Tensor("float32", CUT.shape, 640 + 4 * CUT.size),
}
REQUEST = LossRequest("bce", TENSORS, check_params(LOSSES["bce"], {}), {})


async def start(desk: Desk) -> Job:
    job = await desk.pool.start(REQUEST, CUT, None, 1.0)
    job.append(Batch(TENSORS, CUT, CUT.parts))
    job.close(CUT)
    return job


def scored(part: Slice) -> Scored:
    return Scored(part.id, [float(part.index)], None, [0.0], ELEMENTS, [], 0.25)


def failed(part: Slice, code: ErrorCode) -> Failed:
    return Failed(part.id, code, f"part {part.index} is wrong", [(f"/logits/{part.index}", "so")])


async def answer_all(desk: Desk, job: Job, seen: list[tuple[int, int]]) -> None:
    """Have the workers score all that they are sent, each a slice in turn."""
    while not job.ended:
        for number, worker in enumerate(desk.workers):
            for part in worker.slices() if worker.link.fileno() >= 0 else ():
                seen.append((number, part.index))
                worker.say(scored(part))
                await turns()


def test_a_request_is_one_workers_until_something_of_it_has_been_scored() -> None:
    async def test(desk: Desk) -> None:
        job = await start(desk)
        await turns()
        first, other = desk.workers[0].slices(), desk.workers[1].slices()
        assert sorted(len(one) for one in (first, other)) == [0, 4]
        number = 0 if first else 1
        parts = first or other
        assert {part.batch for part in parts} == {parts[0].batch}
        assert parts[0].base == 640
        assert decode_batch(parts[0].batch).tensors["targets"].offset == 4 * CUT.size
        desk.workers[number].say(scored(parts[0]))
        await turns()
        found = [worker.slices() for worker in desk.workers]
        assert len(found[number]) + len(found[1 - number]) == 5  # eight in all
        assert len(found[1 - number]) == 4
        seen = [(number, parts[0].index)]
        for at, part in [
            *((number, one) for one in parts[1:]),
            *((i, one) for i in (0, 1) for one in found[i]),
        ]:
            seen.append((at, part.index))
            desk.workers[at].say(scored(part))
        await turns()
        await answer_all(desk, job, seen)
        result, seconds = await job.result()
        assert sorted(index for _, index in seen) == list(range(PARTS))
        assert (result.sum, result.count, seconds) == (sum(range(PARTS)), CUT.size, 0.25 * PARTS)
        others = sum(1 for at, _ in seen if f"cuda:{at}" != result.device)
        assert result.kernel == "torch"
        assert result.elsewhere is not None
        assert sum(result.elsewhere.values()) == pytest.approx(0.25 * others)
        assert result.device not in result.elsewhere

    run(test, arena=ARENA, elements=ELEMENTS)


@pytest.mark.parametrize("earlier", ["scored", "failed"])
def test_the_first_error_is_told_whoever_finds_one_first(earlier: str) -> None:
    async def test(desk: Desk) -> None:
        job = await start(desk)
        await turns()
        out = {part.index: (worker, part) for worker in desk.workers for part in worker.slices()}
        worker, part = out.pop(0)
        worker.say(scored(part))
        await turns()
        out |= {part.index: (worker, part) for worker in desk.workers for part in worker.slices()}
        assert sorted(out) == list(range(1, 9))
        for index in (3, 2, *range(4, 9)):
            worker, part = out[index]
            worker.say(failed(part, ErrorCode.NON_FINITE_INPUT))
            await turns()
            assert not job.ended
        assert not [part for worker in desk.workers for part in worker.slices()]
        worker, part = out[1]
        worker.say(scored(part) if earlier == "scored" else failed(part, ErrorCode.NON_FINITE_INPUT))
        await turns()
        with pytest.raises(RequestError) as caught:
            await job.result()
        assert caught.value.detail.startswith("part 2" if earlier == "scored" else "part 1")

    run(test, arena=ARENA, elements=ELEMENTS)


def test_memory_is_released_when_neither_worker_has_a_slice() -> None:
    async def test(desk: Desk) -> None:
        job = await start(desk)
        await turns()
        (worker, part), *_ = [(w, p) for w in desk.workers for p in w.slices()]
        worker.say(scored(part))
        await turns()
        free: list[bool] = []
        job.end(lambda: free.append(True))
        await turns()
        heard = [worker.hear() for worker in desk.workers]
        assert [[message for message in one if isinstance(message, Cancel)] for one in heard] == [
            [Cancel(job.id)],
            [Cancel(job.id)],
        ]
        parts = [
            (i, message.id) for i, one in enumerate(heard) for message in one if isinstance(message, Slice)
        ]
        out = {i: set(desk.pool.slots[i].slices) for i in (0, 1)}
        assert all(slice_id in out[i] for i, slice_id in parts)
        for i, ids in out.items():
            for slice_id in ids:
                assert not free
                desk.workers[i].say(Cancelled(slice_id))
                await turns()
        assert free == [True]

    run(test, arena=ARENA, elements=ELEMENTS)


@pytest.mark.parametrize("when", ["before it is sent", "when it is there"])
def test_what_a_dead_worker_had_is_anothers(when: str) -> None:
    async def test(desk: Desk) -> None:
        job = await start(desk)
        number = 0 if desk.pool.slots[0].slices else 1
        if when == "when it is there":
            await turns()
        await desk.end_worker(number, None)
        seen: list[tuple[int, int]] = []
        await answer_all(desk, job, seen)
        result, _ = await job.result()
        assert seen == [(1 - number, index) for index in range(PARTS)]
        assert result.sum == sum(range(PARTS))

    run(test, arena=ARENA, elements=ELEMENTS)


def test_a_request_that_ends_its_worker_twice_is_refused() -> None:
    async def test(desk: Desk) -> None:
        await desk.end_worker(1, None)
        job = await start(desk)
        free: list[bool] = []
        for attempt in (1, 2):
            await turns()
            parts = desk.workers[0].slices()
            assert [part.index for part in parts] == [0, 1, 2, 3]
            assert not job.ended
            await desk.end_worker(0, parts[0].id)
            desk.workers[0] = await desk.start_worker(0, failures=attempt)
        with pytest.raises(RequestError, match="worker_crashed"):
            await job.result()
        job.end(lambda: free.append(True))
        assert free == [True]
        assert not desk.workers[0].slices()

    run(test, arena=ARENA, elements=ELEMENTS)


def test_sums_of_several_outputs_are_added_up_exactly() -> None:
    """Workers write planes of parts of sums; the answer has them in canonical form."""
    rows, columns, elements = 40, 3, 9  # three rows a part
    cut = Cut((rows, columns), (0,), elements)
    params = check_params(LOSSES["bce"], {"reduction": "mean", "axis": 0})
    tensors = {name: Tensor("float32", cut.shape, 0) for name in TENSORS}
    request = LossRequest("bce", tensors, params, {})
    rng = np.random.default_rng(5)
    values = rng.choice([1e300, -1e300, 1.0, 1e-300, 3e-5], (cut.parts, 2, columns))

    async def test(desk: Desk) -> None:
        arena = Arena(desk.memory, 0, ARENA, "answers")
        output = arena.take(output_bytes(request, cut))
        assert output is not None
        job = await desk.pool.start(request, cut, output, 1.0)
        job.append(Batch(tensors, cut, cut.parts))
        job.close(cut)
        while not job.ended:
            await turns()
            for worker in desk.workers:
                for part in rng.permutation(np.array(worker.slices(), dtype=object)):
                    ((offset, count),) = part.memories
                    memory = np.frombuffer(desk.memory.view, np.float64, count, offset)
                    memory[: 2 * columns] = values[part.index].ravel()
                    worker.say(Scored(part.id, [0.0], None, [0.0], elements, [2], 0.0))
        result, _ = await job.result()
        exact = [math.fsum(values[:, :, column].ravel().tolist()) for column in range(columns)]
        assert isinstance(result.loss, np.ndarray)
        assert result.loss.tolist() == [one / rows for one in exact]
        assert result.loss_terms is not None
        assert result.loss_terms[0].tolist() == exact
        for column in range(columns):
            terms = [float(plane[column]) for plane in result.loss_terms]
            rest = [*values[:, :, column].ravel().tolist(), *(-term for term in terms)]
            assert math.fsum(rest) == 0.0
        assert result.divisor_terms is not None
        assert [plane.tolist() for plane in result.divisor_terms] == [[float(rows)] * columns]

    run(test, arena=ARENA, elements=ELEMENTS)


@pytest.mark.parametrize(("missing", "elements"), [(None, ELEMENTS), ("no compiler", ELEMENTS // 16)])
def test_slices_of_a_report_are_shorter_without_native_code(
    missing: str | None, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "why_missing", lambda: missing)

    async def test(desk: Desk) -> None:
        bce = LOSSES["bce"]
        assert desk.pool.elements_for(bce) == ELEMENTS
        assert desk.pool.elements_for(bce, report=True) == elements

    run(test, arena=ARENA, elements=ELEMENTS)
