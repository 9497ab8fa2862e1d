"""The kernel in torch, for any device and any loss, with the same bits as the native kernel.

It computes on CUDA devices, and the losses that an operator adds. A part is scored block by block: the bytes
are copied to the device and converted to float64, and the losses are summed without rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut, Part
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Sums
from lossd.core.losses.blocks import Check, Loaded, LoadedRows, load, load_rows, refuse, runs_of
from lossd.core.losses.elements import Formula, added, elements, function_of
from lossd.core.losses.fetch import Fetch, Read
from lossd.core.losses.reports import NativeReports, Reports, Scored
from lossd.core.losses.row_losses import score_rows
from lossd.core.losses.sums import planes_of, terms_of
from lossd.core.native.arrays import RunningSums, exact_array
from lossd.core.native.kernel import NativeKernel
from lossd.core.prepare import Work
from lossd.types import Float64Array

_CPU_BLOCK: Final = 1 << 15
"""Most elements of a block on a CPU: float64 temporaries, 256 KiB each, stay in its cache."""
_DEVICE_BLOCK: Final = 1 << 22
"""The same on another device, where each operation costs a launch: 32 MiB a temporary."""
_LEAST_BLOCK: Final = 1 << 12
"""The shortest blocks to try when a device has no memory for longer ones."""


class TorchKernel:
    """Scores with torch's own operations.

    If a device has no memory for a part's blocks, they are halved until they fit. Each part starts with full
    blocks again, since another process may have held the memory for a moment.

    Args:
        device: ``cpu`` or ``cuda:N``.
        block: Most elements of a block; by default what suits the device.
        reducer: A native kernel to reduce the losses for reports, many times as fast; by default they are
            reduced by their definition (`lossd.core.report.definition`).

    Raises:
        AttributeError: A loss that an operator adds has no function where its entry says.
        ImportError: The same.
        RuntimeError: There is no such device here.
    """

    name = "torch"

    def __init__(
        self, device: str = "cpu", block: int | None = None, reducer: NativeKernel | None = None
    ) -> None:
        self.device: Final = device
        self._reducer: Final = reducer
        self._device = _device_of(device)
        for loss in LOSSES.values():
            if not loss.is_native:
                function_of(loss.function)
        self._block = block or (_CPU_BLOCK if device == "cpu" else _DEVICE_BLOCK)
        self._fetch = Fetch(self._device)

    def score(
        self,
        work: Work,
        memory: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array] = (),
        report: memoryview | None = None,
    ) -> Sums:
        """See `lossd.core.kernel.Kernel`.

        Raises:
            torch.OutOfMemoryError: The device has not even the memory for short blocks.
        """
        length = self._block
        while True:
            try:
                return self._score(work, memory, offset, index, memories, report, length)
            except torch.OutOfMemoryError:
                if length <= _LEAST_BLOCK:
                    raise
            length //= 2  # outside the handler, which keeps the attempt's tensors alive
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _score(
        self,
        work: Work,
        memory: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array],
        report: memoryview | None,
        length: int,
    ) -> Sums:
        part = work.cut.part(index)
        blocks = _blocks(work.cut, part, max(1, length // max(1, work.row_size)))

        def begin(number: int) -> Read | None:
            if number == blocks.parts:
                return None
            block = blocks.part(number)
            start, stop = part.start + block.start, part.start + block.stop
            return self._fetch.begin(runs_of(work, start, stop), memory, offset)

        collected = _Collected(work, blocks, memories)
        reports: Reports | NativeReports | None = None
        if work.report is not None and self._reducer is not None:
            reports = NativeReports(work, index, memory, offset, self._reducer)
        elif work.report is not None:
            reports = Reports(work, work.report, memory, offset)
        read = begin(0)
        for number in range(blocks.parts):
            assert read is not None
            block = blocks.part(number)
            start = part.start + block.start
            found = self._found(work, read, start, block.stop - block.start)
            read = begin(number + 1)  # copied while this block is computed
            refuse(found.checks)
            collected.add(block, found)
            if reports is not None:
                reports.add(start, found.scored())
        sums = collected.finish(part)
        if reports is not None and report is not None:
            sums.report = reports.write(report)
        return sums

    def _found(self, work: Work, read: Read, start: int, n: int) -> _Found:
        """Score a block of losses from one on. Those of elements are still to be checked."""
        how = _formula(work)
        if LOSSES[work.loss].row:
            rows = load_rows(work, read, start, n, self._device)
            refuse(rows.checks)  # before they are computed with, since ids are places
            return _found_rows(work, how, rows)
        loaded = load(work, read, start, self._device)

        def scored() -> Scored:
            baseline = None if loaded.baseline is None else self._losses(work, loaded.with_baseline())
            return Scored(
                formula=how,
                losses=losses,
                inputs=loaded.inputs,
                y=loaded.y,
                weight=loaded.weight,
                pos_weight=loaded.pos_weight,
                kept=loaded.kept,
                baseline_losses=baseline,
                baseline_inputs=loaded.baseline,
            )

        losses = self._losses(work, loaded)
        return _Found(losses, loaded.y, loaded.weight, loaded.kept, loaded.checks, scored)

    def _losses(self, work: Work, loaded: Loaded) -> Tensor:
        """Return the weighted losses of a block of elements."""
        own, how, loss = work.own, _formula(work), LOSSES[work.loss]
        if loss.is_native:
            hard = work.class_axis is not None or not work.targets.is_float
            losses = elements(how, loaded.inputs, loaded.y, loaded.pos_weight, loaded.alpha, hard=hard)
        else:
            own = own if loaded.alpha is None else {**own, "alpha": loaded.alpha}
            losses = added(function_of(loss.function), own, how, loaded.inputs, loaded.y, loaded.pos_weight)
        if loaded.weight is not None:
            gone = (loaded.weight == 0.0) & ~torch.isnan(losses)  # no 0 times infinity
            losses = torch.where(gone, 0.0, loaded.weight * losses)
        return losses if loaded.kept is None else torch.where(loaded.kept, losses, 0.0)


def _device_of(name: str) -> torch.device:
    """Return a device.

    Raises:
        RuntimeError: It is a CUDA device that is not there.
    """
    device = torch.device(name)
    if device.type == "cuda":
        number = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= number:
            msg = (
                f"torch finds {number} CUDA device{'' if number == 1 else 's'} here, and {name} is not among "
                "them; compute on cpu, which gives the same bits, or see whether nvidia-smi lists it"
            )
            raise RuntimeError(msg)
    return device


def _blocks(cut: Cut, part: Part, length: int) -> Cut:
    """Return a part's blocks; whole rows where the parts are."""
    if cut.whole_rows:
        rows = (part.stop - part.start) // cut.row_size
        return Cut((rows, *cut.shape[1:]), cut.axes, length, whole_rows=True)
    return Cut(part.shape, [axis for axis, gone in enumerate(cut.reduced) if gone], length)


def _formula(work: Work) -> Formula:
    known = {}
    if work.loss == "focal":
        known = {name: work.own[name] for name in ("gamma", "alpha", "variant")}
        if work.alpha is not None:
            del known["alpha"]
    probabilities = work.inputs.name == "probabilities"
    return Formula(work.loss, probabilities, work.label_smoothing, own=work.own, **known)  # type: ignore[arg-type] # checked


@dataclass(slots=True)
class _Found:
    """A block that has been scored, [n].

    Attributes:
        losses: The weighted losses.
        y: What targets add to the positives.
        weight: The weights, if any.
        kept: Whether each loss counts, bool, if some do not.
        checks: The checks that its values must pass.
        scored: Returns what a report is made of.
    """

    losses: Tensor
    y: Tensor
    weight: Tensor | None
    kept: Tensor | None
    checks: list[Check]
    scored: Callable[[], Scored]


def _found_rows(work: Work, how: Formula, loaded: LoadedRows) -> _Found:
    """Score a block of rows that has been checked."""
    found = score_rows(work, how, loaded, loaded.rows)

    def scored() -> Scored:
        baseline = None if loaded.baseline is None else score_rows(work, how, loaded, loaded.baseline)
        zeros = torch.zeros_like(found.losses)
        return Scored(
            formula=how,
            losses=found.losses,
            inputs=_or_zeros(found.row.confidence, zeros),
            y=found.row.targets,
            weight=found.weight,
            pos_weight=None,
            kept=loaded.kept,
            baseline_losses=None if baseline is None else baseline.losses,
            baseline_inputs=None if baseline is None else _or_zeros(baseline.row.confidence, zeros),
            rows=loaded.rows,
            row=found.row,
        )

    return _Found(found.losses, found.row.targets, found.weight, loaded.kept, [], scored)


def _or_zeros(values: Tensor | None, zeros: Tensor) -> Tensor:
    return zeros if values is None else values


class _Collected:
    """The sums of a part, added up block by block.

    Args:
        work: The request.
        blocks: The part's blocks.
        memories: Arrays for the sums of outputs.
    """

    def __init__(self, work: Work, blocks: Cut, memories: Sequence[Float64Array]) -> None:
        self._work = work
        self._axes = tuple(axis for axis, gone in enumerate(blocks.reduced) if gone)
        self._memories = memories
        self._loss, self._weights, self._positives = ExactSum(), ExactSum(), ExactSum()
        self._count = 0
        self._outputs: list[dict[int, RunningSums]] = [{} for _ in memories]

    def add(self, block: Part, found: _Found) -> None:
        """Add a block's losses."""
        losses = found.losses
        self._loss.add_all(terms_of(losses))
        self._positives.add_all(terms_of(found.y))
        if found.weight is not None:
            self._weights.add_all(terms_of(found.weight))
        self._count += len(losses) if found.kept is None else int(found.kept.sum())
        channels = (losses, self._divisors(found)) if len(self._outputs) > 1 else (losses,)
        for sums, values in zip(self._outputs, channels, strict=False):
            its = sums[block.output] = sums.get(block.output) or exact_array()
            for plane in planes_of(values.reshape(block.shape), self._axes):
                its.add(plane)

    def finish(self, part: Part) -> Sums:
        """Return the part's sums."""
        return Sums(
            loss=self._loss.terms,
            weights=self._weights.terms if self._work.weighted else None,
            positives=self._positives.terms,
            count=self._count,
            planes=[
                self._write(sums, memory, part.outputs)
                for sums, memory in zip(self._outputs, self._memories, strict=True)
            ],
        )

    def _write(self, sums: dict[int, RunningSums], memory: Float64Array, outputs: int) -> int:
        planes = {output: list(self._planes(its)) for output, its in sums.items()}
        most = max(map(len, planes.values()))
        memory[: most * outputs] = 0.0
        for output, its in planes.items():
            for number, plane in enumerate(its):
                start = number * outputs + output
                memory[start : start + len(plane)] = plane
        return most

    def _planes(self, sums: RunningSums) -> Iterator[Float64Array]:
        if self._work.cut.complete:
            yield sums.value
        else:
            yield from sums.canonical()

    def _divisors(self, found: _Found) -> Tensor:
        """Return what each element adds to its output's divisor, [n]."""
        if self._work.divisor == "weight" and found.weight is not None:
            return found.weight
        if self._work.divisor == "positives":
            return found.y
        return torch.ones_like(found.y) if found.kept is None else found.kept.double()
