"""Large inputs as several requests of some of their rows each, and their answers as one result."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._advice import explained
from lossd_client._arrays import Array, forget
from lossd_client._calls import Checked
from lossd_client._encoding import Asked, asked
from lossd_client._merge import Tally, reduced
from lossd_client._shape_notes import shape_notes, swapped_notes
from lossd_client.errors import StatusError, moved
from lossd_client.result import LossResult
from lossd_client.retry import Patience

Batch: TypeAlias = tuple[Array, Array] | list[Array] | Mapping[str, Array]
"""Logits and targets, or tensors by name."""

_ALONG_ROWS: Final = ("logits", "probabilities", "targets", "weight", "mask", "pos_weight")


@dataclass(frozen=True, slots=True)
class Part:
    """One request of a plan.

    Attributes:
        call: What it asks for.
        asked: What its answer is read by.
        start: How many rows of the input stand before it.
        sliced: The tensors of which it holds some rows only; "loss" is one where the losses are joined.
        plan: What it is a part of.
        is_last: Whether no part of that plan comes after it.
        request_id: What it is called in the server's logs.
    """

    call: Checked
    asked: Asked
    start: int
    sliced: frozenset[str]
    plan: "Plan"
    is_last: bool
    request_id: str

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.call.inputs.shape[0] if self.call.inputs.ndim else 1

    @property
    def size(self) -> int:
        """Its bytes, before they are made smaller."""
        return sum(array.nbytes for array in self.call.tensors.values())

    def own_error(self, error: StatusError) -> StatusError:
        """Gives what the server said of the part as said of the whole."""
        own = error if self.plan.is_whole else moved(error, self.start, self.sliced)
        return explained(own, self.plan.call)

    def forget(self) -> None:
        """Lets go of what was read of mapped files."""
        for array in self.call.tensors.values():
            forget(array)


class Plan:
    """How one call is sent: as it is, or in parts.

    It is sent as it is when it is small enough, or when classes lie along its rows.

    Args:
        call: What is asked for; an attribute, too.
        size: How many bytes a request may have.
        request_id: What the call is called in the server's logs.
        patience: How long to bother for all of it.
    """

    def __init__(self, call: Checked, size: int, request_id: str, patience: Patience) -> None:
        self.patience = patience
        self.call = call
        self._request_id = request_id
        self._sliced = _sliced(call)
        rows = call.inputs.shape[0] if call.inputs.ndim else 1
        row_bytes = sum(call.tensors[name].nbytes for name in self._sliced) // max(rows, 1)
        self._rows = rows
        self._step = max(1, size // max(row_bytes, 1))
        self.is_whole = self._step >= rows or not _can_split(call)
        self._tally = Tally()

    @property
    def rows(self) -> int:
        """How many rows the call has."""
        return self._rows

    def parts(self) -> Iterator[Part]:
        """Gives the requests, in order."""
        if self.is_whole:
            none: frozenset[str] = frozenset()
            yield Part(self.call, asked(self.call), 0, none, self, True, self._request_id)
            return
        sums = _as_sums(self.call)
        about = asked(sums)
        names = self._sliced | ({"loss"} if sums.joins_rows else set())
        for number, start in enumerate(range(0, self._rows, self._step), 1):
            rows = slice(start, start + self._step)
            tensors = {
                name: array[rows] if name in self._sliced else array for name, array in sums.tensors.items()
            }
            part = replace(sums, tensors=tensors)
            last = start + self._step >= self._rows
            own = replace(about, shape=part.inputs.shape)
            yield Part(part, own, start, names, self, last, f"{self._request_id}-{number}")

    def add(self, part: Part, result: LossResult) -> None:
        """Take the answer to the next part."""
        if not self.is_whole and result.notes:
            own = shape_notes(part.call)
            result = replace(result, notes=tuple(note for note in result.notes if note not in own))
        self._tally.add(result)

    def noted(self, result: LossResult) -> LossResult:
        """Add what the client notes of the whole call."""
        notes = swapped_notes(self.call)
        return replace(result, notes=(*result.notes, *notes)) if notes else result

    def result(self) -> LossResult:
        """Gives the answer to the call, when those to all parts were added.

        Raises:
            InvalidRequest: It is a mean over nothing.
        """
        merged = self._tally.result()
        if self.is_whole:
            return merged
        about = asked(self.call)
        merged = replace(
            merged,
            reduction=about.reduction,
            options={**merged.options, **about.options},
            request_id=self._request_id,
            notes=tuple(dict.fromkeys([*shape_notes(self.call), *merged.notes])),
        )
        merged = self.noted(merged)
        return replace(merged, loss=reduced(merged))


class Joined:
    """The results of many batches, as one.

    Batches are asked for sums, where their means are over rows, and the client divides once: a batch may be
    empty then, or have every element dropped.
    """

    def __init__(self) -> None:
        self._tally = Tally()
        self._mean: Asked | None = None

    def asked(self, call: Checked) -> Checked:
        """Gives what to ask of a batch instead of `call`."""
        if not _divides(call):
            return call
        self._mean = self._mean or asked(call)
        return _as_sums(call)

    def add(self, result: LossResult) -> None:
        """Takes the result of the next batch."""
        self._tally.add(result)

    def result(self) -> LossResult:
        """Gives the result of all batches.

        Raises:
            ValueError: There were none.
            InvalidRequest: It is a mean over nothing.
        """
        merged = self._tally.result()
        if self._mean is None:
            return merged
        merged = replace(merged, reduction=self._mean.reduction)
        return replace(merged, loss=reduced(merged))


def batch_tensors(batch: object) -> Mapping[str, Any]:
    """Gives a batch's tensors by name.

    Raises:
        TypeError: It is no batch.
    """
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return {"logits": batch[0], "targets": batch[1]}
    what = (
        f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
    )
    raise TypeError(f"a batch is (logits, targets) or a mapping of tensors by name, and this is a {what}")


def _sliced(call: Checked) -> frozenset[str]:
    """The tensors that have the rows of the input; others stand for every row."""
    inputs = call.inputs
    if not inputs.ndim or inputs.shape[0] < 2:
        return frozenset()
    return frozenset(
        name
        for name, array in call.tensors.items()
        if name in _ALONG_ROWS
        and _has_rows(array, inputs, name == "targets" and call.by_index)
        and not (name == "pos_weight" and array.ndim == 1)  # which lies along the classes
    )


def _has_rows(array: NDArray[Any], inputs: NDArray[Any], by_index: bool) -> bool:
    return array.ndim == inputs.ndim - by_index and array.shape[:1] == inputs.shape[:1]


def _fit(call: Checked) -> bool:
    """Whether what broadcasts does so to the whole: it might do so to a part alone."""
    shape = call.inputs.shape
    others = [
        call.tensors[name].shape
        for name in ("weight", "mask", "pos_weight")
        if name in call.tensors and not (name == "pos_weight" and call.tensors[name].ndim == 1)
    ]
    try:
        return np.broadcast_shapes(shape, *others) == shape
    except ValueError:
        return False


def _can_split(call: Checked) -> bool:
    if not ({"targets", next(iter(call.tensors))} <= _sliced(call) and _fit(call)):
        return False  # the server shall say so
    by_class = call.by_index or isinstance(call.own.get("alpha"), list)
    pos_weight = call.tensors.get("pos_weight")
    by_class |= pos_weight is not None and pos_weight.size > 1 and pos_weight.ndim == 1
    if by_class and call.class_axis in (0, -call.inputs.ndim):
        return False
    if call.reduction not in ("none", "sum", "mean") or not call.axes <= set(range(call.inputs.ndim)):
        return False  # likewise
    return call.reduction != "none" or {"axis", "normalizer"}.isdisjoint(call.params)


def _divides(call: Checked) -> bool:
    """Whether the parts are asked for sums, and the client divides: one part alone may be empty."""
    return call.reduction == "mean" and not call.joins_rows


def _as_sums(call: Checked) -> Checked:
    return replace(call, params={**call.params, "reduction": "sum"}) if _divides(call) else call
