"""Reports of requests that are scored in slices: the same figures whatever becomes of these."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import report_reference
from core.scoring import KERNELS, Array, lay, sums, work
from engine.dispatch.desk import Desk, run, turns
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.parameters import check_params, options_of, own_params, reduced_axes
from lossd.core.prepare import prepare, report_of
from lossd.engine.admission.arena import Arena, Region
from lossd.engine.dispatch import report_outputs
from lossd.engine.dispatch.array_outputs import cut_for
from lossd.engine.dispatch.job import Batch, Job
from lossd.engine.dispatch.report_outputs import (
    LARGE_BYTES,
    ReportPlan,
    plan_report,
    report_cut,
    reserved_bytes,
)
from lossd.engine.dispatch.row_stream import RowStream
from lossd.engine.ipc.messages import Cancelled, Scored, Slice, decode_batch
from lossd.types import ErrorCode, LossRequest, RequestError, Tensor

ARENA, OUTPUTS = 1 << 28, 1 << 24
"""Bytes of the arena, and where its part for answers begins."""
ROWS, CLASSES = 60, 5
RNG = np.random.default_rng(22)
X = np.round(RNG.normal(0, 3, (ROWS, CLASSES)), 1).astype(np.float32)  # rounded, so that losses are equal
ASKED = report_reference.Request(
    loss="focal",
    inputs=X,
    targets=(RNG.random(X.shape) < 0.3).astype(np.uint8),
    weight=RNG.random(X.shape).astype(np.float32),
    mask=RNG.random(X.shape) < 0.9,
    groups={"group0": RNG.integers(0, 4, ROWS), "group1": RNG.integers(-2, 2, ROWS)},
    ids=RNG.permutation(ROWS).astype(np.int64) - 30,
    baseline=(X + np.round(RNG.normal(0, 1, X.shape), 1)).astype(np.float32),
    sections=report_reference.SECTIONS[1:],
    top=7,
    gammas=(0.0, 2.0),
)


@dataclass
class Sent:
    """A request as it lies at the arena's beginning.

    Attributes:
        request: The request.
        body: The bytes of its tensors.
        shape: The inputs' shape.
        axes: The axes reduced.
    """

    request: LossRequest
    body: bytes
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, asked: report_reference.Request, **options: object) -> Sent:
        tensors = {"logits": asked.inputs, **tensors_of(asked)}
        given: dict[str, object] = {"report": list(asked.sections), "top": asked.top}
        if asked.gammas:
            given["sweep"] = {"gamma": list(asked.gammas)}
        loss, shape = LOSSES[asked.loss], asked.inputs.shape
        params = check_params(loss, given | options)
        placed, body = lay(tensors, frozenset())
        request = LossRequest(loss.name, placed, params, own_params(loss, params), options_of(loss, params))
        return cls(request, body, shape, reduced_axes(params, shape))

    def cut(self, elements: int) -> Cut:
        return cut_for(self.shape, self.axes, elements, whole_rows=True)

    def plan(self, cut: Cut, most_cells: int = 1 << 18, most_bytes: int = 1 << 28) -> ReportPlan:
        layout = report_of(self.request.loss, self.request.params, self.shape, self.request.tensors)
        assert layout is not None
        return plan_report(self.request, layout, cut, most_cells, most_bytes)


def tensors_of(asked: report_reference.Request) -> dict[str, Array]:
    """The tensors beside the inputs, as they are sent."""
    found: dict[str, Array] = {"targets": asked.targets}
    for name in ("weight", "mask", "ids", "baseline"):
        if isinstance(its := getattr(asked, name), np.ndarray):
            found[name] = its
    if asked.groups is not None:
        found["groups"] = np.stack([np.asarray(column) for column in asked.groups.values()], axis=1)
    return found


def losses_of(asked: report_reference.Request, loss: str, inputs: Array) -> Array:
    """The losses of the elements, which other tests hold against mpmath."""
    beside = {name: its for name, its in tensors_of(asked).items() if name in ("targets", "weight", "mask")}
    if loss != asked.loss:
        beside = {"targets": asked.targets}
    return sums(work(loss, {"logits": inputs, **beside}, reduction="none")).reshape(inputs.shape)


def check(result: object, asked: report_reference.Request) -> None:
    """Hold a report against the reference's."""
    baseline = None if asked.baseline is None else losses_of(asked, asked.loss, asked.baseline)
    losses, plain = losses_of(asked, asked.loss, asked.inputs), losses_of(asked, "bce", asked.inputs)
    expected = report_reference.document(asked, losses, plain, baseline)
    report_reference.assert_same(asked, parsed(result), expected)


def parsed(value: Any) -> Any:  # noqa: ANN401 -- any part of a document
    """A part of a document as it reads when its JSON is parsed."""
    if isinstance(value, np.ndarray | np.generic):
        return parsed(value.tolist())
    if isinstance(value, Mapping):
        return {name: parsed(its) for name, its in value.items()}
    if isinstance(value, list | tuple):
        return [parsed(its) for its in value]
    return report_reference.as_json(value)


def score(desk: Desk, part: Slice) -> Scored:
    """What a worker answers to a slice."""
    spec, memory = decode_batch(part.batch), desk.memory.view
    prepared = prepare(spec.loss, spec.params, spec.shape, spec.axes, spec.elements, spec.tensors, part.row)
    memories = [np.frombuffer(memory, np.float64, count, offset) for offset, count in part.memories]
    assert part.report is not None
    report = memory[part.report[0] : sum(part.report)]
    report[:] = b"\xff" * len(report)  # whatever was there before
    its = KERNELS[0].score(prepared, memory, part.base, part.index, memories, report)
    totals = its.loss, its.weights, its.positives, its.count
    return Scored(part.id, *totals, its.planes, 0.25, report=its.report)


async def score_slices(
    desk: Desk, job: Job, most: int = 1 << 20, seed: int = 0, had: list[tuple[int, Slice]] | None = None
) -> None:
    """Score what the workers are sent, in any order, up to so many slices.

    Args:
        desk: The workers.
        job: The request.
        most: The most slices.
        seed: Of their order.
        had: Slices that workers have: those that they had before, then those that are left.
    """
    rng, had = np.random.default_rng(seed), [] if had is None else had
    while not job.ended and most > 0:
        for number, worker in enumerate(desk.workers):
            if worker.link.fileno() >= 0:
                had += [(number, part) for part in worker.slices()]
        if had:
            number, part = had.pop(int(rng.integers(len(had))))
            desk.workers[number].say(score(desk, part))
            most -= 1
        await turns()


class Started:
    """A job that has started, and its memory."""

    def __init__(self, job: Job, arena: Arena, region: Region) -> None:
        self.job = job
        self.arena = arena
        self.ended = False
        self._region = region

    def end(self) -> None:
        self.job.end(self._release)

    def _release(self) -> None:
        self._region.release()
        self.ended = True


async def start(desk: Desk, sent: Sent, cut: Cut, plan: ReportPlan | None = None) -> Started:
    plan = plan or sent.plan(cut)
    arena = Arena(desk.memory, OUTPUTS, ARENA, "answers")
    region = arena.take(reserved_bytes(sent.request, cut, plan))
    assert region is not None
    desk.memory.view[: len(sent.body)] = sent.body
    job = await desk.pool.start(sent.request, cut, region, 1.0, report=plan)
    job.append(Batch(sent.request.tensors, cut, cut.parts))
    job.close(cut)
    return Started(job, arena, region)


def on_desk(test: Callable[[Desk], Awaitable[None]]) -> None:
    run(test, arena=ARENA)


@pytest.mark.parametrize("large", [LARGE_BYTES, 0], ids=["at once", "in threads"])
@pytest.mark.parametrize(("elements", "parts"), [(1, ROWS), (37, 9), (1 << 20, 1)])
@pytest.mark.parametrize("axis", [None, (), 0, 1])
def test_slices_change_no_figure(
    axis: int | tuple[int, ...] | None,
    elements: int,
    parts: int,
    large: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report_outputs, "LARGE_BYTES", large)
    options: dict[str, object] = {"reduction": "none"} if axis == () else {"reduction": "sum", "axis": axis}
    sent = Sent.of(ASKED, **options)
    cut = sent.cut(elements)
    assert cut.parts == parts

    async def test(desk: Desk) -> None:
        its = await start(desk, sent, cut)
        await score_slices(desk, its.job, seed=elements)
        result, _ = await its.job.result()
        check(result.report, ASKED)
        elementwise = losses_of(ASKED, "focal", X)
        if axis == ():
            assert np.array_equal(np.asarray(result.loss), elementwise)
        elif axis is not None:
            along = np.moveaxis(elementwise, axis, -1)
            assert np.asarray(result.loss).tolist() == [math.fsum(run.tolist()) for run in along]
        its.end()
        assert its.ended
        assert not its.arena.reserved

    on_desk(test)


@pytest.mark.parametrize("large", [LARGE_BYTES, 0], ids=["at once", "in threads"])
def test_a_worker_that_ends_costs_no_figure(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_outputs, "LARGE_BYTES", large)
    sent = Sent.of(ASKED)

    async def test(desk: Desk) -> None:
        its = await start(desk, sent, sent.cut(1))
        had: list[tuple[int, Slice]] = []
        await score_slices(desk, its.job, 5, had=had)
        running = next(part for number, part in had if number == 0)
        assert running.report is not None
        desk.memory.view[running.report[0] : sum(running.report)] = b"\x07" * running.report[1]
        await desk.end_worker(0, running.id)
        had = [(number, part) for number, part in had if number == 1]
        await score_slices(desk, its.job, 9, had=had)
        desk.workers[0] = await desk.start_worker(0, failures=1)
        await score_slices(desk, its.job, had=had)
        check((await its.job.result())[0].report, ASKED)

    on_desk(test)


def test_no_more_slices_are_out_than_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_outputs, "_PLACES_BYTES", 0)
    sent = Sent.of(ASKED)
    cut = sent.cut(1)
    assert sent.plan(cut).places == 2

    async def test(desk: Desk) -> None:
        its = await start(desk, sent, cut)
        while not its.job.ended:
            await turns()
            out = [(worker, part) for worker in desk.workers for part in worker.slices()]
            assert len({part.report for _, part in out}) == len(out) <= 2
            for worker, part in out:
                worker.say(score(desk, part))
        check((await its.job.result())[0].report, ASKED)

    on_desk(test)


@pytest.mark.parametrize("large", [LARGE_BYTES, 0], ids=["at once", "in threads"])
def test_too_many_groups_end_the_request(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_outputs, "LARGE_BYTES", large)
    asked = replace(ASKED, groups={"group": np.arange(ROWS)}, sections=("groups",))
    sent = Sent.of(asked)
    cut = sent.cut(1)

    async def test(desk: Desk) -> None:
        its = await start(desk, sent, cut, sent.plan(cut, most_cells=ROWS - 10))
        had: list[tuple[int, Slice]] = []
        await score_slices(desk, its.job, had=had)
        with pytest.raises(RequestError, match="`groups`: there are more than 50 groups") as caught:
            await its.job.result()
        assert caught.value.code is ErrorCode.OUTPUT_TOO_LARGE
        its.end()
        had += [(number, part) for number, worker in enumerate(desk.workers) for part in worker.slices()]
        for number, part in had:
            assert its.arena.reserved
            desk.workers[number].say(Cancelled(part.id))
            await turns()
        assert not its.arena.reserved

    on_desk(test)


@pytest.mark.parametrize("free", [True, False])
def test_a_report_that_grows_reserves_memory(*, free: bool) -> None:
    asked = replace(ASKED, groups={"group": np.arange(ROWS)})
    sent = Sent.of(asked)
    cut = sent.cut(1)

    async def test(desk: Desk) -> None:
        its = await start(desk, sent, cut, replace(sent.plan(cut), held_bytes=64))
        if not free:
            assert its.arena.take(its.arena.capacity - its.arena.reserved)
        before = its.arena.reserved
        await score_slices(desk, its.job)
        if free:
            check((await its.job.result())[0].report, asked)
            assert its.arena.reserved > before
            its.end()
            assert not its.arena.reserved
        else:
            with pytest.raises(RequestError, match="no more memory is free now") as caught:
                await its.job.result()
            assert caught.value.code is ErrorCode.OVERLOADED

    on_desk(test)


def test_memory_is_not_released_while_a_thread_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_outputs, "LARGE_BYTES", 0)
    sent = Sent.of(ASKED)

    async def test(desk: Desk) -> None:
        loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        its = await start(desk, sent, sent.cut(1 << 20))
        outputs = its.job._report
        assert outputs is not None
        attempt = outputs._attempt

        def slow(written: Any) -> RequestError | None:  # noqa: ANN401 -- a private type
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
            return attempt(written)

        monkeypatch.setattr(outputs, "_attempt", slow)
        await turns()
        ((worker, part),) = [(worker, part) for worker in desk.workers for part in worker.slices()]
        worker.say(score(desk, part))
        await begun.wait()
        its.end()
        await turns()
        assert its.arena.reserved
        go_on.set()
        while not its.ended:
            await turns()
        assert not its.arena.reserved

    on_desk(test)


SOME = ("totals", "top", "histogram")
MOST = (*SOME, "classes", "groups", "calibration")


@pytest.mark.parametrize(
    ("shape", "sections"),
    [
        *(
            (shape, sections)
            for shape in ((1 << 20, 80), (1 << 26,), (1 << 16, 1 << 10))
            for sections in (SOME, MOST)
        ),
        ((1 << 14, 1 << 12), SOME),
        ((3, 1 << 24), SOME),
    ],
)
def test_partial_reports_take_bounded_memory(shape: tuple[int, ...], sections: tuple[str, ...]) -> None:
    sections = tuple(name for name in sections if name != "classes" or len(shape) > 1)
    params = check_params(LOSSES["bce"], {"report": list(sections)})
    tensors = {name: Tensor("float32", shape, 0) for name in ("logits", "targets")}
    tensors["groups"] = Tensor("int64", shape[:1], 0)
    request = LossRequest("bce", tensors, params, {})
    layout = report_of("bce", params, shape, tensors)
    assert layout is not None
    cut = report_cut(layout, shape, tuple(range(len(shape))), 1 << 18)
    plan = plan_report(request, layout, cut, 1 << 18, 1 << 28)
    assert plan.nbytes <= 1 << 28
    assert plan.places >= 2
    assert all(cut.part(index).start % cut.row_size == 0 for index in (1, cut.parts - 1))
    assert cut.part(0).stop >= 1 << 15  # long enough to be worth a message


# Streams


@pytest.mark.parametrize("batch", [1, 7, 25, ROWS])
@pytest.mark.parametrize("elements", [1, 60, 1 << 20])
def test_string_ids_of_a_stream(batch: int, elements: int) -> None:
    names = [f"{row * 37 % 60:02}é" if row % 3 else f"{row}\U0001f600" for row in range(ROWS)]
    asked = replace(ASKED, ids=names)
    sent = Sent.of(replace(asked, ids=None))
    rows = {"logits": X, **tensors_of(asked)}
    rows["ids"] = np.zeros(ROWS, np.int64)  # codes, written below
    one = {name: Tensor(str(its.dtype), its.shape[1:], 0) for name, its in rows.items()}
    request = replace(sent.request, tensors=one)
    whole = {name: Tensor(str(its.dtype), its.shape, 0) for name, its in rows.items()}
    layout = report_of("focal", request.params, X.shape, whole)
    assert layout is not None
    widest = cut_for(X.shape, (0, 1), elements, whole_rows=True)
    plan = plan_report(replace(request, tensors=whole), layout, widest, 1 << 18, 1 << 28, {"ids": []})

    async def test(desk: Desk) -> None:
        arena, bodies = Arena(desk.memory, OUTPUTS, ARENA, "answers"), Arena(desk.memory, 0, OUTPUTS, "rows")
        region = arena.take(reserved_bytes(request, widest, plan))
        job = await desk.pool.start(request, widest, region, 1.0, report=plan)

        async def reserve(nbytes: int) -> Region:
            found = bodies.take(min(nbytes, OUTPUTS))
            assert found is not None
            return found

        stream = RowStream(job, one, {}, widest, ROWS, reserve, named=True)
        scoring = asyncio.ensure_future(score_slices(desk, job))
        for first in range(0, ROWS, batch):
            its = names[first : first + batch]
            await stream.begin(len(its))
            stream.name(len(its), its.__getitem__, 100)
            order = sorted(its)
            codes = np.array([order.index(name) for name in its], np.int64)
            for column, (name, tensor) in enumerate(rows.items()):
                data = codes if name == "ids" else tensor[first : first + batch]
                stream.write(column, np.ascontiguousarray(data).tobytes())
            stream.advance()
            await turns()
        stream.close()
        await scoring
        result, _ = await job.result()
        check(result.report, asked)

    on_desk(test)
