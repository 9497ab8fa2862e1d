"""One input from its files to its result: in one request where it is small, else in blocks of rows.

A mean over blocks is asked for as sums, and divided once: a block alone may have nothing to divide by.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final, cast

import numpy as np

from lossd_client import ErrorItem, InvalidRequest, LossClient, LossResult, StatusError
from lossd_client._merge import Tally, reduced
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.shards import Arrays
from lossd_client.cli.scoring.ranges import Ranges

_SUM_IS_0: Final = "--reduction sum gives 0 there"

Take = Callable[[LossResult], LossResult]
"""Takes a block's result, losses and all, and gives what is to be kept of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the input.

    Attributes:
        loss: The loss.
        params: Its parameters, as the client takes them.
    """

    loss: str
    params: Mapping[str, Any]

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

    def left_axes(self, dimensions: int) -> list[int]:
        """The inputs' axes that what comes out has."""
        reduced = set() if self.reduction == "none" else self.axes(dimensions)
        return [axis for axis in range(dimensions) if axis not in reduced]

    def opens_out_along_rows(self, dimensions: int) -> bool:
        """Whether the targets are class ids, and the classes lie along the rows."""
        return self.params["targets_format"] == "index" and self.params["class_axis"] in (0, -dimensions)

    def goes_by_rows(self, dimensions: int) -> bool:
        """Whether rows can be scored apart: no classes lie along them."""
        return dimensions > 0 and not (
            self.has_classes_along_rows(dimensions) or self._weighs_rows(dimensions)
        )

    def has_classes_along_rows(self, dimensions: int) -> bool:
        """Whether what is of a class goes with rows."""
        pos_weight = self.params["pos_weight"]
        by_class = (
            self.params["targets_format"] == "index"
            or isinstance(self.params.get("alpha"), list)
            or np.size(pos_weight if pos_weight is not None else 0) > 1
        )
        return by_class and self.params["class_axis"] in (0, -dimensions)

    def _weighs_rows(self, dimensions: int) -> bool:
        """Whether each row has a pos_weight of its own."""
        shape = np.shape(self.params["pos_weight"] if self.params["pos_weight"] is not None else 0)
        return len(shape) == dimensions > 1 and shape[0] > 1

    def sums(self, dimensions: int) -> "Question":
        """The same for a block."""
        if not self.divides(dimensions):
            return self
        return replace(self, params={**self.params, "reduction": "sum"})

    def finished(self, sums: LossResult) -> LossResult:
        """Makes the result of all from the sums of all.

        Raises:
            InvalidRequest: It is a mean over nothing.
        """
        try:
            return replace(sums, loss=reduced(replace(sums, reduction="mean")), reduction="mean")
        except InvalidRequest as error:
            raise InvalidRequest(422, "empty_mean", _as_options(error.detail)) from None


def score(client: LossClient, question: Question, inputs: Inputs, take: Take) -> LossResult:
    """Scores the input.

    Raises:
        BadFile: A file cannot be read.
        LossdError: As the client.
    """
    rows = Rows(inputs, question)
    if not question.goes_by_rows(inputs.dimensions):
        return take(rows.in_one(client, inputs.whole()))
    blocks = inputs.blocks()
    first = next(blocks)
    second = next(blocks, None)
    if second is None:
        return take(rows.in_one(client, first))
    asked = question.sums(inputs.dimensions)
    tally = Tally()
    for result in rows.results(client, asked, rows.counted(chain((first, second), blocks))):
        tally.add(take(result))
    merged = rows.noted(tally.result())
    return question.finished(merged) if asked is not question else merged


class Rows:
    """Keeps in mind which rows of the input each request under way holds, for errors to name.

    Args:
        inputs: The input.
        question: What is asked of it.
    """

    def __init__(self, inputs: Inputs, question: Question) -> None:
        self._inputs, self._question = inputs, question
        self._under_way: deque[tuple[Sequence[int], Mapping[str, tuple[int, ...]]]] = deque()
        self._start = 0
        self._shapes: Mapping[str, tuple[int, ...]] = {}
        self._ranges = Ranges(inputs.names[0], question.params["targets_format"] == "dense")

    def in_one(self, client: LossClient, block: Arrays) -> LossResult:
        """Scores all tensors by one call of the client.

        Raises:
            LossdError: As the client; what is wrong is said of rows of the input.
        """
        given: dict[str, Any] = {**block, **self._question.params}
        scored = block[self._inputs.names[0]]
        self._ranges.see(block)
        try:
            result = client.focal(**given) if self._question.loss == "focal" else client.bce(**given)
        except StatusError as error:
            raise self._moved(error, range(len(scored) if scored.ndim else 0)) from None
        return self._ranged(result)

    def _ranged(self, result: LossResult) -> LossResult:
        """Adds what is to be noted of the values."""
        return replace(result, notes=tuple(dict.fromkeys([*result.notes, *self._ranges.notes()])))

    def counted(self, blocks: Iterator[Arrays]) -> Iterator[Arrays]:
        """Passes blocks on that follow each other."""
        for block in blocks:
            length = block[self._inputs.names[0]].shape[0]
            self._remember(block, range(self._start, self._start + length))
            yield block

    def picked(self, batches: Iterator[tuple[Arrays, Sequence[int]]]) -> Iterator[Arrays]:
        """Passes batches on whose rows were picked, and come with their numbers."""
        for batch, numbers in batches:
            self._remember(batch, numbers)
            yield batch

    def _remember(self, block: Arrays, numbers: Sequence[int]) -> None:
        self._ranges.see(block)
        self._shapes = {name: array.shape for name, array in block.items()}
        self._under_way.append((numbers, self._shapes))
        self._start += len(numbers)

    def results(
        self, client: LossClient, question: Question, batches: Iterator[Arrays]
    ) -> Iterator[LossResult]:
        """Gives each batch's result.

        Raises:
            LossdError: As the client; what is wrong is said of rows of the input.
        """
        try:
            for result in client.iter_batches(cast("Any", question.loss), batches, **question.params):
                _, shapes = self._under_way.popleft()
                yield self._without(result, shapes)
        except StatusError as error:
            raise self._moved(error, self._under_way[0][0] if self._under_way else ()) from None

    def _without(self, result: LossResult, shapes: Mapping[str, tuple[int, ...]]) -> LossResult:
        """Leaves out what is to be noted of a block's shape, which is not the input's."""
        if not result.notes:
            return result
        own = self._shape_notes(shapes)
        return replace(result, notes=tuple(note for note in result.notes if note not in own))

    def noted(self, result: LossResult) -> LossResult:
        """Adds what is to be noted of the input's own shape, and of its values."""
        whole = {
            name: (self._start, *shape[1:]) if name in self._inputs.by_row else shape
            for name, shape in self._shapes.items()
        }
        pos_weight = self._question.params["pos_weight"]
        if pos_weight is not None:
            whole["pos_weight"] = np.shape(pos_weight)
        notes = self._shape_notes(whole)
        return self._ranged(replace(result, notes=tuple(dict.fromkeys([*notes, *result.notes]))))

    def _shape_notes(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        params = self._question.params
        return self._inputs.shape_notes(shapes, params["class_axis"], params["targets_format"] == "index")

    def _moved(self, error: StatusError, rows: Sequence[int]) -> StatusError:
        """Makes an error of one request name the input's rows, and the file's if there are several."""

        def move(match: re.Match[str]) -> str:
            row = int(match[3])
            if row >= len(rows):
                return match[0]
            own = self._inputs.own_row(self._inputs.names[0] if match[2] == "loss" else match[2], rows[row])
            if own is None:
                return f"{match[1]}{rows[row]}{match[4]}"
            return f"{match[1]}{own[1]}{match[4]} (row {own[1]} of {own[0]})"

        has_own = self._question.joins_rows(self._inputs.dimensions)
        names = "|".join(map(re.escape, [*self._inputs.by_row, *(["loss"] if has_own else [])]))
        pattern = re.compile(rf"(/({names})/)(\d+)((?:/\d+)*)")
        items = tuple(ErrorItem(pattern.sub(move, item.pointer), item.detail) for item in error.errors)
        return type(error)(
            error.status,
            error.code,
            pattern.sub(move, _as_options(error.detail)),
            error.request_id,
            error.retryable,
            items,
            error.retry_after,
        )


def _as_options(detail: str) -> str:
    """Says in the command's own words what to do about a mean over nothing, and where that is."""
    found = re.sub(r"use reduction='?sum'?, or leave [a-z ]+ out", _SUM_IS_0, detail)
    return re.sub(
        r"of output \[([\d, ]+)\] is", lambda match: f"at /loss/{match[1].replace(', ', '/')} is", found
    )
