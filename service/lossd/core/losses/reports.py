"""The partial report of a part that torch computes: block by block, reduced on the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lossd.core.losses.elements import Formula, elements
from lossd.core.losses.fetch import run_of
from lossd.core.losses.likelihood import probability
from lossd.core.losses.rows import RowLosses, Rows
from lossd.core.losses.softmax import cross_entropy, probabilities
from lossd.core.losses.sweep import summands
from lossd.core.native.kernel import NativeKernel
from lossd.core.operand import Operand
from lossd.core.prepare import Work
from lossd.core.report.definition import Rows as Reported
from lossd.core.report.definition import reduce_part
from lossd.core.report.figures import merged
from lossd.core.report.layout import Layout
from lossd.core.report.partial import Int64Array, Partial
from lossd.types import Float64Array


@dataclass(slots=True)
class Scored:
    """A block's tensors and losses, float64, [n], with neutral values for dropped elements.

    Attributes:
        formula: The loss.
        losses: The weighted losses.
        inputs: The logits or probabilities; of rows of classes the greatest probability, 0 of other rows.
        y: The targets, before smoothing.
        weight: The weights, if any.
        pos_weight: The positive class's weights, if not 1.
        kept: Whether each element counts, bool, if some do not.
        baseline_losses: The losses of the inputs to compare with, if any.
        baseline_inputs: These.
        rows: The rows, if these have losses; then `y` is what their targets add.
        row: What is found of them.
    """

    formula: Formula
    losses: Tensor
    inputs: Tensor
    y: Tensor
    weight: Tensor | None
    pos_weight: Tensor | None
    kept: Tensor | None
    baseline_losses: Tensor | None
    baseline_inputs: Tensor | None
    rows: Rows | None = None
    row: RowLosses | None = None


class Reports:
    """The partial reports of a part's blocks, of whole rows each.

    Args:
        work: The request.
        layout: The figures.
        memory: The memory that holds the request's tensors.
        offset: The offset in it that theirs are counted from.
    """

    def __init__(self, work: Work, layout: Layout, memory: memoryview | bytes, offset: int) -> None:
        self._work: Final = work
        self._layout: Final = layout
        self._memory: Final = memory
        self._offset: Final = offset
        self._partials: list[Partial] = []

    def add(self, start: int, scored: Scored) -> None:
        """Add a block.

        Args:
            start: Its first element, counted in C order.
            scored: The block.
        """
        self._partials.append(reduce_part(self._layout, self._work.share, self._rows(start, scored)))

    def write(self, report: memoryview) -> int:
        """Write the partial report of all blocks; return its bytes."""
        ids = self._work.ids
        unsigned = ids is not None and ids.tensor.dtype == "uint64"
        return merged(self._layout, self._partials, by_id=ids is not None, unsigned=unsigned).write(report)

    def _rows(self, start: int, scored: Scored) -> Reported:
        size, count = self._work.cut.row_size, len(scored.losses)
        first = start // size
        stop = first + count // size

        def host(values: Tensor | None) -> Float64Array | None:
            return None if values is None else values.cpu().numpy().reshape(-1, size)

        losses, inputs, targets = host(scored.losses), host(scored.inputs), host(scored.y)
        assert losses is not None
        assert inputs is not None
        assert targets is not None
        groups = [_integers(self._array(column)[first:stop]).view(np.int64) for column in self._work.groups]
        ids = self._work.ids
        calibrated = "calibration" in self._layout.spec.sections
        found = Reported(
            first=first,
            losses=losses,
            inputs=inputs,
            targets=targets,
            weight=host(scored.weight),
            kept=None if scored.kept is None else scored.kept.cpu().numpy().reshape(-1, size),
            baseline_losses=host(scored.baseline_losses),
            baseline_inputs=host(scored.baseline_inputs),
            sweep=self._sweep(scored),
            groups=np.stack(groups, axis=1) if groups else None,
            ids=None if ids is None else _integers(self._array(ids)[first:stop]),
        )
        if self._layout.inputs.by_target:
            assert scored.row is not None
            classes = host(scored.row.classes)
            assert classes is not None
            found.classes, found.predicted = classes.astype(np.int64), host(scored.row.predicted)
            found.correct = host(scored.row.correct)
            if calibrated:
                _calibrate_rows(found, scored)
        elif calibrated:
            found.probability, found.cross_entropy = host(_probability(scored)), host(_cross_entropy(scored))
            found.patterns = None if self._layout.spec.bins else self._patterns(start, count)
        return found

    def _sweep(self, scored: Scored) -> Iterator[list[Float64Array]]:
        if "sweep" not in self._layout.spec.sections:
            return
        gammas = self._layout.spec.gammas
        each = summands(scored.formula, gammas, scored.inputs, scored.y, scored.pos_weight, scored.weight)
        for tensors in each:
            yield [values.cpu().numpy().reshape(-1, self._work.cut.row_size) for values in tensors]

    def _patterns(self, start: int, count: int) -> Int64Array:
        """Return the bits of 16-bit inputs; those of 0 for both zeros."""
        run = run_of(self._array(self._work.inputs), start, start + count)
        bits = run.astype(run.dtype.newbyteorder("=")).view(np.uint16).astype(np.int64)
        return np.where(bits == 0x8000, 0, bits).reshape(-1, self._work.cut.row_size)

    def _array(self, operand: Operand) -> np.ndarray:
        return operand.array(self._memory, self._offset)


def _integers(values: np.ndarray) -> np.ndarray:
    """Return integers as int64, or as uint64 if they are of that dtype."""
    return values.astype(np.uint64 if values.dtype.newbyteorder("=") == np.uint64 else np.int64)


def _probability(scored: Scored) -> Tensor:
    return scored.inputs if scored.formula.probabilities else probability(scored.inputs)


def _cross_entropy(scored: Scored) -> Tensor:
    """Return the plain cross entropy: no weight, pos_weight or smoothing."""
    return elements(Formula("bce", scored.formula.probabilities), scored.inputs, scored.y)


def _calibrate_rows(found: Reported, scored: Scored) -> None:
    """Put in what the calibration of rows of classes is made of."""
    its, size = scored.rows, found.losses.shape
    assert its is not None
    classes = its.x.shape[1]
    shares = its.y
    if its.ids is not None:
        places = torch.arange(classes, device=its.x.device, dtype=torch.float64)
        shares = (its.ids[:, None] == places).double()
    assert shares is not None
    plain = Formula("cross_entropy", probabilities=False)
    costs = cross_entropy(plain, its._replace(class_weight=None, alpha=None)).loss
    found.cross_entropy = costs.cpu().numpy().reshape(size)
    found.probability = probabilities(its.x).cpu().numpy().reshape(*size, classes)
    found.shares = shares.cpu().numpy().reshape(*size, classes)


class NativeReports:
    """The same by the native kernel's reducers, which are given the losses.

    Args:
        work: The request.
        index: The part.
        memory: The memory that holds the request's tensors.
        offset: The offset in it that theirs are counted from.
        reducer: The native kernel.
    """

    def __init__(
        self, work: Work, index: int, memory: memoryview | bytes, offset: int, reducer: NativeKernel
    ) -> None:
        part = work.cut.part(index)
        self._call: Final = work, memory, offset, index
        self._first: Final = part.start
        self._reducer: Final = reducer
        self._losses: Final = np.empty(part.stop - part.start)
        self._baseline: Final = None if work.baseline is None else np.empty(part.stop - part.start)

    def add(self, start: int, scored: Scored) -> None:
        """Add a block, whose first element is at `start`, counted in C order."""
        block = slice(start - self._first, start - self._first + len(scored.losses))
        self._losses[block] = scored.losses.cpu().numpy()
        if self._baseline is not None and scored.baseline_losses is not None:
            self._baseline[block] = scored.baseline_losses.cpu().numpy()

    def write(self, report: memoryview) -> int:
        """Write the partial report of all blocks; return its bytes."""
        given = [self._losses] if self._baseline is None else [self._losses, self._baseline]
        return self._reducer.score(*self._call, report=report, given=given).report
