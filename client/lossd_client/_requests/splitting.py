"""Large inputs split by rows into several requests, and their answers merged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import Array, forget
from lossd_client._calls.calls import CheckedCall, first_input
from lossd_client._calls.labels import Groups
from lossd_client._calls.loss import Loss
from lossd_client._calls.shape_notes import mean_notes, shape_notes, swapped_notes
from lossd_client._http.attempts import CallLimits
from lossd_client._http.problems import relocated
from lossd_client._merge import Merger, as_mean, reduced
from lossd_client._requests.advice import explained
from lossd_client._requests.encoding import RequestSummary, summary_of
from lossd_client.errors import StatusError
from lossd_client.result import LossResult
from lossd_client.transport import Response

Batch: TypeAlias = tuple[Array, Array] | list[Array] | Mapping[str, Array | Groups]
"""Logits and targets, or tensors by name."""


@dataclass(frozen=True, slots=True)
class Part:
    """One request of a call.

    Attributes:
        call: The rows to score.
        summary: For reading its answer.
        start: Its first row in the input.
        sliced: The tensors of which it has some rows only; "loss" too, where losses are joined by row.
        plan: The call's plan.
        is_last: Whether it is the last part.
        request_id: The request id.
    """

    call: CheckedCall
    summary: RequestSummary
    start: int
    sliced: frozenset[str]
    plan: "Plan"
    is_last: bool
    request_id: str

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.call.rows

    @property
    def size(self) -> int:
        """The bytes of its tensors as given."""
        return sum(array.nbytes for array in self.call.tensors.values())

    def own_error(self, error: StatusError) -> StatusError:
        """Return the server's error with places in the whole input."""
        own = error if self.plan.is_whole else relocated(error, self.sliced, self._place_of)
        return explained(own, self.plan.call)

    def _place_of(self, name: str, row: int) -> tuple[int, str]:
        return self.start + row, ""

    def forget(self) -> None:
        """Drop the pages of mapped files."""
        for array in self.call.tensors.values():
            forget(array)


class Plan:
    """The requests of one call: one, or several of some rows each.

    It is sent as it is when it is small enough, when classes lie along its rows, or when a loss is over all
    of them.

    Args:
        call: The call; an attribute, too.
        size: The bytes that a request may have.
        request_id: The request id of the call; parts have it with a number.
        limits: The deadline and the retries of the whole call.
        keeps_answers: Whether the HTTP answers are kept.
    """

    def __init__(
        self,
        call: CheckedCall,
        size: int,
        request_id: str,
        limits: CallLimits,
        *,
        keeps_answers: bool = False,
    ) -> None:
        self.limits = limits
        self.call = call
        self._request_id = request_id
        self._sliced = _sliced(call)
        rows = call.rows
        row_bytes = sum(call.tensors[name].nbytes for name in self._sliced) // max(rows, 1)
        self._rows = rows
        self._step = max(1, size // max(row_bytes, 1))
        self.is_whole = self._step >= rows or not _can_split(call)
        self._merger: Merger[LossResult] = Merger()
        self._answers: dict[int, Response] | None = {} if keeps_answers else None  # by their first rows

    @property
    def answers(self) -> tuple[Response, ...]:
        """The HTTP answers, in the order of their rows, if they are kept."""
        return tuple(answer for _, answer in sorted((self._answers or {}).items(), key=itemgetter(0)))

    def keep(self, part: Part, answer: Response) -> None:
        """Keep a part's HTTP answer, if answers are kept."""
        if self._answers is not None:
            self._answers[part.start] = answer

    @property
    def rows(self) -> int:
        """How many rows the call has."""
        return self._rows

    def parts(self) -> Iterator[Part]:
        """Yield the requests, in order."""
        if self.is_whole:
            none: frozenset[str] = frozenset()
            yield Part(self.call, summary_of(self.call), 0, none, self, True, self._request_id)
            return
        sums = _as_sums(self.call)
        about = summary_of(sums)
        names = self._sliced | ({"loss"} if sums.axes.joins_rows else set())
        for number, start in enumerate(range(0, self._rows, self._step), 1):
            rows = slice(start, start + self._step)
            tensors = {
                name: array[rows] if name in self._sliced else array for name, array in sums.tensors.items()
            }
            part = replace(sums, tensors=tensors).after(start)
            last = start + self._step >= self._rows
            own = replace(about, shape=part.inputs.shape)
            yield Part(part, own, start, names, self, last, f"{self._request_id}-{number}")

    def add(self, part: Part, result: LossResult) -> None:
        """Add the result of the next part."""
        if not self.is_whole and result.notes:
            own = shape_notes(part.call)
            result = replace(result, notes=tuple(note for note in result.notes if note not in own))
        self._merger.add(result)

    def noted(self, result: LossResult) -> LossResult:
        """Return a result with the client's notes of the whole call."""
        notes = swapped_notes(self.call)
        return replace(result, notes=(*result.notes, *notes)) if notes else result

    def result(self) -> LossResult:
        """Return the result of the call, once all parts were added.

        Raises:
            InvalidRequest: It is a mean over nothing.
        """
        merged = self._merger.result()
        if self.is_whole:
            return merged
        about = summary_of(self.call)
        merged = replace(
            merged,
            reduction=about.reduction,
            options={**merged.options, **about.options},
            request_id=self._request_id,
            notes=tuple(dict.fromkeys([*shape_notes(self.call), *mean_notes(self.call), *merged.notes])),
        )
        merged = self.noted(merged)
        return replace(merged, loss=reduced(merged))


class Joined:
    """The results of many batches as one.

    Means over rows are divided once, at the end: a batch alone may be empty, or have every element dropped.
    """

    def __init__(self) -> None:
        self._merger: Merger[LossResult] = Merger()
        self._is_mean = False
        self._notes: dict[str, None] = {}

    def sums_of(self, call: CheckedCall) -> CheckedCall:
        """Return the request to send for a batch: its sums, where the loss is a mean over rows.

        Raises:
            ValueError: Losses of batches cannot be joined.
        """
        call.loss.refuse_joining(call.own, "losses of batches")
        self._is_mean |= call.axes.averages_rows
        self._notes |= dict.fromkeys(mean_notes(call))
        return _as_sums(call)

    def add(self, result: LossResult) -> None:
        """Add the result of the next batch."""
        self._merger.add(result)

    def result(self) -> LossResult:
        """Return the result of all batches.

        Raises:
            ValueError: There were none.
            InvalidRequest: It is a mean over nothing.
        """
        merged = self._merger.result()
        merged = replace(merged, notes=tuple(self._notes | dict.fromkeys(merged.notes)))
        return as_mean(merged) if self._is_mean else merged


def batch_tensors(loss: Loss, batch: object) -> Mapping[str, Any]:
    """Return a batch's tensors by name.

    Raises:
        TypeError: It is no batch.
    """
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return {first_input(loss): batch[0], "targets": batch[1]}
    what = (
        f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
    )
    raise TypeError(
        f"a batch is ({first_input(loss)}, targets) or a mapping of tensors by name, and this is a {what}"
    )


def _sliced(call: CheckedCall) -> frozenset[str]:
    """Return the tensors that have the input's rows; the others apply to every row."""
    inputs = call.inputs
    if not inputs.ndim or inputs.shape[0] < 2:
        return frozenset()
    return frozenset(
        name
        for name, array in call.tensors.items()
        if _has_rows(name, array, call)
        and not (name == "pos_weight" and array.ndim == 1)  # it lies along the classes
    )


def _has_rows(name: str, array: NDArray[Any], call: CheckedCall) -> bool:
    same = array.shape[:1] == call.inputs.shape[:1]
    return same and (name in ("groups", "ids") or array.ndim == call.dimensions[name])


def _fit(call: CheckedCall) -> bool:
    """Return whether all tensors broadcast to the whole input, since they might only fit a part."""
    shapes = {"weight": call.losses_shape, "mask": call.losses_shape, "pos_weight": call.inputs.shape}
    try:
        return all(
            np.broadcast_shapes(shape, call.tensors[name].shape) == shape
            for name, shape in shapes.items()
            if name in call.tensors and not (name == "pos_weight" and call.tensors[name].ndim == 1)
        )
    except ValueError:
        return False


def _can_split(call: CheckedCall) -> bool:
    """Return whether rows can go in several requests. A call that the server refuses goes in one."""
    axes = call.axes
    needed = {"targets", "groups", "ids", "baseline"} & set(call.tensors)
    if not ({next(iter(call.tensors))} | needed <= _sliced(call) and _fit(call)):
        return False
    if not axes.can_split or not axes.reduced <= set(range(axes.dimensions)):
        return False
    if axes.reduction == "none":
        return {"axis", "normalizer"}.isdisjoint(call.params)
    return axes.reduction in ("sum", "mean")


def _as_sums(call: CheckedCall) -> CheckedCall:
    if not call.axes.averages_rows:
        return call
    return replace(call, params={**call.params, "reduction": "sum"})
