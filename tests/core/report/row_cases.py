"""Drawn requests for reports of every loss of the catalog, and their documents by a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson

from core.report.cases import ReportJob, layout_of, score
from core.scoring import Array, lay
from lossd.core.catalog import LOSSES, Loss
from lossd.core.document.accumulator import Labels, ReportSums
from lossd.core.document.document import document_of
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Kernel
from lossd.core.parameters import check_params, losses_shape, options_of, own_params, reduced_axes
from lossd.core.prepare import prepare
from lossd.types import LossRequest, LossResult
from lossd.wire.json.writing import write_value

ROWS: dict[str, list[tuple[tuple[int, ...], int]]] = {
    "": [((40, 6), -1), ((5, 4, 7), 1)],
    "classes": [((60, 5), -1), ((9, 4, 3, 6), 1), ((3, 2500), -1), ((2, 3, 1030), -1), ((1300, 2), 1)],
    "sample": [((30, 8), -1), ((4, 3, 700), 1), ((7, 1), -1)],
    "box": [((50, 4), -1), ((6, 11, 4), -1)],
}
"""Shapes of inputs and their class axes, by what has a loss. Some rows are longer than a block."""


@dataclass
class RowCase:
    """A request.

    Attributes:
        loss: The loss.
        tensors: As they are sent.
        params: The loss's parameters.
        report: Those of the report.
        elements: Most losses of a part.
        lists: Lists among the parameters, which are tensors to the kernels.
    """

    loss: Loss
    tensors: dict[str, Array]
    params: dict[str, object]
    report: dict[str, object]
    elements: int = 1 << 15
    lists: dict[str, Array] = field(default_factory=dict)

    @property
    def inputs(self) -> Array:
        """The inputs."""
        return next(self.tensors[name] for name in self.loss.inputs if name in self.tensors)

    @property
    def shape(self) -> tuple[int, ...]:
        """The losses' shape."""
        return losses_shape(self.loss, check_params(self.loss, self.params), self.inputs.shape)

    def prepared(self, **reduced: object) -> ReportJob:
        """The request as kernels take it; without a report if reduced."""
        params = check_params(self.loss, self.params | reduced) | ({} if reduced else self.report)
        laid, body = lay(self.tensors | self.lists, frozenset())
        axes = reduced_axes(params, self.shape)
        return ReportJob(prepare(self.loss.name, params, self.shape, axes, self.elements, laid), body, laid)


class Scored(NamedTuple):
    """A document, and what the kernel answers beside it."""

    document: dict[str, Any]
    result: LossResult


def row_case(name: str, seed: int) -> RowCase:
    """A request, drawn from what the loss can have."""
    return _Draw(LOSSES[name], seed).case()


class _Draw:
    def __init__(self, loss: Loss, seed: int) -> None:
        self.loss = loss
        self.rng = np.random.default_rng([17, seed, *loss.name.encode()])
        shapes = ROWS[loss.row]
        self.shape, self.axis = shapes[seed % len(shapes)]
        self.has = {parameter.name for parameter in loss.all_parameters}
        self.params: dict[str, object] = {"class_axis": self.axis} if "class_axis" in self.has else {}
        self.nan = self.maybe(0.25)
        self.params["allow_nan"] = self.nan
        self.tensors: dict[str, Array] = {}
        self.lists: dict[str, Array] = {}

    def maybe(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def case(self) -> RowCase:
        self.tensors[self.loss.inputs[0]] = self.inputs()
        if self.maybe(0.6):
            self.tensors["baseline"] = self.inputs()
            self.tensors["baseline"][::2] = self.tensors[self.loss.inputs[0]][::2]  # so that some are equal
        self.targets()
        case = RowCase(self.loss, self.tensors, self.params, {}, lists=self.lists)
        shape = case.shape
        if self.maybe(0.5):
            self.tensors["weight"] = np.round(self.rng.random(shape), 2)
        if self.maybe(0.5):
            self.tensors["mask"] = self.rng.random(shape) < 0.8
        if self.maybe(0.6):
            self.tensors["groups"] = self.rng.integers(-1, 3, (shape[0], int(self.rng.integers(1, 3))))
        if self.maybe(0.5):
            self.tensors["ids"] = self.rng.permutation(shape[0])
        if "class_weight" in self.has and self.maybe(0.5):
            self.lists["class_weight"] = np.round(3.0 * self.rng.random(self.shape[self.axis]), 1)
        if self.loss.name == "softmax_focal":
            self.params["gamma"] = float(self.rng.choice([0.0, 1.5, 2.0, 2.7]))
            if self.maybe(0.5):
                self.lists["alpha"] = self.rng.random(self.shape[self.axis])
        self.normalizer()
        case.report = {
            "report": ("all",),
            "top": int(self.rng.choice([1, 4, 50])),
            "row": "mean" if self.maybe(0.4) else "sum",
        }
        if "calibration" not in self.loss.without:
            case.report["calibration_bins"] = int(self.rng.choice([2, 10, 64]))
        case.elements = int(self.rng.choice([1, 7, 40, 1 << 15])) if shape[0] < 100 else 400
        return case

    def inputs(self) -> Array:
        if self.loss.row == "box":
            return self.boxes()
        values = self.rng.normal(0, float(self.rng.choice([1.0, 4.0, 300.0])), self.shape)
        if self.maybe(0.5):
            values = np.round(values)  # so that some are equal
        for special in (np.inf, -np.inf, -0.0):
            values[self.rng.random(self.shape) < 0.01] = special
        if self.loss.targets == "number":
            values = np.nan_to_num(values, posinf=1e9, neginf=-1e9)
        if self.nan:
            values[self.rng.random(self.shape) < 0.01] = np.nan
        return values.astype("f4")

    def boxes(self) -> Array:
        corners = np.round(10.0 * self.rng.random((2, *self.shape[:-1], 2)), 1)
        return np.concatenate([corners.min(0), corners.max(0)], axis=-1).astype("f4")

    def targets(self) -> None:
        shape = self.shape
        if self.loss.row == "box":
            self.tensors["targets"] = self.boxes()
            return
        by_index = self.loss.targets != "number" and self.maybe(0.5)
        if "targets_format" in self.has:
            self.params["targets_format"] = "index" if by_index else "dense"
        if by_index:
            others = tuple(n for axis, n in enumerate(shape) if axis != self.axis % len(shape))
            ids = self.rng.integers(0, shape[self.axis], others)
            if self.maybe(0.5):
                ids[self.rng.random(others) < 0.2] = -1
                self.params["ignore_index"] = -1
            self.tensors["targets"] = ids
        else:
            targets = (self.rng.random(shape) < 0.3).astype("f8")
            if self.loss.row == "classes":
                targets = self.dense()
            elif self.maybe(0.5):
                targets = np.where(self.rng.random(shape) < 0.3, self.rng.random(shape), targets)
            if self.nan:
                targets[self.rng.random(shape) < 0.01] = np.nan
            self.tensors["targets"] = targets
        if "label_smoothing" in self.has and self.maybe(0.3):
            self.params["label_smoothing"] = 0.1

    def dense(self) -> Array:
        targets = self.rng.random(self.shape) ** 8
        hard = targets == targets.max(self.axis, keepdims=True)
        soft = np.round(targets / targets.sum(self.axis, keepdims=True), 3)
        found: Array = np.where(self.maybe(0.5), hard, soft).astype("f8")
        return found

    def normalizer(self) -> None:
        (parameter,) = (each for each in self.loss.all_parameters if each.name == "normalizer")
        choices: list[object] = ["count", 3.5]
        if "positives" in str(parameter.schema):
            choices.append("positives")
        if "weight" in self.tensors or "class_weight" in self.lists:
            choices.append("weight")
        self.params["normalizer"] = choices[int(self.rng.integers(len(choices)))]


def scored(kernel: Kernel, case: RowCase) -> Scored:
    """The document of a request, from its parts in reverse order."""
    job = case.prepared()
    layout, cut = layout_of(job), job.work.cut
    ids = Labels() if "ids" in case.tensors else None
    report = ReportSums(layout, 1 << 18, [Labels()] * len(job.work.groups), ids)
    totals, count = [ExactSum(), ExactSum(), ExactSum()], 0
    for index in reversed(range(cut.parts)):
        found, partial = score(kernel, job, index)
        report.add(partial, 0)
        count += found.count
        terms = (found.loss, found.weights or [float(found.count)], found.positives)
        for total, its in zip(totals, terms, strict=True):
            total.add_all(its)
    params = check_params(case.loss, case.params)
    request = LossRequest(
        case.loss.name,
        job.tensors,
        params | case.report,
        own_params(case.loss, params) | {name: its.tolist() for name, its in case.lists.items()},
        options_of(case.loss, params),
    )
    result = LossResult(
        loss=0.0,
        reduction="sum",
        count=count,
        sum_terms=tuple(totals[0].terms),
        weight_sum_terms=tuple(totals[1].terms),
        positives_terms=tuple(totals[2].terms),
        shape=case.inputs.shape,
        loss_name=case.loss.name,
        params=request.own,
        kernel=kernel.name,
        device=kernel.device,
        options=request.options,
    )
    return Scored(orjson.loads(write_value(document_of(report, result, request))), result)
