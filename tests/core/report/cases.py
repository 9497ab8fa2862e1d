"""Drawn requests for reports, of every kind of tensor and parameter, with what they mean in plain arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from core.scoring import KERNELS, NATIVE, Array, lay, sums, work
from lossd.core.catalog import LOSSES
from lossd.core.kernel import Kernel, Sums
from lossd.core.losses.kernel import TorchKernel
from lossd.core.parameters import check_params, reduced_axes
from lossd.core.prepare import Work, prepare
from lossd.core.report.layout import Layout
from lossd.core.report.partial import Partial
from lossd.types import Float64Array, Tensor

REPORTING: list[Kernel] = [*KERNELS, *([TorchKernel(reducer=NATIVE)] if NATIVE else [])]
"""The kernels that write partial reports."""
SHAPES: list[tuple[int, ...]] = [
    (1,),
    (37,),
    (1, 1),
    (60, 1),
    (1, 3000),
    (2, 1100),
    (50, 6),
    (9, 33),
    (5, 4, 7),
    (12, 3, 1),
    (3, 4, 2, 5),
    (7, 1, 3, 2),
]


class ReportJob(NamedTuple):
    """A request, the bytes of its tensors, and where these lie."""

    work: Work
    body: bytes
    tensors: dict[str, Tensor]


@dataclass
class Case:
    """A request for a report.

    Attributes:
        loss: The loss.
        tensors: As they are sent; bfloat16 as bit patterns.
        bfloat16: The names of tensors of that dtype.
        params: The loss's parameters.
        report: Those of the report.
        inputs: The logits or probabilities as float64, of the request's shape.
        targets: The targets, likewise, one-hot for ids.
        weight: The weights, likewise, if any.
        kept: Whether each element counts.
        baseline: The baseline's inputs as float64, if any.
        groups: The group ids of each row, as integers.
        ids: The rows' ids as integers, if any.
        class_axis: The axis of the classes; None if it is axis 0.
        elements: Most elements of a part.
    """

    loss: str
    tensors: dict[str, Array]
    bfloat16: frozenset[str]
    params: dict[str, object]
    report: dict[str, object]
    inputs: Float64Array
    targets: Float64Array
    weight: Float64Array | None
    kept: Array
    baseline: Float64Array | None
    groups: list[tuple[int, ...]] | None
    ids: list[int] | None
    class_axis: int | None
    elements: int

    @property
    def probabilities(self) -> bool:
        """Whether the inputs are probabilities."""
        return "probabilities" in self.tensors

    def job(self) -> ReportJob:
        """The request, prepared."""
        checked = check_params(LOSSES[self.loss], self.params) | self.report
        laid, body = lay(self.tensors, self.bfloat16)
        shape = self.inputs.shape
        axes = reduced_axes(checked, shape)
        return ReportJob(prepare(self.loss, checked, shape, axes, self.elements, laid), body, laid)

    def losses(self, inputs: Array | None = None) -> Float64Array:
        """The element losses as the service answers them, of these inputs or others."""
        names = ("logits", "probabilities", "targets", "weight", "pos_weight", "mask", "alpha")
        tensors = {name: self.tensors[name] for name in names if name in self.tensors}
        if inputs is not None:
            tensors["probabilities" if self.probabilities else "logits"] = inputs
        params: dict[str, Any] = {
            name: value
            for name, value in self.params.items()
            if name not in ("axis", "normalizer", "reduction")
        }
        job = work(self.loss, tensors, self.bfloat16, reduction="none", **params)
        return sums(job).reshape(self.inputs.shape)


def score(kernel: Kernel, job: ReportJob, index: int) -> tuple[Sums, Partial]:
    """What a part comes to, with its partial report."""
    cut = job.work.cut
    part = cut.part(index)
    memories = [np.empty(cut.most_numbers(index)) for _ in range(job.work.channels)]
    layout = layout_of(job)
    room = layout.most_bytes((part.stop - part.start) // cut.row_size, part.stop - part.start)
    memory = bytearray(room)
    found = kernel.score(job.work, job.body, 0, index, memories, memoryview(memory))
    assert 0 < found.report <= room
    return found, Partial.read(memoryview(bytes(memory[: found.report])))


def layout_of(job: ReportJob) -> Layout:
    """The figures of a request's report."""
    assert job.work.report is not None
    return job.work.report


def drawn(seed: int) -> Case:
    """A request, drawn from everything that one can hold."""
    return _Draw(seed).case()


LONG: dict[str, tuple[int, ...]] = {
    "few classes": (3, 1500, 3),
    "rows longer than a block": (2, 300, 20),
    "short rows": (1400, 9),
    "a class": (2, 1500, 1),
    "classes side by side": (2, 5, 700),
}


def long_case(name: str) -> Case:
    """A request whose sums by class are of many numbers; in a few places numbers are extreme."""
    shape, classes = LONG[name], 1 if name == "classes side by side" else len(LONG[name]) - 1
    rng = np.random.default_rng([13, *shape])
    inputs = 3.0 * rng.standard_normal(shape)
    baseline = np.where(rng.random(shape) < 0.1, inputs, inputs + rng.normal(0.0, 1e-9, shape))
    weight, middle = np.ones(shape), inputs.size // 2
    inputs.flat[middle : middle + 9 : 3] = math.inf, 800.0, -60.0
    weight.flat[middle + 10 : middle + 16 : 2] = 1e200, 1e-200, 3e-40
    targets = rng.integers(0, 2, shape).astype(bool)
    tensors = {"logits": inputs, "targets": targets, "weight": weight, "baseline": baseline}
    focal = name == "rows longer than a block"
    return Case(
        loss="focal" if focal else "bce",
        tensors=tensors,
        bfloat16=frozenset(),
        params={"class_axis": classes, "normalizer": "count"},
        report={
            "report": ["classes", "top", "sweep", "paired"],
            "sweep": (0.0, 2.0) if focal else (),
            "top": 5,
            "row": "sum",
        },
        inputs=inputs,
        targets=targets.astype(np.float64),
        weight=weight,
        kept=np.ones(shape, bool),
        baseline=baseline,
        groups=None,
        ids=None,
        class_axis=classes,
        elements=1 << 15,
    )


class _Draw:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([11, seed])
        self.shape = SHAPES[seed % len(SHAPES)]
        self.axis = int(self.rng.integers(len(self.shape)))
        self.loss = "bce" if self.maybe(0.3) else "focal"
        self.variant = str(self.rng.choice(["sigmoid", "exp", "quality"]))
        self.nan = self.maybe(0.2)
        self.tensors: dict[str, Array] = {}
        self.bfloat16: set[str] = set()
        self.params: dict[str, object] = {"class_axis": self.axis, "allow_nan": self.nan}

    def maybe(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def case(self) -> Case:
        probabilities, kind = self.maybe(0.3), str(self.rng.choice(["f2", "bf", "f4", "f8", ">f4", ">f2"]))
        name = "probabilities" if probabilities else "logits"
        inputs = self.inputs(name, kind, probabilities=probabilities)
        baseline = self.inputs("baseline", kind, probabilities=probabilities) if self.maybe(0.6) else None
        if baseline is not None and self.maybe(0.5):  # so that some are equal
            self.tensors["baseline"].flat[::3] = self.tensors[name].flat[::3]
            baseline.flat[::3] = inputs.flat[::3]
        targets, kept = self.targets()
        kept = kept & self.mask()
        weight = self.weight()
        self.own()
        return Case(
            loss=self.loss,
            tensors=self.tensors,
            bfloat16=frozenset(self.bfloat16),
            params=self.params,
            inputs=inputs,
            targets=np.where(kept, targets, 0.0),
            weight=weight,
            kept=kept,
            baseline=baseline,
            groups=self.groups(),
            ids=self.ids(),
            class_axis=self.axis or None,
            elements=int(self.rng.choice([1, 40, 1000, 1 << 15])),
            report=self.report(kind),
        )

    def inputs(self, name: str, kind: str, *, probabilities: bool) -> Float64Array:
        size = math.prod(self.shape)
        values = self.rng.normal(0, float(self.rng.choice([1.0, 5.0, 300.0])), size)
        if self.maybe(0.5):
            values = np.round(values)  # so that some losses are equal
        for special in (math.inf, -math.inf, 0.0, -0.0, 1e-300):
            values[self.rng.random(size) < 0.02] = special
        if probabilities:
            values = np.clip(np.abs(np.round(values, 3)), 0.0, 1.0)
        if self.nan:
            values[self.rng.random(size) < 0.05] = math.nan
        values = values.reshape(self.shape)
        with np.errstate(over="ignore"):
            if kind == "bf":
                bits = (values.astype("f4").view("u4") >> np.uint32(16)).astype("u2")
                self.bfloat16.add(name)
                self.tensors[name] = bits
                return (bits.astype("u4") << np.uint32(16)).view("f4").astype("f8")
            sent = values.astype(kind)
        self.tensors[name] = np.asfortranarray(sent) if self.maybe(0.2) else sent
        return sent.astype("f8")

    def targets(self) -> tuple[Float64Array, Array]:
        if self.maybe(0.3):
            return self.class_ids()
        targets = self.rng.choice([0.0, 1.0], self.shape, p=[0.7, 0.3])
        if self.maybe(0.5):
            soft = self.rng.random(self.shape) < 0.3
            targets = np.where(soft, self.rng.random(self.shape), targets)
        if self.nan:
            targets[self.rng.random(self.shape) < 0.03] = math.nan
        if self.maybe(0.3):
            self.params["label_smoothing"] = float(self.rng.choice([0.1, 1e-6]))
        if not self.maybe(0.3):
            self.tensors["targets"] = targets
            return targets, np.ones(self.shape, bool)
        gone = self.rng.random(self.shape) < 0.2
        targets[gone] = -1.0
        self.params["ignore_index"] = -1
        self.tensors["targets"] = targets
        return targets, ~gone

    def class_ids(self) -> tuple[Float64Array, Array]:
        classes = self.shape[self.axis]
        others = [n for axis, n in enumerate(self.shape) if axis != self.axis]
        ids = self.rng.integers(-1, classes, others)
        self.tensors["targets"] = ids
        self.params |= {"targets_format": "index", "ignore_index": -1}
        wide = np.expand_dims(ids, self.axis)
        each = np.arange(classes).reshape([-1 if axis == self.axis else 1 for axis in range(len(self.shape))])
        return (wide == each).astype("f8"), np.broadcast_to(wide != -1, self.shape)

    def mask(self) -> Array:
        if not self.maybe(0.4):
            return np.ones(self.shape, bool)
        by_row = (self.shape[0], *(1 for _ in self.shape[1:]))
        mask = self.rng.random(by_row if self.maybe(0.5) else self.shape) < 0.8
        self.tensors["mask"] = mask
        return np.broadcast_to(mask, self.shape)

    def weight(self) -> Float64Array | None:
        if not self.maybe(0.5):
            return None
        weight = self.rng.random(self.shape if self.maybe(0.6) else self.shape[-1:])
        weight[self.rng.random(weight.shape) < 0.1] = 0.0
        if self.nan and self.maybe(0.3):
            weight.reshape(-1)[0] = math.nan
        self.tensors["weight"] = weight
        return np.broadcast_to(weight, self.shape)

    def own(self) -> None:
        if self.loss == "focal":
            self.params |= {"variant": self.variant, "gamma": float(self.rng.choice([0.0, 1.5, 2.0, 2.7]))}
            if self.maybe(0.3):
                self.params["alpha"] = None
            elif self.maybe(0.3):
                self.tensors["alpha"] = self.rng.random(self.shape[self.axis])
        if self.maybe(0.4):
            self.tensors["pos_weight"] = 3.0 * self.rng.random(self.shape[self.axis])
        normalizers = ["count", "positives", 3.5, *(["weight"] if "weight" in self.tensors else [])]
        self.params["normalizer"] = normalizers[int(self.rng.integers(len(normalizers)))]
        if self.maybe(0.3):
            self.params["reduction"] = "sum"
        if self.maybe(0.3):
            self.params["axis"] = int(self.rng.integers(len(self.shape)))

    def groups(self) -> list[tuple[int, ...]] | None:
        if not self.maybe(0.6):
            return None
        rows, columns = self.shape[0], int(self.rng.integers(1, 4))
        dtype = self.rng.choice(["i8", "u8", "i4", ">i2", "u1"])
        ids = self.rng.integers(0, 3, (rows, columns)).astype(dtype)
        if dtype in ("i8", "i4"):
            ids = ids - ids.dtype.type(1)
        if dtype == "u8":
            ids = ids + np.uint64((1 << 64) - 3)
        groups = [tuple(map(int, row)) for row in ids]
        if self.maybe(0.3):
            for column in range(columns):
                self.tensors[f"group.g{column}"] = np.ascontiguousarray(ids[:, column])
        elif columns == 1 and self.maybe(0.5):
            self.tensors["groups"] = np.ascontiguousarray(ids[:, 0])
        else:
            self.tensors["groups"] = np.asfortranarray(ids) if self.maybe(0.3) else ids
        return groups

    def ids(self) -> list[int] | None:
        if not self.maybe(0.5):
            return None
        rows = self.shape[0]
        ids = self.rng.permutation(rows)
        sent = ids.astype("u8") * np.uint64(1 << 52) if self.maybe(0.4) else ids - rows // 2
        self.tensors["ids"] = sent
        return [int(each) for each in sent]

    def report(self, kind: str) -> dict[str, object]:
        if self.maybe(0.7):
            sections = ["all"]
        else:
            needs = {"classes": self.axis > 0, "groups": False, "sweep": False, "paired": False}
            names = ["totals", "classes", "top", "histogram", "calibration"]
            sections = [name for name in names if needs.get(name, True) and self.maybe(0.5)]
            sections += [name for name in ("groups",) if self.has_groups()]
            sections += ["paired"] if "baseline" in self.tensors else []
        report: dict[str, Any] = {"report": sections, "top": int(self.rng.choice([1, 3, 50]))}
        if self.maybe(0.6):
            report["sweep"] = () if self.loss == "bce" else (0.0, 1.5, 2.0, 0.7)
        exact = kind in ("f2", "bf", ">f2") and self.maybe(0.5)
        report["calibration_bins"] = "exact" if exact else int(self.rng.choice([2, 10, 64]))
        report["row"] = "mean" if self.maybe(0.4) else "sum"
        return report

    def has_groups(self) -> bool:
        return any(name.startswith("group") for name in self.tensors)
