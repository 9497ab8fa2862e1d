"""A block of a request: its tensors as float64, with neutral values for what is dropped, and their checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.checks import (
    CLASS_WEIGHT,
    MASK,
    POS_WEIGHT,
    WEIGHT,
    WHOLE,
    Rule,
    box_size,
    class_id,
    input_rule,
    target_rule,
    value_error,
)
from lossd.core.losses.fetch import Read, Run
from lossd.core.losses.rows import Rows
from lossd.core.operand import Operand
from lossd.core.prepare import Work


def runs_of(work: Work, start: int, stop: int) -> list[Run]:
    """Return what is read of a request's tensors for the losses [start, stop), counted in C order."""
    size = work.row_size
    return [
        *(Run(operand, start * size, stop * size) for operand in work.of_elements),
        *(Run(operand, start, stop) for operand in work.of_losses),
        *(Run(operand, 0, size) for operand in work.of_classes),
    ]


class Check(NamedTuple):
    """A check that values are in [rule.least, rule.largest].

    Attributes:
        rule: The allowed values.
        operand: The tensor.
        first: The place of the first value in it, as it is spread.
        values: Its elements.
        shown: The elements as an error shows them.
        allow_nan: Whether NaN is allowed.
        boxes: How boxes are written, if these values are their sizes.
    """

    rule: Rule
    operand: Operand
    first: int
    values: Tensor
    shown: Tensor
    allow_nan: bool = False
    boxes: str | None = None

    @property
    def wrong(self) -> Tensor:
        """Where the check fails."""
        outside = (self.values < self.rule.least) | (self.values > self.rule.largest)
        return outside if self.allow_nan else outside | torch.isnan(self.values)

    def error(self) -> Exception:
        """Return the error of the first value that is wrong."""
        place = int(torch.nonzero(self.wrong.reshape(-1))[0])
        rule = self.rule if self.boxes is None else box_size(self.boxes, place)
        return value_error(rule, self.operand, self.first + place, float(self.shown.reshape(-1)[place]))


def refuse(checks: Sequence[Check]) -> None:
    """Make checks.

    Raises:
        RequestError: For the first wrong value of the first check that fails.
    """
    if not checks:
        return
    failed = torch.stack([check.wrong.any() for check in checks]).tolist()  # one wait for all of them
    for check, fails in zip(checks, failed, strict=True):
        if fails:
            raise check.error()


@dataclass(slots=True)
class Loaded:
    """A block of elements, float64, [n].

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
    checks: list[Check]

    def with_baseline(self) -> Loaded:
        """Return the same with the baseline's inputs in place of the inputs."""
        assert self.baseline is not None
        return replace(self, inputs=self.baseline)


@dataclass(slots=True)
class LoadedRows:
    """A block of rows.

    Attributes:
        rows: The rows, those that are dropped, too.
        baseline: The same with the inputs to compare with, if any.
        weight: The weights of rows, [n], if any.
        kept: Whether each row counts, bool, [n], if some do not.
        checks: The checks of their values.
    """

    rows: Rows
    baseline: Rows | None
    weight: Tensor | None
    kept: Tensor | None
    checks: list[Check]


def load(work: Work, read: Read, start: int, device: torch.device) -> Loaded:
    """Load a block of elements, and list the checks of their values."""
    nan, y, checks = work.allow_nan, read(work.targets), list[Check]()
    kept = _kept(work, read, start, y, checks)

    def or_else(operand: Operand | None, value: float) -> Tensor | None:
        if operand is None:
            return None
        return read(operand) if kept is None else torch.where(kept, read(operand), value)

    y = y if kept is None else torch.where(kept, y, 0.0)
    y = _targets(work, start, y, kept, device, checks)
    allowed = input_rule(LOSSES[work.loss], work.inputs.name)
    neutral = 0.5 if work.inputs.name == "probabilities" else 0.0
    inputs, baseline = or_else(work.inputs, neutral), or_else(work.baseline, neutral)
    assert inputs is not None
    weight, pos_weight = or_else(work.weight, 0.0), or_else(work.pos_weight, 1.0)
    for rule, operand, values in (
        (allowed, work.inputs, inputs),
        (WEIGHT, work.weight, weight),
        (POS_WEIGHT, work.pos_weight, pos_weight),
        (allowed, work.baseline, baseline),
    ):
        if operand is not None and values is not None:
            checks.append(Check(rule, operand, start, values, values, nan))
    alpha = None if work.alpha is None else read(work.alpha)
    return Loaded(inputs, y, weight, pos_weight, alpha, kept, baseline, checks)


def load_rows(work: Work, read: Read, start: int, n: int, device: torch.device) -> LoadedRows:
    """Load a block of n rows from one on, and list the checks of their values."""
    nan, size, checks = work.allow_nan, work.row_size, list[Check]()
    class_weight = None if work.class_weight is None else read(work.class_weight)
    if work.class_weight is not None and class_weight is not None:
        checks.append(Check(CLASS_WEIGHT, work.class_weight, 0, class_weight, class_weight))
    ids = read(work.targets) if work.ids_by_row else None
    kept = _kept(work, read, start, ids, checks)
    inside = None
    if ids is None and work.ignore_index is not None:
        inside = _others(work.ignore_index, read(work.targets))
        left = inside.reshape(n, size).any(1)  # of a row whose targets are all ignored nothing is
        kept = left if kept is None else kept & left
    if ids is not None:
        ids = ids if kept is None else torch.where(kept, ids, 0.0)
        checks += _id_checks(work, start, ids)
    weight = None if work.weight is None else read(work.weight)
    if work.weight is not None and weight is not None:
        weight = weight if kept is None else torch.where(kept, weight, 0.0)
        checks.append(Check(WEIGHT, work.weight, start, weight, weight, nan))

    counts = None if kept is None else kept.repeat_interleave(size)
    y = None
    if ids is None:
        y = read(work.targets)
        if inside is not None:
            counts = inside if counts is None else counts & inside
        y = y if counts is None else torch.where(counts, y, 0.0)
        y = _targets(work, start * size, y, counts, device, checks).reshape(n, size)

    def rows_of(operand: Operand) -> Rows:
        x = read(operand) if counts is None else torch.where(counts, read(operand), 0.0)
        checks.append(
            Check(input_rule(LOSSES[work.loss], work.inputs.name), operand, start * size, x, x, nan)
        )
        x = x.reshape(n, size)
        if work.inputs.name == "boxes":
            checks.append(_box_check(work, operand, start, x))
        return Rows(x, y, ids, None if inside is None else inside.reshape(n, size), class_weight, alpha)

    alpha = None if work.alpha is None else read(work.alpha)
    rows = rows_of(work.inputs)
    if y is not None and work.inputs.name == "boxes":
        checks.append(_box_check(work, work.targets, start, y))
    baseline = None if work.baseline is None else rows_of(work.baseline)
    return LoadedRows(rows, baseline, weight, kept, checks)


def _kept(work: Work, read: Read, start: int, y: Tensor | None, checks: list[Check]) -> Tensor | None:
    """Return whether each loss counts, by the mask and by targets, if these drop losses."""
    mask = None if work.mask is None else read(work.mask)
    kept = None if mask is None else mask != 0.0
    if work.ignore_index is not None and y is not None:
        other = _others(work.ignore_index, y)
        kept = other if kept is None else kept & other
    if work.mask is not None and mask is not None:
        checks.append(Check(MASK, work.mask, start, mask, mask))
    return kept


def _others(ignored: float, y: Tensor) -> Tensor:
    """Return where a target is not the one that is ignored."""
    return ~torch.isnan(y) if math.isnan(ignored) else y != ignored


def _targets(
    work: Work, start: int, y: Tensor, kept: Tensor | None, device: torch.device, checks: list[Check]
) -> Tensor:
    """Return the target of each element from one on; class ids are opened out."""
    if work.class_axis is None:
        checks.append(Check(target_rule(LOSSES[work.loss]), work.targets, start, y, y, work.allow_nan))
        return y
    ids, shape = y, work.inputs.shape
    classes = torch.arange(start, start + len(y), device=device) // math.prod(shape[work.class_axis + 1 :])
    y = (ids == classes % shape[work.class_axis]).double()
    if work.background_index is not None:
        background = ids == work.background_index
        ids, y = torch.where(background, 0.0, ids), torch.where(background, 0.0, y)
    if kept is not None:
        y = torch.where(kept, y, 0.0)
    checks += _id_checks(work, start, ids)
    return y


def _id_checks(work: Work, start: int, ids: Tensor) -> list[Check]:
    return [
        Check(class_id(LOSSES[work.loss], work.classes), work.targets, start, ids, ids),
        Check(WHOLE, work.targets, start, ids - ids.floor(), ids),
    ]


def _box_check(work: Work, operand: Operand, start: int, boxes: Tensor) -> Check:
    """Return the check that no box, [n, 4], is inverted."""
    form = str(work.own["format"])
    sizes = torch.zeros_like(boxes)
    sizes[:, 2:] = boxes[:, 2:] if form == "cxcywh" else boxes[:, 2:] - boxes[:, :2]
    return Check(box_size(form, 2), operand, 4 * start, sizes, boxes, work.allow_nan, form)
