"""The losses that the fake has: their parameters' defaults, what has one loss, and their formulas."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from sys import float_info
from typing import Any, Final, Literal, TypeAlias

from lossd_client._calls.parameters import OPTIONS
from lossd_client.testing import _fake_formulas as formulas

Formula: TypeAlias = Callable[[formulas.Tensors, Mapping[str, Any]], formulas.Scores]


@dataclass(frozen=True, slots=True)
class FakeLoss:
    """A loss.

    Attributes:
        formula: Its formula.
        own: Its own parameters, with their defaults.
        shared: The names of the options that it has; empty for all.
        inputs: The names that its inputs may have.
        row: What has one loss: an element (""), the "classes" of a row, a "sample" or a "box".
        targets: The values of its targets: a "probability", any "number", or a "box".
        without: The sections of a report that it does not have.
        words: The words that a parameter of its own may be.
        limits: The least and the greatest number that a parameter of its own may be.
    """

    formula: Formula
    own: Mapping[str, Any] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("logits", "probabilities")
    row: Literal["", "classes", "sample", "box"] = ""
    targets: Literal["probability", "number", "box"] = "probability"
    without: tuple[str, ...] = ("sweep",)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def has_pos_weight(self) -> bool:
        """Whether there is a factor for positives."""
        return "pos_weight" in self.options

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that are not among its own parameters, with their defaults."""
        return {
            name: default
            for name, default in OPTIONS.items()
            if name not in self.own and (not self.shared or name in self.shared)
        }


_REDUCED: Final = ("axis", "normalizer", "allow_nan")
_TARGETS: Final = ("class_axis", "targets_format", "background_index", "ignore_index")
_IN_ROWS: Final = ("classes", "calibration", "sweep")
_GAMMA: Final = (0.0, 1000.0)
_FACTOR: Final = (0.0, 1e6)
_CLASS_FACTOR: Final = (0.0, float_info.max)


def _of_classes(
    formula: Formula, own: Mapping[str, Any], limits: Mapping[str, tuple[float, float]]
) -> FakeLoss:
    """Return a loss of rows of classes."""
    return FakeLoss(
        formula,
        {"targets_format": None, "label_smoothing": 0.0, **own},
        (*_REDUCED, "class_axis", "ignore_index"),
        inputs=("logits",),
        row="classes",
        limits=limits,
    )


def _overlap(**factors: float) -> FakeLoss:
    """Return a loss of two areas."""
    own = {"smooth": 1.0, **factors}
    return FakeLoss(
        formulas.overlap,
        {**own, "per": "sample"},
        (*_REDUCED, *_TARGETS),
        row="sample",
        without=_IN_ROWS,
        words={"per": ("sample", "class", "all")},
        limits=dict.fromkeys(own, _FACTOR),
    )


LOSSES: Final[Mapping[str, FakeLoss]] = {
    "bce": FakeLoss(formulas.bce, without=()),
    "focal": FakeLoss(
        formulas.focal,
        {"gamma": 1.5, "alpha": 0.25, "variant": "sigmoid"},
        without=(),
        words={"variant": ("sigmoid", "exp", "quality")},
        limits={"gamma": _GAMMA, "alpha": (0.0, 1.0)},
    ),
    "asymmetric": FakeLoss(
        formulas.asymmetric,
        {"gamma_pos": 1.0, "gamma_neg": 4.0, "clip": 0.05},
        (*_REDUCED, *_TARGETS, "label_smoothing"),
        limits={"gamma_pos": _GAMMA, "gamma_neg": _GAMMA, "clip": (0.0, 1.0)},
    ),
    "varifocal": FakeLoss(
        formulas.varifocal,
        {"alpha": 0.75, "gamma": 2.0},
        (*_REDUCED, *_TARGETS),
        limits={"alpha": (0.0, 1.0), "gamma": _GAMMA},
    ),
    "cross_entropy": _of_classes(
        formulas.cross_entropy, {"class_weight": None}, {"class_weight": _CLASS_FACTOR}
    ),
    "softmax_focal": _of_classes(
        formulas.softmax_focal, {"gamma": 2.0, "alpha": None}, {"gamma": _GAMMA, "alpha": _CLASS_FACTOR}
    ),
    "dice": _overlap(),
    "tversky": _overlap(alpha=0.5, beta=0.5),
    "squared": FakeLoss(
        formulas.squared,
        {"normalizer": "count"},
        (*_REDUCED, *_TARGETS),
        inputs=("logits",),
        targets="number",
        without=("calibration", "sweep"),
    ),
    "hinge": FakeLoss(
        formulas.hinge,
        shared=(*_REDUCED, *_TARGETS),
        inputs=("logits",),
        without=("calibration", "sweep"),
    ),
    "box": FakeLoss(
        formulas.box,
        {"normalizer": "count", "variant": "iou", "format": "xyxy"},
        _REDUCED,
        inputs=("boxes",),
        row="box",
        targets="box",
        without=_IN_ROWS,
        words={"variant": ("iou", "giou", "diou", "ciou"), "format": ("xyxy", "cxcywh")},
    ),
}
"""The losses by name."""
