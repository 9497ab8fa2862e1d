"""One call: the tensors and parameters of a loss, as given and as checked.

Nothing here sends: `lossd_client._requests` turns a checked call into requests.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from numpy.typing import NDArray

from lossd_client._calls.axes import Axes
from lossd_client._calls.labels import Labels
from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import INPUTS, LOSSES, REPORT


@dataclass(frozen=True, slots=True)
class LossCall:
    """A call as given, before anything is converted or checked.

    Attributes:
        loss_name: The loss.
        tensors: By name, in the order in which they are sent; None for one that is not there. A `pos_weight`
            of one number goes as a parameter.
        params: The loss's parameters, without `pos_weight`.
        report: The report's.
    """

    loss_name: str
    tensors: Mapping[str, Any]
    params: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loss(self) -> Loss:
        """What the client knows of the loss."""
        return LOSSES[self.loss_name]


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
        tensors: By name, the inputs first, in the order in which they are sent.
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
        """The inputs."""
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
    def loss(self) -> Loss:
        """What the client knows of the loss."""
        return LOSSES[self.loss_name]

    @property
    def losses_shape(self) -> tuple[int, ...]:
        """The shape of the losses, to which weights and masks broadcast."""
        return self.loss.losses_shape({**self.own, **self.params}, self.inputs.shape)

    @property
    def axes(self) -> Axes:
        """Which axes are reduced over, and which one the classes lie along."""
        given = {**self.own, **self.params, "targets_format": "index" if self.by_index else "dense"}
        return Axes.of(self.loss, self.inputs.ndim, given, self.tensors.get("pos_weight"))

    @property
    def by_index(self) -> bool:
        """Whether the targets are class ids: as said, or by their shape where the loss goes by that."""
        said = self.params.get("targets_format", self.own.get("targets_format"))
        if said is not None or "targets_format" not in self.loss.own:
            return bool(said == "index")
        targets, inputs = self.tensors["targets"], self.inputs
        return bool(targets.ndim == inputs.ndim - 1)

    @property
    def dimensions(self) -> Mapping[str, int]:
        """How many dimensions a tensor has that has a value for everything that it is of."""
        inputs, losses = self.inputs.ndim, len(self.losses_shape)
        others = {"weight": losses, "mask": losses, "groups": 1, "ids": 1, "targets": inputs - self.by_index}
        return dict.fromkeys(self.tensors, inputs) | others


_BESIDE: Final = ("targets", "weight", "mask")
_OF_A_REPORT: Final = ("groups", "ids", "baseline")


def method_call(loss_name: str, arguments: Mapping[str, Any]) -> LossCall:
    """Return the call that the method of a loss was given: `arguments` are its `locals()`."""
    loss = LOSSES[loss_name]
    tensors = {name: arguments.get(name) for name in (*loss.inputs, *_BESIDE, "pos_weight")}
    return LossCall(loss_name, tensors, {name: arguments[name] for name in _own_names(loss)})


def report_call(loss_name: str, arguments: Mapping[str, Any]) -> LossCall:
    """Return the call that `report` was given: `arguments` are its `locals()`.

    Raises:
        TypeError: The loss, or one of the further parameters, is not one that there is.
    """
    params = dict(arguments["params"])
    for name in ("reduction", "axis"):
        if name in params:
            raise TypeError(f"report() has no parameter {name!r}: a report is of all elements")
    tensors = {name: arguments[name] for name in (*_BESIDE, *_OF_A_REPORT)}
    loss = loss_named(loss_name)
    given = {"probabilities": arguments["probabilities"]}
    given |= {name: params.pop(name) for name in INPUTS if name in params}
    first = first_input(loss)
    if arguments["logits"] is not None:
        if given.get(first) is not None:
            raise TypeError(f"report() was given {first} twice")
        given[first] = arguments["logits"]
    tensors |= {name: array for name, array in given.items() if array is not None}
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
    loss = loss_named(loss_name)
    _refuse_unknown(f"{loss_name}: no parameter", params, (*loss.parameters, *REPORT))
    names = (*loss.inputs, *_BESIDE, *_OF_A_REPORT)
    for name in tensors:
        if name in loss.parameters:
            raise TypeError(f"a batch: {name!r} is no tensor of a batch, but a parameter of the call")
    _refuse_unknown("a batch: no tensor", tensors, names)
    return LossCall(
        loss_name,
        {name: tensors.get(name) for name in names} | {"pos_weight": params.get("pos_weight")},
        {name: params[name] for name in _own_names(loss) if name in params},
        {name: params[name] for name in REPORT if name in params},
    )


def first_input(loss: Loss) -> str:
    """Return the name of the inputs that are given first, without a name."""
    return loss.inputs[0]


def inputs_name(loss_name: str, *, are_probabilities: bool) -> str:
    """Return the name of a model's outputs among a loss's tensors.

    Raises:
        TypeError: There is no such loss, or it takes no probabilities.
    """
    loss = loss_named(loss_name)
    name = "probabilities" if are_probabilities else first_input(loss)
    if name not in loss.inputs:
        raise TypeError(f"{loss_name} takes no {name}, only {first_input(loss)}")
    return name


def loss_named(name: str) -> Loss:
    """Return a loss.

    Raises:
        TypeError: There is no such loss.
    """
    if name not in LOSSES:
        raise TypeError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}")
    return LOSSES[name]


def _own_names(loss: Loss) -> list[str]:
    return [name for name in loss.parameters if name != "pos_weight"]


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"{what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
