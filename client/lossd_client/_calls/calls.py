"""One call: the tensors and parameters of a loss, as given and as checked.

Nothing here sends: `lossd_client._requests` turns a checked call into requests.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final, Self

from numpy.typing import NDArray

from lossd_client._calls.arrays import Array
from lossd_client._calls.axes import Axes
from lossd_client._calls.labels import Column, Groups, Labels
from lossd_client._calls.parameters import DEFAULT, OWN, REPORT, SHARED, Shared


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


_TENSORS: Final = ("logits", "probabilities", "targets", "weight", "mask")
_REPORT_TENSORS: Final = ("groups", "ids", "baseline")
_tensors_of: Final = itemgetter(*_TENSORS, "pos_weight")
_shared_of: Final = itemgetter(*SHARED)


def method_call(loss_name: str, arguments: Mapping[str, Any]) -> LossCall:
    """Return the call that the method of a loss was given: `arguments` are its `locals()`."""
    own = {name: arguments[name] for name in OWN[loss_name]}
    return LossCall(loss_name, Tensors(*_tensors_of(arguments)), Shared(*_shared_of(arguments)), own)


def report_call(loss_name: str, arguments: Mapping[str, Any]) -> LossCall:
    """Return the call that `report` was given: `arguments` are its `locals()`.

    Raises:
        TypeError: The loss, or one of the further parameters, is not one that there is.
    """
    params = arguments["params"]
    for name in ("reduction", "axis"):
        if name in params:
            raise TypeError(f"report() has no parameter {name!r}: a report is of all elements")
    tensors = {name: arguments[name] for name in (*_TENSORS, *_REPORT_TENSORS)}
    asked = {name: arguments[name] for name in REPORT}
    if asked["sections"] is None:
        asked["sections"] = "all"
    # Their sum is there where nothing is left to divide by, too.
    return batch_call(loss_name, tensors, {**params, **asked, "reduction": "sum"})


def batch_call(loss_name: str, tensors: Mapping[str, Any], params: Mapping[str, Any]) -> LossCall:
    """Return the call for one batch.

    Raises:
        TypeError: The loss, or a name among the tensors or parameters, is not one that there is.
    """
    if loss_name not in OWN:
        raise TypeError(f"there is no loss {loss_name!r}; there are {', '.join(OWN)}")
    _refuse_unknown(f"{loss_name}: no parameter", params, (*SHARED, *OWN[loss_name], "pos_weight", *REPORT))
    names = (*_TENSORS, *_REPORT_TENSORS)
    _refuse_unknown("a batch: no tensor", tensors, names)
    return LossCall(
        loss_name,
        Tensors(**{name: tensors.get(name) for name in names}, pos_weight=params.get("pos_weight")),
        Shared(**{name: params[name] for name in SHARED if name in params}),
        {name: params.get(name, DEFAULT) for name in OWN[loss_name]},
        {name: params[name] for name in REPORT if name in params},
    )


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"{what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
