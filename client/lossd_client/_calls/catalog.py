# Written by `make reference` from lossd/core/catalog.py: change that.
"""The losses, and the types of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypedDict

from lossd_client._calls.arrays import Array
from lossd_client._calls.labels import Column, Groups
from lossd_client._calls.loss import Loss, Parameter
from lossd_client._calls.values import (
    Axis,
    Bins,
    Default,
    IgnoreIndex,
    Normalizer,
    Reduction,
    RowLoss,
    Sections,
    Sweep,
    TargetsFormat,
    Variant,
)

LossName: TypeAlias = Literal[
    "bce",
    "focal",
    "asymmetric",
    "varifocal",
    "cross_entropy",
    "softmax_focal",
    "dice",
    "tversky",
    "squared",
    "hinge",
    "box",
]
"""The losses that have methods of their own."""
SHARED: Final[Mapping[str, Any]] = {
    "reduction": "mean",
    "axis": None,
    "normalizer": "count",
    "class_axis": -1,
    "targets_format": "dense",
    "label_smoothing": 0.0,
    "ignore_index": None,
    "background_index": None,
    "allow_nan": False,
    "pos_weight": None,
}
"""The parameters that losses have in common, and their defaults."""
LOSSES: Final[Mapping[str, Loss]] = {
    each.name: each
    for each in (
        Loss(
            name="bce",
            inputs=(
                "logits",
                "probabilities",
            ),
            row="",
            targets="probability",
            without=(),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "label_smoothing",
                "ignore_index",
                "background_index",
                "allow_nan",
                "pos_weight",
            ),
            own={},
        ),
        Loss(
            name="focal",
            inputs=(
                "logits",
                "probabilities",
            ),
            row="",
            targets="probability",
            without=(),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "label_smoothing",
                "ignore_index",
                "background_index",
                "allow_nan",
                "pos_weight",
            ),
            own={
                "gamma": Parameter("number", 1.5),
                "alpha": Parameter("numbers", 0.25, has_none=True),
                "variant": Parameter(
                    "word",
                    "sigmoid",
                    words=(
                        "sigmoid",
                        "exp",
                        "quality",
                    ),
                ),
            },
        ),
        Loss(
            name="asymmetric",
            inputs=(
                "logits",
                "probabilities",
            ),
            row="",
            targets="probability",
            without=("sweep",),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "label_smoothing",
                "ignore_index",
                "background_index",
                "allow_nan",
            ),
            own={
                "gamma_pos": Parameter("number", 1.0),
                "gamma_neg": Parameter("number", 4.0),
                "clip": Parameter("number", 0.05),
            },
        ),
        Loss(
            name="varifocal",
            inputs=(
                "logits",
                "probabilities",
            ),
            row="",
            targets="probability",
            without=("sweep",),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "ignore_index",
                "background_index",
                "allow_nan",
            ),
            own={
                "alpha": Parameter("number", 0.75),
                "gamma": Parameter("number", 2.0),
            },
        ),
        Loss(
            name="cross_entropy",
            inputs=("logits",),
            row="classes",
            targets="probability",
            without=("sweep",),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "ignore_index",
                "allow_nan",
            ),
            own={
                "targets_format": Parameter("shared", None, has_none=True),
                "label_smoothing": Parameter("shared", 0.0),
                "class_weight": Parameter("numbers", None, has_none=True),
            },
        ),
        Loss(
            name="softmax_focal",
            inputs=("logits",),
            row="classes",
            targets="probability",
            without=("sweep",),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "ignore_index",
                "allow_nan",
            ),
            own={
                "targets_format": Parameter("shared", None, has_none=True),
                "label_smoothing": Parameter("shared", 0.0),
                "gamma": Parameter("number", 2.0),
                "alpha": Parameter("numbers", None, has_none=True),
            },
        ),
        Loss(
            name="dice",
            inputs=(
                "logits",
                "probabilities",
            ),
            row="sample",
            targets="probability",
            without=(
                "classes",
                "calibration",
                "sweep",
            ),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "ignore_index",
                "background_index",
                "allow_nan",
            ),
            own={
                "smooth": Parameter("number", 1.0),
                "per": Parameter(
                    "word",
                    "sample",
                    words=(
                        "sample",
                        "class",
                        "all",
                    ),
                ),
            },
        ),
        Loss(
            name="tversky",
            inputs=(
                "logits",
                "probabilities",
            ),
            row="sample",
            targets="probability",
            without=(
                "classes",
                "calibration",
                "sweep",
            ),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "ignore_index",
                "background_index",
                "allow_nan",
            ),
            own={
                "smooth": Parameter("number", 1.0),
                "per": Parameter(
                    "word",
                    "sample",
                    words=(
                        "sample",
                        "class",
                        "all",
                    ),
                ),
                "alpha": Parameter("number", 0.5),
                "beta": Parameter("number", 0.5),
            },
        ),
        Loss(
            name="squared",
            inputs=("logits",),
            row="",
            targets="number",
            without=(
                "calibration",
                "sweep",
            ),
            shared=(
                "reduction",
                "axis",
                "class_axis",
                "targets_format",
                "ignore_index",
                "background_index",
                "allow_nan",
            ),
            own={
                "normalizer": Parameter("shared", "count"),
            },
        ),
        Loss(
            name="hinge",
            inputs=("logits",),
            row="",
            targets="probability",
            without=(
                "calibration",
                "sweep",
            ),
            shared=(
                "reduction",
                "axis",
                "normalizer",
                "class_axis",
                "targets_format",
                "ignore_index",
                "background_index",
                "allow_nan",
            ),
            own={},
        ),
        Loss(
            name="box",
            inputs=("boxes",),
            row="box",
            targets="box",
            without=(
                "classes",
                "calibration",
                "sweep",
            ),
            shared=(
                "reduction",
                "axis",
                "allow_nan",
            ),
            own={
                "normalizer": Parameter("shared", "count"),
                "variant": Parameter(
                    "word",
                    "iou",
                    words=(
                        "iou",
                        "giou",
                        "diou",
                        "ciou",
                    ),
                ),
                "format": Parameter(
                    "word",
                    "xyxy",
                    words=(
                        "xyxy",
                        "cxcywh",
                    ),
                ),
            },
        ),
    )
}


class BatchParams(TypedDict, total=False):
    """The parameters of every loss for batches, and of their report; see `LossClient.report`."""

    reduction: Reduction
    axis: Axis
    sections: Sections | None
    top: int
    row: RowLoss
    first_row: int
    calibration_bins: Bins
    sweep: Sweep | None


class ReportArguments(TypedDict, total=False):
    """The arguments of `LossClient.report` for every loss."""

    weight: Array | None
    mask: Array | None
    groups: Groups | None
    ids: Column | None
    baseline: Array | None
    sections: Sections | None
    top: int
    row: RowLoss
    first_row: int
    calibration_bins: Bins
    sweep: Sweep | None


class BceReportParams(TypedDict, total=False):
    """The parameters of bce for a report; see `LossClient.bce`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    label_smoothing: float
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    pos_weight: Array | None


class BceParams(BceReportParams, BatchParams, total=False):
    """The parameters of bce for batches; see `LossClient.bce` and `LossClient.report`."""


class BceReport(BceReportParams, ReportArguments, total=False):
    """The arguments of a report of bce; see `LossClient.bce` and `LossClient.report`."""

    probabilities: Array | None


class FocalReportParams(TypedDict, total=False):
    """The parameters of focal for a report; see `LossClient.focal`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    label_smoothing: float
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    pos_weight: Array | None
    gamma: float | Default
    alpha: Array | Default | None
    variant: Variant | Default


class FocalParams(FocalReportParams, BatchParams, total=False):
    """The parameters of focal for batches; see `LossClient.focal` and `LossClient.report`."""


class FocalReport(FocalReportParams, ReportArguments, total=False):
    """The arguments of a report of focal; see `LossClient.focal` and `LossClient.report`."""

    probabilities: Array | None


class AsymmetricReportParams(TypedDict, total=False):
    """The parameters of asymmetric for a report; see `LossClient.asymmetric`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    label_smoothing: float
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    gamma_pos: float | Default
    gamma_neg: float | Default
    clip: float | Default


class AsymmetricParams(AsymmetricReportParams, BatchParams, total=False):
    """The parameters of asymmetric for batches; see `LossClient.asymmetric` and `LossClient.report`."""


class AsymmetricReport(AsymmetricReportParams, ReportArguments, total=False):
    """The arguments of a report of asymmetric; see `LossClient.asymmetric` and `LossClient.report`."""

    probabilities: Array | None


class VarifocalReportParams(TypedDict, total=False):
    """The parameters of varifocal for a report; see `LossClient.varifocal`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    alpha: float | Default
    gamma: float | Default


class VarifocalParams(VarifocalReportParams, BatchParams, total=False):
    """The parameters of varifocal for batches; see `LossClient.varifocal` and `LossClient.report`."""


class VarifocalReport(VarifocalReportParams, ReportArguments, total=False):
    """The arguments of a report of varifocal; see `LossClient.varifocal` and `LossClient.report`."""

    probabilities: Array | None


class CrossEntropyReportParams(TypedDict, total=False):
    """The parameters of cross_entropy for a report; see `LossClient.cross_entropy`."""

    normalizer: Normalizer
    class_axis: int
    ignore_index: IgnoreIndex
    allow_nan: bool
    targets_format: Literal["dense", "index"] | None
    label_smoothing: float
    class_weight: Array | None


class CrossEntropyParams(CrossEntropyReportParams, BatchParams, total=False):
    """The parameters of cross_entropy for batches; see `LossClient.cross_entropy` and `LossClient.report`."""


class CrossEntropyReport(CrossEntropyReportParams, ReportArguments, total=False):
    """The arguments of a report of cross_entropy; see `LossClient.cross_entropy` and `LossClient.report`."""


class SoftmaxFocalReportParams(TypedDict, total=False):
    """The parameters of softmax_focal for a report; see `LossClient.softmax_focal`."""

    normalizer: Normalizer
    class_axis: int
    ignore_index: IgnoreIndex
    allow_nan: bool
    targets_format: Literal["dense", "index"] | None
    label_smoothing: float
    gamma: float | Default
    alpha: Array | None


class SoftmaxFocalParams(SoftmaxFocalReportParams, BatchParams, total=False):
    """The parameters of softmax_focal for batches; see `LossClient.softmax_focal` and `LossClient.report`."""


class SoftmaxFocalReport(SoftmaxFocalReportParams, ReportArguments, total=False):
    """The arguments of a report of softmax_focal; see `LossClient.softmax_focal` and `LossClient.report`."""


class DiceReportParams(TypedDict, total=False):
    """The parameters of dice for a report; see `LossClient.dice`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    smooth: float | Default
    per: Literal["sample", "class", "all"] | Default


class DiceParams(DiceReportParams, BatchParams, total=False):
    """The parameters of dice for batches; see `LossClient.dice` and `LossClient.report`."""


class DiceReport(DiceReportParams, ReportArguments, total=False):
    """The arguments of a report of dice; see `LossClient.dice` and `LossClient.report`."""

    probabilities: Array | None


class TverskyReportParams(TypedDict, total=False):
    """The parameters of tversky for a report; see `LossClient.tversky`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    smooth: float | Default
    per: Literal["sample", "class", "all"] | Default
    alpha: float | Default
    beta: float | Default


class TverskyParams(TverskyReportParams, BatchParams, total=False):
    """The parameters of tversky for batches; see `LossClient.tversky` and `LossClient.report`."""


class TverskyReport(TverskyReportParams, ReportArguments, total=False):
    """The arguments of a report of tversky; see `LossClient.tversky` and `LossClient.report`."""

    probabilities: Array | None


class SquaredReportParams(TypedDict, total=False):
    """The parameters of squared for a report; see `LossClient.squared`."""

    class_axis: int
    targets_format: TargetsFormat
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool
    normalizer: Literal["count", "weight"] | float


class SquaredParams(SquaredReportParams, BatchParams, total=False):
    """The parameters of squared for batches; see `LossClient.squared` and `LossClient.report`."""


class SquaredReport(SquaredReportParams, ReportArguments, total=False):
    """The arguments of a report of squared; see `LossClient.squared` and `LossClient.report`."""


class HingeReportParams(TypedDict, total=False):
    """The parameters of hinge for a report; see `LossClient.hinge`."""

    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    ignore_index: IgnoreIndex
    background_index: int | None
    allow_nan: bool


class HingeParams(HingeReportParams, BatchParams, total=False):
    """The parameters of hinge for batches; see `LossClient.hinge` and `LossClient.report`."""


class HingeReport(HingeReportParams, ReportArguments, total=False):
    """The arguments of a report of hinge; see `LossClient.hinge` and `LossClient.report`."""


class BoxReportParams(TypedDict, total=False):
    """The parameters of box for a report; see `LossClient.box`."""

    allow_nan: bool
    normalizer: Literal["count", "weight"] | float
    variant: Literal["iou", "giou", "diou", "ciou"] | Default
    format: Literal["xyxy", "cxcywh"] | Default


class BoxParams(BoxReportParams, BatchParams, total=False):
    """The parameters of box for batches; see `LossClient.box` and `LossClient.report`."""


class BoxReport(BoxReportParams, ReportArguments, total=False):
    """The arguments of a report of box; see `LossClient.box` and `LossClient.report`."""

    boxes: Array | None
