"""Stage 5 of `lossd score`: one input, scored in one request if it is small, else in blocks of rows."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np

from lossd_client import LossClient, LossResult, StatusError
from lossd_client._calls.loss import Losses
from lossd_client._calls.shape_notes import BY_COUNT, notes_of
from lossd_client._http.problems import relocated, with_detail
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.shards import BASELINE, Arrays
from lossd_client.cli.scoring.ranges import Ranges
from lossd_client.cli.scoring.request import ScoreRequest, as_options, mean_of

Take: TypeAlias = Callable[[LossResult], LossResult]
"""Takes the result of a block, and returns what to keep of it."""

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shapes of tensors, by name."""

AnswerT = TypeVar("AnswerT")


class Seen(NamedTuple):
    """What was seen of rows that were scored elsewhere.

    Attributes:
        rows: Their number.
        shapes: The shapes of the last block.
        ranges: The range of their values.
    """

    rows: int
    shapes: Shapes
    ranges: Ranges


def score(client: LossClient, request: ScoreRequest, inputs: Inputs, take: Take) -> LossResult:
    """Score the input.

    A mean over rows is asked for as sums of blocks, and divided once.

    Raises:
        BadFile: A file cannot be read.
        LossdError: As the client.
    """
    rows = Rows(inputs, request)
    if not request.can_split(inputs.dimensions):
        return take(rows.score_whole(client, inputs.whole()))
    blocks = inputs.blocks()
    first = next(blocks)
    second = next(blocks, None)
    if second is None:
        return take(rows.score_whole(client, first))
    averages = request.axes(inputs.dimensions).averages_rows
    asked = request.sums() if averages else request
    results = rows.results(client, asked, rows.counted(chain((first, second), blocks)))
    merged = rows.noted(LossResult.merge(map(take, results)))
    return mean_of(merged) if averages else merged


class Rows:
    """The rows of the input that each request in flight has, for errors to name.

    Args:
        inputs: The input.
        request: The loss and its parameters.
    """

    def __init__(self, inputs: Inputs, request: ScoreRequest) -> None:
        self._inputs, self._request = inputs, request
        self._in_flight: deque[tuple[Sequence[int], Shapes]] = deque()
        self._start = 0
        self._shapes: Shapes = {}
        self._ranges = Ranges(inputs.names[0], request.known_loss, is_dense=not request.by_index)

    def score_whole(self, client: LossClient, block: Arrays) -> LossResult:
        """Score all tensors by one call of the client.

        Raises:
            LossdError: As the client; places are rows of the input.
        """
        given: dict[str, Any] = {**block, **self._request.params}
        scored = block[self._inputs.names[0]]
        self._ranges.see(block)
        try:
            result: LossResult = getattr(client, self._request.loss)(**given)
        except StatusError as error:
            raise self._named(error, range(len(scored) if scored.ndim else 0)) from None
        return self._with_notes(result, [])

    def counted(self, blocks: Iterator[Arrays]) -> Iterator[Arrays]:
        """Yield blocks that follow each other."""
        for block in blocks:
            length = block[self._inputs.names[0]].shape[0]
            self._remember(block, range(self._start, self._start + length))
            yield block

    def picked(self, batches: Iterator[tuple[Arrays, Sequence[int]]]) -> Iterator[Arrays]:
        """Yield batches of picked rows, which come with their numbers."""
        for batch, numbers in batches:
            self._remember(batch, numbers)
            yield batch

    def _not_a_baseline(self, why: str) -> BadFile:
        return BadFile(self._wrong_order(why))

    def _wrong_order(self, why: str) -> str:
        what = f"the baseline, {self._inputs.tensors[BASELINE].file.location}, {why}"
        order = "lossd compare takes NEW BASELINE TARGETS in this order"
        return f"{what}: name the other model's {self._inputs.names[0]}; {order}"

    def _remember(self, block: Arrays, numbers: Sequence[int]) -> None:
        if BASELINE in block and (kind := block[BASELINE].dtype).kind in "biu":
            raise self._not_a_baseline(f"holds {kind}, as targets do, and {self._inputs.names[0]} are floats")
        self._ranges.see(block)
        self._shapes = {name: array.shape for name, array in block.items()}
        self._in_flight.append((numbers, self._shapes))
        self._start += len(numbers)

    @property
    def seen(self) -> Seen:
        """What was seen of all rows."""
        return Seen(self._start, self._shapes, self._ranges)

    def take(self, seen: Seen) -> None:
        """Add what was seen of the next rows."""
        self._start += seen.rows
        self._shapes = seen.shapes
        self._ranges.take(seen.ranges)

    def results(
        self, client: LossClient, request: ScoreRequest, batches: Iterator[Arrays]
    ) -> Iterator[LossResult]:
        """Yield each batch's result, without notes of its shape, which is not the input's.

        Raises:
            LossdError: As the client; places are rows of the input.
        """
        answers = client.iter_batches(cast("Any", request.loss), batches, **request.params)
        for result, shapes in self.answered(answers):
            own = self._shape_notes(shapes) if result.notes else []
            yield replace(result, notes=tuple(note for note in result.notes if note not in own))

    def answered(self, answers: Iterator[AnswerT]) -> Iterator[tuple[AnswerT, Shapes]]:
        """Yield each block's answer, and the shapes of its tensors.

        Raises:
            LossdError: As the client; places are rows of the input.
        """
        try:
            for answer in answers:
                yield answer, self._in_flight.popleft()[1]
        except StatusError as error:
            raise self._named(error, self._in_flight[0][0] if self._in_flight else ()) from None

    def noted(self, result: LossResult) -> LossResult:
        """Return a result with notes of the whole input, once all blocks were seen.

        Raises:
            BadFile: The baseline's values are those of targets.
        """
        if self._ranges.of_targets is not None:
            raise self._not_a_baseline(self._ranges.of_targets)
        return self._with_notes(result, [*self._whole_shape_notes(), *self._mean_notes()])

    def _mean_notes(self) -> list[str]:
        """Return a note on weights of classes that a mean, also that of a report, does not divide by."""
        params = self._request.params
        is_by_count = params.get("normalizer", "count") == "count"
        has_mean = params["reduction"] == "mean" or "sections" in params
        has_weights = self._request.by_index and params.get("class_weight") is not None
        return [BY_COUNT] if is_by_count and has_mean and has_weights else []

    def _whole_shape_notes(self) -> list[str]:
        whole = {
            name: (self._start, *shape[1:]) if name in self._inputs.by_row else shape
            for name, shape in self._shapes.items()
        }
        pos_weight = self._request.params.get("pos_weight")
        if pos_weight is not None:
            whole["pos_weight"] = np.shape(pos_weight)
        return self._shape_notes(whole)

    def _shape_notes(self, shapes: Shapes) -> list[str]:
        losses = Losses(self._request.known_loss, self._request.params)
        return notes_of(shapes, shapes[self._inputs.names[0]], losses, by_index=self._request.by_index)

    def _with_notes(self, result: LossResult, first: Sequence[str]) -> LossResult:
        return replace(result, notes=tuple(dict.fromkeys([*first, *result.notes, *self._ranges.notes()])))

    def _named(self, error: StatusError, rows: Sequence[int]) -> StatusError:
        """Return the error of one request with the rows of the input, or of its file if there are several."""

        def place_of(name: str, row: int) -> tuple[int, str]:
            if row >= len(rows):
                return row, ""
            own = self._inputs.own_row(self._inputs.names[0] if name == "loss" else name, rows[row])
            return (rows[row], "") if own is None else (own[1], f" (row {own[1]} of {own[0]})")

        detail, why = as_options(error.detail), self._ranges.of_targets
        if why is not None:
            detail = f"{detail}. T{self._wrong_order(why)[1:]}"
        error = with_detail(error, detail, error.errors)
        has_rows = self._request.axes(self._inputs.dimensions).joins_rows
        return relocated(error, [*self._inputs.by_row, *(["loss"] if has_rows else [])], place_of)
