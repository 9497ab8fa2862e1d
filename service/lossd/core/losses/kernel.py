"""The kernel in torch, for any device and any loss, with the same bits as the native kernel.

It computes on CUDA devices, and the losses that an operator adds. A part is scored block by block: the bytes
are copied to the device and converted to float64, and the losses are summed without rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.checks import (
    LOGIT,
    MASK,
    POS_WEIGHT,
    PROBABILITY,
    TARGET,
    WEIGHT,
    WHOLE,
    Rule,
    class_id,
    value_error,
)
from lossd.core.cut import Cut, Part
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Sums
from lossd.core.losses.elements import FORMULAS, Element, Formula, added, elements
from lossd.core.losses.fetch import Fetch, Read
from lossd.core.losses.reports import NativeReports, Reports, Scored
from lossd.core.losses.sums import planes_of, terms_of
from lossd.core.native.arrays import RunningSums, exact_array
from lossd.core.native.kernel import NativeKernel
from lossd.core.operand import Operand
from lossd.core.prepare import Work
from lossd.types import Float64Array

_CPU_BLOCK: Final = 1 << 15
"""Most elements of a block on a CPU: float64 temporaries, 256 KiB each, stay in its cache."""
_DEVICE_BLOCK: Final = 1 << 22
"""The same on another device, where each operation costs a launch: 32 MiB a temporary."""
_LEAST_BLOCK: Final = 1 << 12
"""The shortest blocks to try when a device has no memory for longer ones."""

Function: TypeAlias = Callable[..., Element]
"""The function of a loss that an operator adds; see `lossd.core.losses.elements.added`."""


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
        KeyError: A loss of the catalog has no formula.
        RuntimeError: There is no such device here.
    """

    name = "torch"

    def __init__(
        self, device: str = "cpu", block: int | None = None, reducer: NativeKernel | None = None
    ) -> None:
        self.device: Final = device
        self._reducer: Final = reducer
        self._device = _device_of(device)
        self._functions: dict[str, Function] = {}
        for loss in LOSSES.values():
            if loss.function:
                module, _, function = loss.function.partition(":")
                self._functions[loss.name] = getattr(import_module(module), function)
            elif loss.name not in FORMULAS:
                msg = f"lossd.core.losses.elements has no formula for the loss {loss.name}"
                raise KeyError(msg)
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
        blocks = _blocks(work.cut, part, length)

        def begin(number: int) -> Read | None:
            if number == blocks.parts:
                return None
            block = blocks.part(number)
            start, stop = part.start + block.start, part.start + block.stop
            return self._fetch.begin(work.operands, memory, offset, start, stop)

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
            loaded = _load(work, read, start, block.stop - block.start, self._device)
            losses = self._losses(work, loaded)
            read = begin(number + 1)  # copied while this block is computed
            _refuse(work, loaded, start)
            collected.add(block, loaded, losses)
            if reports is not None:
                reports.add(start, self._scored(work, loaded, losses))
        sums = collected.finish(part)
        if reports is not None and report is not None:
            sums.report = reports.write(report)
        return sums

    def _scored(self, work: Work, loaded: _Loaded, losses: Tensor) -> Scored:
        """Return what a report is made of: a block's tensors and losses, and the baseline's losses."""
        baseline = None if loaded.baseline is None else self._losses(work, loaded.with_baseline())
        return Scored(
            formula=_formula(work),
            losses=losses,
            inputs=loaded.inputs,
            y=loaded.y,
            weight=loaded.weight,
            pos_weight=loaded.pos_weight,
            kept=loaded.kept,
            baseline_losses=baseline,
            baseline_inputs=loaded.baseline,
        )

    def _losses(self, work: Work, loaded: _Loaded) -> Tensor:
        """Return a block's weighted element losses."""
        own, how = work.own, _formula(work)
        function = self._functions.get(work.loss)
        if function is None:
            hard = work.class_axis is not None or not work.targets.is_float
            losses = elements(how, loaded.inputs, loaded.y, loaded.pos_weight, loaded.alpha, hard=hard)
        else:
            own = own if loaded.alpha is None else {**own, "alpha": loaded.alpha}
            losses = added(function, own, how, loaded.inputs, loaded.y, loaded.pos_weight)
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
    known = {name: work.own[name] for name in ("gamma", "alpha", "variant") if name in work.own}
    if work.alpha is not None:
        del known["alpha"]
    probabilities = work.inputs.name == "probabilities"
    return Formula(work.loss, probabilities, work.label_smoothing, **known)  # type: ignore[arg-type] # checked


@dataclass(slots=True)
class _Loaded:
    """A block's tensors, float64, [n], with neutral values for dropped elements.

    Attributes:
        inputs: The logits or probabilities.
        y: The targets, before smoothing.
        weight: The weights, if any.
        pos_weight: The positive class's weights, if not 1.
        alpha: The balance, if not one number.
        kept: Whether each element counts, bool, if some do not.
        baseline: The inputs to compare with, if any.
        checks: The checks of their values.
    """

    inputs: Tensor
    y: Tensor
    weight: Tensor | None
    pos_weight: Tensor | None
    alpha: Tensor | None
    kept: Tensor | None
    baseline: Tensor | None
    checks: list[_Check]

    def with_baseline(self) -> _Loaded:
        """Return the same with the baseline's inputs in place of the inputs."""
        assert self.baseline is not None
        return replace(self, inputs=self.baseline)


class _Check(NamedTuple):
    """A check that values are in [0, rule.largest], or any number for a logit.

    Attributes:
        rule: The allowed values.
        operand: The tensor.
        values: Its elements.
        shown: The elements as an error shows them.
        allow_nan: Whether NaN is allowed.
    """

    rule: Rule
    operand: Operand
    values: Tensor
    shown: Tensor
    allow_nan: bool

    @property
    def wrong(self) -> Tensor:
        """Where the check fails."""
        wrong = torch.isnan(self.values)
        if self.rule is not LOGIT:
            wrong = (self.values < 0.0) | (self.values > self.rule.largest) | wrong
        return wrong & ~torch.isnan(self.values) if self.allow_nan else wrong


def _load(work: Work, read: Read, start: int, n: int, device: torch.device) -> _Loaded:
    """Load a block's tensors, and list the checks of their values."""
    nan, y, checks = work.allow_nan, read(work.targets), list[_Check]()
    mask = None if work.mask is None else read(work.mask)
    kept = None if mask is None else mask != 0.0
    if work.ignore_index is not None:
        other = ~torch.isnan(y) if math.isnan(work.ignore_index) else y != work.ignore_index
        kept = other if kept is None else kept & other

    def or_else(operand: Operand | None, value: float) -> Tensor | None:
        if operand is None:
            return None
        return read(operand) if kept is None else torch.where(kept, read(operand), value)

    y = y if kept is None else torch.where(kept, y, 0.0)
    if work.mask is not None and mask is not None:
        checks.append(_Check(MASK, work.mask, mask, mask, allow_nan=False))
    if work.class_axis is None:
        checks.append(_Check(TARGET, work.targets, y, y, nan))
    else:
        ids, shape = y, work.cut.shape
        classes = torch.arange(start, start + n, device=device) // math.prod(shape[work.class_axis + 1 :])
        y = (ids == classes % shape[work.class_axis]).double()
        if work.background_index is not None:
            background = ids == work.background_index
            ids, y = torch.where(background, 0.0, ids), torch.where(background, 0.0, y)
        if kept is not None:
            y = torch.where(kept, y, 0.0)
        checks.append(_Check(class_id(shape[work.class_axis]), work.targets, ids, ids, allow_nan=False))
        checks.append(_Check(WHOLE, work.targets, ids - ids.floor(), ids, allow_nan=False))
    probabilities = work.inputs.name == "probabilities"
    allowed, neutral = (PROBABILITY, 0.5) if probabilities else (LOGIT, 0.0)
    inputs, baseline = or_else(work.inputs, neutral), or_else(work.baseline, neutral)
    assert inputs is not None
    checks.append(_Check(allowed, work.inputs, inputs, inputs, nan))
    weight, pos_weight = or_else(work.weight, 0.0), or_else(work.pos_weight, 1.0)
    for rule, operand, values in (
        (WEIGHT, work.weight, weight),
        (POS_WEIGHT, work.pos_weight, pos_weight),
        (allowed, work.baseline, baseline),
    ):
        if operand is not None and values is not None:
            checks.append(_Check(rule, operand, values, values, nan))
    alpha = None if work.alpha is None else read(work.alpha)
    return _Loaded(inputs, y, weight, pos_weight, alpha, kept, baseline, checks)


def _refuse(work: Work, loaded: _Loaded, start: int) -> None:
    """Check a block's values.

    Raises:
        RequestError: For the first wrong value of the first check that fails.
    """
    failed = torch.stack([check.wrong.any() for check in loaded.checks]).tolist()  # one wait for all of them
    for check, fails in zip(loaded.checks, failed, strict=True):
        if fails:
            first = int(torch.nonzero(check.wrong)[0])
            raise value_error(check.rule, check.operand, start + first, float(check.shown[first]))


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

    def add(self, block: Part, loaded: _Loaded, losses: Tensor) -> None:
        """Add a block's losses."""
        self._loss.add_all(terms_of(losses))
        self._positives.add_all(terms_of(loaded.y))
        if loaded.weight is not None:
            self._weights.add_all(terms_of(loaded.weight))
        self._count += len(losses) if loaded.kept is None else int(loaded.kept.sum())
        channels = (losses, self._divisors(loaded)) if len(self._outputs) > 1 else (losses,)
        for sums, values in zip(self._outputs, channels, strict=False):
            its = sums[block.output] = sums.get(block.output) or exact_array()
            for plane in planes_of(values.reshape(block.shape), self._axes):
                its.add(plane)

    def finish(self, part: Part) -> Sums:
        """Return the part's sums."""
        return Sums(
            loss=self._loss.terms,
            weights=None if self._work.weight is None else self._weights.terms,
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

    def _divisors(self, loaded: _Loaded) -> Tensor:
        """Return what each element adds to its output's divisor, [n]."""
        if self._work.divisor == "weight" and loaded.weight is not None:
            return loaded.weight
        if self._work.divisor == "positives":
            return loaded.y
        return torch.ones_like(loaded.y) if loaded.kept is None else loaded.kept.double()
