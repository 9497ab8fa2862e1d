"""One input from its files to its result: in one request where it is small, else in blocks of rows.

A mean over blocks is asked for as sums, and divided once: a block alone may have nothing to divide by.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lossd.cli.inputs import Inputs
from lossd_client import ErrorItem, InvalidRequest, LossClient, LossResult, StatusError
from lossd_client.tally import Tally

Take = Callable[[LossResult], LossResult]
"""Takes a block's result, losses and all, and gives what is to be kept of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the input.

    Attributes:
        loss: The loss.
        params: Its parameters, as the client takes them.
        masks: Whether a mask says which elements count.
    """

    loss: str
    params: Mapping[str, Any]
    masks: bool = False

    @property
    def reduction(self) -> str:
        """What becomes of the elements' losses."""
        return str(self.params["reduction"])

    def axes(self, dimensions: int) -> set[int]:
        """The axes that are reduced over."""
        axis = self.params["axis"]
        if axis is None:
            return set(range(dimensions))
        axes = axis if isinstance(axis, list) else [axis]
        return {one + dimensions if one < 0 else one for one in axes}

    def divides(self, dimensions: int) -> bool:
        """Whether its mean goes over rows, so that blocks are asked for their sums."""
        return self.reduction == "mean" and 0 in self.axes(dimensions)

    def is_scalar(self, dimensions: int) -> bool:
        """Whether one number comes out."""
        return self.reduction != "none" and len(self.axes(dimensions)) == dimensions

    def joins_rows(self, dimensions: int) -> bool:
        """Whether each row has losses of its own in what comes out."""
        return dimensions > 0 and (self.reduction == "none" or 0 not in self.axes(dimensions))

    def goes_by_rows(self, dimensions: int) -> bool:
        """Whether rows can be scored apart: no classes lie along them, and what comes out can be merged."""
        if dimensions == 0:
            return False
        pos_weight = self.params["pos_weight"]
        by_class = (
            self.params["targets_format"] == "index"
            or isinstance(self.params.get("alpha"), list)
            or np.size(pos_weight if pos_weight is not None else 0) > 1
        )
        if by_class and self.params["class_axis"] in (0, -dimensions):
            return False
        return (
            not self.divides(dimensions)
            or self.is_scalar(dimensions)
            or isinstance(self.params["normalizer"], float)
            or self._counts_all()
        )

    def _counts_all(self) -> bool:
        """Whether a mean divides by the number of elements, of which none is left out."""
        return self.params["normalizer"] == "count" and not self.masks and self.params["ignore_index"] is None

    def sums(self, dimensions: int) -> "Question":
        """The same for a block."""
        if not self.divides(dimensions):
            return self
        return replace(self, params={**self.params, "reduction": "sum", "normalizer": "count"})

    def finished(self, sums: LossResult) -> LossResult:
        """Makes the result of all from the sums of all.

        Raises:
            InvalidRequest: It is a mean over nothing.
        """
        normalizer = self.params["normalizer"]
        divisor = {
            "count": sums.count / np.size(sums.loss),  # as many for each output
            "weight": sums.weight_sum,
            "positives": max(sums.positives, 1.0),
        }.get(normalizer, normalizer)
        if divisor == 0:
            what = "the mean is over nothing; use --reduction sum, or leave it out"
            raise InvalidRequest(422, "empty_mean", what)
        options = sums.options if normalizer == "count" else {**sums.options, "normalizer": normalizer}
        return replace(sums, loss=sums.loss / divisor, reduction="mean", options=options)


def score(client: LossClient, question: Question, inputs: Inputs, take: Take) -> LossResult:
    """Scores the input.

    Raises:
        BadFile: A file cannot be read.
        LossdError: As the client.
    """
    if not question.goes_by_rows(inputs.dimensions):
        return take(in_one(client, question, inputs.whole()))
    blocks = inputs.blocks()
    first = next(blocks)
    second = next(blocks, None)
    if second is None:
        return take(in_one(client, question, first))
    asked = question.sums(inputs.dimensions)
    rows = Rows(inputs.names)
    batches = rows.counted(chain((first, second), blocks))
    tally = Tally()
    for result in rows.results(client, asked, batches):
        tally.add(take(result))
    merged = tally.result()
    return question.finished(merged) if asked is not question else merged


def in_one(client: LossClient, question: Question, block: Mapping[str, NDArray[Any]]) -> LossResult:
    """Scores tensors by one call of the client."""
    given: dict[str, Any] = {**block, **question.params}
    return client.focal(**given) if question.loss == "focal" else client.bce(**given)


class Rows:
    """Keeps in mind which rows of the input each request under way holds, for errors to name.

    Args:
        names: The tensors' names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._under_way: deque[Sequence[int]] = deque()
        self._start = 0

    def counted(self, blocks: Iterator[dict[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
        """Passes blocks on that follow each other."""
        for block in blocks:
            length = block[self._names[0]].shape[0]
            self._under_way.append(range(self._start, self._start + length))
            self._start += length
            yield block

    def picked(
        self, batches: Iterator[tuple[dict[str, NDArray[Any]], Sequence[int]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Passes batches on whose rows were picked, and come with their numbers."""
        for batch, numbers in batches:
            self._under_way.append(numbers)
            yield batch

    def results(
        self, client: LossClient, question: Question, batches: Iterator[dict[str, NDArray[Any]]]
    ) -> Iterator[LossResult]:
        """Gives each batch's result.

        Raises:
            LossdError: As the client; what is wrong is said of rows of the input.
        """
        try:
            for result in client.iter_batches(cast("Any", question.loss), batches, **question.params):
                self._under_way.popleft()
                yield result
        except StatusError as error:
            raise _moved(error, self._under_way[0] if self._under_way else (), self._names) from None


def _moved(error: StatusError, rows: Sequence[int], names: Sequence[str]) -> StatusError:
    """Makes an error of one request name the input's rows."""

    def move(match: re.Match[str]) -> str:
        row = int(match[2])
        return f"{match[1]}{rows[row]}" if row < len(rows) else match[0]

    pattern = re.compile(rf"(/(?:{'|'.join(map(re.escape, names))})/)(\d+)")
    items = tuple(ErrorItem(pattern.sub(move, item.pointer), item.detail) for item in error.errors)
    return type(error)(
        error.status,
        error.code,
        pattern.sub(move, error.detail),
        error.request_id,
        error.retryable,
        items,
        error.retry_after,
    )
