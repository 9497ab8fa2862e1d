"""One call: the tensors and parameters of a loss, as given and as checked.

Nothing here sends; `_encoding` turns a checked call into a request.
"""

import difflib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from lossd_client._arrays import FLOATS, IDS, MASK, TARGETS, WEIGHTS, Array, as_array, dtype_name, widened
from lossd_client._labels import Column, Groups, Labels

LossName: TypeAlias = Literal["bce", "focal"]
Reduction: TypeAlias = Literal["none", "sum", "mean"]
Axis: TypeAlias = int | Sequence[int] | None
Normalizer: TypeAlias = Literal["count", "weight", "positives"] | float
TargetsFormat: TypeAlias = Literal["dense", "index"]
IgnoreIndex: TypeAlias = float | Literal["nan"] | None
Variant: TypeAlias = Literal["sigmoid", "exp", "quality"]
Section: TypeAlias = Literal[
    "totals", "classes", "groups", "top", "histogram", "calibration", "sweep", "paired"
]
Sections: TypeAlias = Section | Literal["all"] | Sequence[Section]
RowLoss: TypeAlias = Literal["sum", "mean"]
Bins: TypeAlias = int | Literal["exact"]
Sweep: TypeAlias = Mapping[Literal["gamma"], Sequence[float]]


class Default(Enum):
    """The type of `DEFAULT`."""

    DEFAULT = "the server's default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""Stands for a parameter that is not sent, where None has a meaning of its own."""


class BceReportParams(TypedDict, total=False):
    """The parameters of binary cross entropy for a report; see `LossClient.bce`."""

    pos_weight: Array | None
    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    background_index: int | None
    label_smoothing: float
    ignore_index: IgnoreIndex
    allow_nan: bool


class FocalReportParams(BceReportParams, total=False):
    """The parameters of focal loss for a report; see `LossClient.focal`."""

    gamma: float | Default
    alpha: Array | Default | None
    variant: Variant | Default


class BceParams(BceReportParams, total=False):
    """The parameters of binary cross entropy for batches; see `LossClient.bce` and `LossClient.report`."""

    reduction: Reduction
    axis: Axis
    sections: Sections | None
    top: int
    row: RowLoss
    first_row: int
    calibration_bins: Bins
    sweep: Sweep | None


class FocalParams(BceParams, total=False):
    """The parameters of focal loss for batches; see `LossClient.focal` and `LossClient.report`."""

    gamma: float | Default
    alpha: Array | Default | None
    variant: Variant | Default


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of a call as given, in the order in which they are sent."""

    logits: Array | None
    probabilities: Array | None
    targets: Array | None
    weight: Array | None
    mask: Array | None
    pos_weight: Array | None  # a single number goes as a parameter
    groups: Groups | None = None  # these three are for a report
    ids: Column | None = None
    baseline: Array | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """The parameters that every loss has, with the API's defaults. What equals its default is not sent.

    The clients' methods repeat these defaults, for readers of a signature.
    """

    reduction: Reduction = "mean"
    axis: Axis = None
    normalizer: Normalizer = "count"
    class_axis: int = -1
    targets_format: TargetsFormat = "dense"
    background_index: int | None = None
    label_smoothing: float = 0.0
    ignore_index: IgnoreIndex = None
    allow_nan: bool = False


@dataclass(frozen=True, slots=True)
class LossCall:
    """A call as given, before anything is converted or checked."""

    loss_name: str
    tensors: Tensors
    shared: Shared
    own: Mapping[str, Any] = field(default_factory=dict)  # the loss's own; DEFAULT for those not given
    report: Mapping[str, Any] = field(default_factory=dict)  # the report's


@dataclass(frozen=True, slots=True)
class ReportCall:
    """What a call asks of a report.

    Attributes:
        params: The report's parameters, those that differ from their defaults, as JSON values.
        groups: The rows' groups.
        ids: The rows' ids.
        row_weights: How a report shows a `pos_weight` with numbers of its own for each row; None without one.
            The server cannot tell it from others if a part of a call has one row.
    """

    params: Mapping[str, Any]
    groups: Labels | None = None
    ids: Labels | None = None
    row_weights: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A call whose tensors are arrays and whose parameters are JSON values.

    Attributes:
        loss_name: The loss.
        tensors: By name, the logits or probabilities first, in the order in which they are sent.
        params: The shared parameters that differ from their defaults, as JSON values.
        own: The given ones of the loss's own parameters, likewise.
        report: What is asked of a report; None without one.
    """

    loss_name: str
    tensors: Mapping[str, NDArray[Any]]
    params: Mapping[str, Any]
    own: Mapping[str, Any]
    report: ReportCall | None = None

    @property
    def inputs(self) -> NDArray[Any]:
        """The logits or probabilities."""
        return next(iter(self.tensors.values()))

    @property
    def rows(self) -> int:
        """How many rows the inputs have."""
        return self.inputs.shape[0] if self.inputs.ndim else 1

    def after(self, rows: int) -> Self:
        """Return this call with its rows numbered on after `rows` others, for its report."""
        if self.report is None or not rows:
            return self
        first_row = self.report.params.get("first_row", 0) + rows
        return replace(
            self, report=replace(self.report, params={**self.report.params, "first_row": first_row})
        )

    @property
    def axes(self) -> "Axes":
        """Which axes are reduced over, and which one the classes lie along."""
        given = {**self.own, **self.params}
        return Axes.of(self.inputs.ndim, given, self.tensors.get("pos_weight"))

    @property
    def by_index(self) -> bool:
        """Whether the targets are class ids."""
        return self.params.get("targets_format") == "index"


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of the inputs: which ones a loss reduces over, and which one the classes lie along.

    Attributes:
        dimensions: The number of axes.
        reduction: "none", "sum" or "mean".
        reduced: The axes that `axis` names, counted from the first; all by default.
        classes: The axis of the classes, as given.
        has_classes: Whether class ids, or an `alpha` or a `pos_weight` of several numbers, lie along it.
    """

    dimensions: int
    reduction: str
    reduced: frozenset[int]
    classes: int
    has_classes: bool

    @classmethod
    def of(cls, dimensions: int, params: Mapping[str, Any], pos_weight: object = None) -> Self:
        """Return the axes of a call with these parameters, of which defaults may be missing."""
        axis = params.get("axis")
        axes = range(dimensions) if axis is None else axis if isinstance(axis, list) else [axis]
        has_classes = (
            params.get("targets_format") == "index"
            or isinstance(params.get("alpha"), list)
            or (np.ndim(pos_weight) == 1 and np.size(pos_weight) > 1)  # type: ignore[arg-type] # an array
        )
        return cls(
            dimensions,
            str(params.get("reduction", "mean")),
            frozenset(one + dimensions if one < 0 else one for one in axes),
            int(params.get("class_axis", -1)),
            has_classes,
        )

    @property
    def left(self) -> list[int]:
        """The axes that the loss has."""
        return [one for one in range(self.dimensions) if self.reduction == "none" or one not in self.reduced]

    @property
    def is_scalar(self) -> bool:
        """Whether the loss is one number."""
        return self.reduction != "none" and len(self.reduced) == self.dimensions

    @property
    def joins_rows(self) -> bool:
        """Whether each row has losses of its own."""
        return self.reduction == "none" or not (self.is_scalar or 0 in self.reduced)

    @property
    def averages_rows(self) -> bool:
        """Whether the loss is a mean over rows: some of them are asked for sums, since they may be empty."""
        return self.reduction == "mean" and not self.joins_rows

    @property
    def classes_are_rows(self) -> bool:
        """Whether the classes lie along the rows, which cannot be scored apart then."""
        return self.has_classes and self.classes in (0, -self.dimensions)


def check(call: LossCall) -> CheckedCall:
    """Convert the arguments to arrays and JSON values.

    Raises:
        TypeError: A tensor is missing, or logits and probabilities are both there; a tensor's dtype is not
            allowed, or a parameter has the wrong type.
        ValueError: A tensor is ragged, a parameter is no number or not finite, a group or id is missing, or
            an id occurs twice.
    """
    params = _shared(call.shared)
    tensors = _tensors(call, gaps=params.get("ignore_index") == "nan" or "allow_nan" in params)
    pos_weight = call.tensors.pos_weight
    if isinstance(pos_weight, int | float | Decimal | np.number):
        params["pos_weight"] = _converted("pos_weight", pos_weight)
    elif pos_weight is not None:
        tensors["pos_weight"] = as_array("pos_weight", pos_weight, WEIGHTS)
    report = _report(call)
    if report is not None:
        given = {"groups": report.groups, "ids": report.ids}
        tensors |= {name: labels.numbers for name, labels in given.items() if labels is not None}
        report = replace(report, row_weights=_row_weights(tensors))
    return CheckedCall(call.loss_name, tensors, params, _own(call.own), report)


def checked_params(call: LossCall) -> dict[str, Any]:
    """Return all parameters to send, `pos_weight` included, without looking at the other tensors.

    Raises:
        TypeError: One has the wrong type.
        ValueError: One is no number or not finite.
    """
    params = {**_own(call.own), **_shared(call.shared)}
    if call.tensors.pos_weight is not None:
        weights = widened(as_array("pos_weight", call.tensors.pos_weight, WEIGHTS))
        if weights.ndim > 1:
            raise ValueError(
                f"pos_weight: a stream takes a number, or one a class, and not shape {weights.shape}; score "
                "the arrays by one call of the loss, which sends it along with its rows"
            )
        params["pos_weight"] = _converted("pos_weight", weights.tolist())
    return params | checked_report(call.report)


def _report(call: LossCall) -> ReportCall | None:
    """Return what the call asks of a report.

    Raises:
        TypeError: Groups or ids are neither integers nor strings, or a parameter has the wrong type.
        ValueError: They are given although no report is asked for, or one is not as it should be, or an id
            occurs twice.
    """
    groups, ids, baseline = call.tensors.groups, call.tensors.ids, call.tensors.baseline
    params = checked_report(call.report)
    if not params:
        for name, given in {"groups": groups, "ids": ids, "baseline": baseline}.items():
            if given is not None:
                raise ValueError(f"{name} is for a report: ask for one, by sections='all'")
        return None
    id_labels = None if ids is None else Labels.of_ids(ids)
    if id_labels is not None:
        id_labels.refuse_repeated()
    return ReportCall(params, None if groups is None else Labels.of_groups(groups), id_labels)


def _row_weights(tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, Any] | None:
    weights = tensors.get("pos_weight")
    inputs = next(iter(tensors.values()))
    if weights is None or not weights.ndim == inputs.ndim > 0 or len(weights) < 2:
        return None
    return {"dtype": dtype_name(weights.dtype), "shape": list(weights.shape[1:])}


def checked_report(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a report as they are sent; none if no sections are asked for.

    Raises:
        TypeError: One has the wrong type.
        ValueError: They are given although no report is asked for, or there is no such section or sweep.
    """
    asked = {name: value for name, value in given.items() if value != REPORT[name]}
    if asked.get("sections") is None:
        for name in asked:
            raise ValueError(f"{name} is for a report: ask for one, by sections='all'")
        return {}
    converted = {"report": _sections(asked.pop("sections"))}
    return converted | {name: _converted(name, value) for name, value in asked.items()}


def _sections(value: str | Sequence[str]) -> str:
    names = value.split(",") if isinstance(value, str) else list(value)
    if names != ["all"]:
        for name in names:
            if name not in SECTIONS:
                near = difflib.get_close_matches(str(name), SECTIONS, n=1)
                raise ValueError(
                    f"sections: there is no {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                )
    if not names:
        raise ValueError(f"sections: name some of {', '.join(SECTIONS)}, or say 'all'")
    return ",".join(names)


def _row(value: str) -> str:
    if value not in ("sum", "mean"):
        raise ValueError(f"must be 'sum' or 'mean', and is {value!r}")
    return value


def _bins(value: int | str) -> int | str:
    if isinstance(value, str) and value != "exact":
        raise ValueError(f"must be a number or 'exact', and is {value!r}")
    return value if isinstance(value, str) else operator.index(value)


def _sweep(value: Mapping[str, Sequence[float]]) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f'must be {{"gamma": [...]}}, and is {value!r}')
    if list(value) != ["gamma"]:
        raise ValueError(
            f'must be {{"gamma": [...]}}, and is of {", ".join(map(str, value)) or "nothing"}; alpha and '
            "pos_weight are for the report's at(...)"
        )
    return "gamma:" + ",".join(repr(float(gamma)) for gamma in value["gamma"])


def _own(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _converted(name, value) for name, value in given.items() if value is not DEFAULT}


def batch_call(loss_name: str, tensors: Mapping[str, Any], params: Mapping[str, Any]) -> LossCall:
    """Return the call for one batch.

    Raises:
        TypeError: The loss, or a name among the tensors or parameters, is not one that there is.
    """
    if loss_name not in OWN:
        raise TypeError(f"there is no loss {loss_name!r}; there are {', '.join(OWN)}")
    shared = [each.name for each in fields(Shared)]
    _refuse_unknown(f"{loss_name}: no parameter", params, (*shared, *OWN[loss_name], "pos_weight", *REPORT))
    names = [each.name for each in fields(Tensors) if each.name != "pos_weight"]
    _refuse_unknown("a batch: no tensor", tensors, names)
    return LossCall(
        loss_name,
        Tensors(**{name: tensors.get(name) for name in names}, pos_weight=params.get("pos_weight")),
        Shared(**{name: params[name] for name in shared if name in params}),
        {name: params.get(name, DEFAULT) for name in OWN[loss_name]},
        {name: params[name] for name in REPORT if name in params},
    )


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"{what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _tensors(call: LossCall, *, gaps: bool) -> dict[str, NDArray[Any]]:
    """Return the tensors by name, without `pos_weight`: the logits or probabilities first."""
    method, given = f"{call.loss_name}()", call.tensors
    if given.logits is not None and given.probabilities is not None:
        raise TypeError(
            f"{method} takes logits or probabilities, not both; beside probabilities, targets are given by "
            f"name: {call.loss_name}(probabilities=..., targets=...)"
        )
    if given.logits is None and given.probabilities is None:
        raise TypeError(f"{method} needs logits or probabilities")
    if given.targets is None:
        raise TypeError(f"{method} needs targets")
    by_index = call.shared.targets_format == "index"
    possible = (
        ("logits", given.logits, FLOATS),
        ("probabilities", given.probabilities, FLOATS),
        ("targets", given.targets, IDS if by_index else TARGETS),
        ("weight", given.weight, WEIGHTS),
        ("mask", given.mask, MASK),
        ("baseline", given.baseline, FLOATS),
    )
    try:
        return {
            name: as_array(name, value, allowed, gaps=gaps and name == "targets")
            for name, value, allowed in possible
            if value is not None
        }
    except TypeError as error:
        raise TypeError(f"{error}{_swapped(call.loss_name, given)}") from error


def _swapped(loss_name: str, given: Tensors) -> str:
    """Return a hint that inputs and targets are swapped, or ""."""
    name = "logits" if given.logits is not None else "probabilities"
    try:
        inputs = as_array(name, getattr(given, name), TARGETS)
        targets = as_array("targets", given.targets, TARGETS)  # type: ignore[arg-type] # there are some
    except (TypeError, ValueError):
        return ""
    if inputs.dtype.kind not in "biu":
        return ""
    order = "logits, targets" if name == "logits" else "probabilities=..., targets=..."
    swapped = f"; swapped? the order is {loss_name}({order})"
    if ((inputs == 0) | (inputs == 1)).all():
        return f"{swapped}; of predictions rounded to 0 and 1, give what they were before"
    asked = swapped if dtype_name(targets.dtype) in FLOATS else ""
    return f"{asked}; if these are {name}, convert them by array.astype(np.float64)"


def _shared(shared: Shared) -> dict[str, Any]:
    """Return the shared parameters to send, as JSON values."""
    given = {f.name: (_converted(f.name, getattr(shared, f.name)), f.default) for f in fields(shared)}
    return {name: value for name, (value, default) in given.items() if value != default}


def _converted(name: str, value: Any) -> Any:  # noqa: ANN401 - any argument in, any JSON value out
    if value is None and name in _NULLABLE:
        return None
    if name != "allow_nan" and isinstance(value, bool | np.bool_):  # 0 and 1 to Python
        raise TypeError(f"{name} must not be {value}")
    try:
        converted = _CONVERTERS[name](value)
    except (TypeError, ValueError) as error:  # its text lacks the argument's name
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error
    numbers = converted if isinstance(converted, list) else [converted]
    if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
        raise ValueError(f"{name} must be finite, and is {value}")
    return converted


def _integers(value: int | Sequence[int]) -> int | list[int]:
    if isinstance(value, Sequence):
        if any(isinstance(item, bool) for item in value):
            raise TypeError(f"must be integers, and is {value}")
        return [operator.index(item) for item in value]
    return operator.index(value)


def _numbers(value: Any) -> float | list[float]:  # noqa: ANN401 - checked by float()
    if isinstance(value, str | int | float | Decimal | np.number):
        return float(value)
    if isinstance(value, Sequence):
        return [float(item) for item in value]
    array = widened(as_array("the array", value, WEIGHTS))
    if array.ndim > 1:
        raise ValueError(f"is a number, or one a class, and has {array.ndim} dimensions")
    numbers: float | list[float] = array.astype(np.float64).tolist()
    return numbers


def _number_or_word(value: str | float) -> str | float:
    if isinstance(value, str) and value not in _DIVISORS:  # the query has no other text than a number's
        raise ValueError(f"must be 'count', 'weight' or 'positives', or a number, and is {value!r}")
    return value if isinstance(value, str) else float(value)


def _number_or_nan(value: str | float) -> str | float:
    if isinstance(value, str):
        if value != "nan":
            raise ValueError(f"must be a number, 'nan' or None, and is {value!r}")
        return value
    number = float(value)
    return "nan" if math.isnan(number) else number


def _flag(value: object) -> bool:
    if not isinstance(value, bool | np.bool_):  # bool() would take "false" for true
        raise TypeError(f"must be True or False, and is {value!r}")
    return bool(value)


OWN: Final[Mapping[str, tuple[str, ...]]] = {"bce": (), "focal": ("gamma", "alpha", "variant")}
"""The losses, and the names of each one's own parameters."""
OPTIONS: Final[Mapping[str, Any]] = {
    **{each.name: each.default for each in fields(Shared) if each.name != "reduction"},
    "pos_weight": None,
}
"""The other parameters, which all losses have, with the contract's defaults."""
SECTIONS: Final = get_args(Section)
REPORT: Final[Mapping[str, Any]] = {
    "sections": None,
    "top": 20,
    "row": "sum",
    "first_row": 0,
    "calibration_bins": 64,
    "sweep": None,
}
"""The parameters of a report, with their defaults."""
_DIVISORS: Final = ("count", "weight", "positives")
_NULLABLE: Final = frozenset({"axis", "background_index", "ignore_index", "alpha"})
_CONVERTERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "reduction": str,
    "axis": _integers,
    "normalizer": _number_or_word,
    "class_axis": operator.index,
    "targets_format": str,
    "background_index": operator.index,
    "label_smoothing": float,
    "ignore_index": _number_or_nan,
    "allow_nan": _flag,
    "pos_weight": _numbers,
    "gamma": float,
    "alpha": _numbers,
    "variant": str,
    "top": operator.index,
    "row": _row,
    "first_row": operator.index,
    "calibration_bins": _bins,
    "sweep": _sweep,
}
