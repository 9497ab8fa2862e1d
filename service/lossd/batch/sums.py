"""The sums and the report of rows: of rows that are scored here, and of what was scored elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

import numpy as np

from lossd.batch.state import Numbering, Question, State, add_report_state, report_state
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.document.accumulator import ReportSums
from lossd.core.document.document import document_of
from lossd.core.document.indexed_sums import IndexedSums, indexed_sums
from lossd.core.kernel import Kernel
from lossd.core.kernel import Sums as Scored
from lossd.core.parameters import is_weighted, losses_shape, reduced_axes
from lossd.core.prepare import prepare
from lossd.core.report.partial import Int64Array, Partial
from lossd.engine.dispatch.array_outputs import channels
from lossd.engine.dispatch.result import RunningTotals, result_of
from lossd.requests.report_checks import plan_for
from lossd.requests.validation import assemble_rows, cut_request
from lossd.settings import Settings
from lossd.types import (
    GROUP_PREFIX,
    ErrorCode,
    Float64Array,
    LossRequest,
    LossResult,
    RequestError,
    Tensor,
)
from lossd.wire import Column, StringRows

ELEMENTS: Final = 1 << 20
"""The most elements that are read and scored at a time, unless a row has more."""


@lru_cache
def settings() -> Settings:
    """Return this process's settings, for the limits of reports and the operator's losses."""
    return Settings()


class Sums:
    """The sums of rows, and their report if one was asked for.

    Attributes:
        request: The request, each of whose tensors stands for one row.
        lists: The lists of numbers among the parameters, by name.
        strings: What the codes of strings stand for, by column; the lists grow while rows are added.

    Args:
        question: What is asked. Its columns have the dtypes of the rows if rows are to be scored.

    Raises:
        RequestError: A column or a parameter is missing, unknown, not allowed, or does not fit the others.
    """

    def __init__(self, question: Question) -> None:
        loss = LOSSES[question.loss]
        columns = [Column(its.name, its.dtype, its.width, False, 0, its.strings) for its in question.columns]
        self.request, self._row_shape, lists = assemble_rows(loss, columns, question.params)
        self.lists = {name: np.array(numbers, np.float64) for name, numbers in lists.items()}
        self._lists = {name: Tensor("float64", its.shape, 0) for name, its in self.lists.items()}
        self.strings: dict[str, list[str]] = {column.name: [] for column in columns if column.strings}
        self._question = question
        self._cut = self._widest()
        self._totals = RunningTotals()
        groups = [column for column in columns if column.name.startswith(GROUP_PREFIX)]
        self._numberings = [
            Numbering(self.strings[column.name]) if column.strings else None for column in groups
        ]
        self._rows = 0
        number = channels(self._with_lists(), self._cut) if self._cut.output_shape else 0
        self._outputs = [indexed_sums(self._cut.outputs) for _ in range(number)]
        self._report: ReportSums | None = None
        self._place_bytes = 0
        if self._cut.whole_rows:
            plan = plan_for(self._with_lists(self._cut.shape[0]), self._cut, settings(), self.strings)
            self._report = ReportSums(plan.layout, plan.most_cells, plan.groups, plan.ids)
            self._place_bytes = plan.place_bytes

    def _losses(self, rows: int) -> tuple[int, ...]:
        """Return the shape of the losses of some rows."""
        request = self.request
        return losses_shape(LOSSES[request.loss], request.params, (rows, *self._row_shape))

    def _widest(self) -> Cut:
        """Return the cut of the most rows that are scored at a time."""
        loss, params = LOSSES[self.request.loss], self.request.params
        axes = reduced_axes(params, self._losses(0), "losses" if loss.row else "inputs")
        if 0 not in axes:
            raise _not_over_rows()
        shape = (max(2, ELEMENTS // max(1, *self._row_shape, 1)), *self._row_shape)
        return cut_request(loss, params, self._with_lists(shape[0]).tensors, shape, axes, ELEMENTS)

    def _with_lists(self, rows: int | None = None) -> LossRequest:
        """Return the request with a tensor for each list; of so many rows, or of one."""
        tensors = self.request.tensors if rows is None else _of_rows(self.request.tensors, rows)
        return replace(self.request, tensors={**tensors, **self._lists})

    def score(
        self,
        kernel: Kernel,
        memory: memoryview,
        tensors: Mapping[str, Tensor],
        rows: int,
        names: StringRows | None,
    ) -> None:
        """Score rows, and add them.

        Args:
            kernel: The kernel.
            memory: The memory of their tensors.
            tensors: The tensors.
            rows: The number of rows.
            names: Their string ids, if they have such.

        Raises:
            RequestError: A value is not allowed; the error names the first in its tensor.
        """
        request, cut = self.request, self._cut
        losses = self._losses(rows)
        work = prepare(request.loss, request.params, losses, cut.axes, cut.elements, tensors, self._rows)
        place = None if self._report is None else memoryview(bytearray(self._place_bytes))
        for index in range(work.cut.parts):
            part = work.cut.part(index)
            memories = [np.empty(work.cut.most_numbers(index)) for _ in self._outputs]
            scored = kernel.score(work, memory, 0, index, memories, place)
            self._totals.add(scored)
            for sums, numbers, planes in zip(self._outputs, memories, scored.planes, strict=True):
                _add_planes(sums, numbers[: part.outputs * planes], part.output, part.outputs)
            if self._report is not None and place is not None:
                names_of = None if names is None else partial(_names_of, names)
                self._report.add(Partial.read(place[: scored.report]), self._rows, names_of)
        self._rows += rows

    def add(self, state: State) -> None:
        """Add the figures of other rows, which follow these, of the same question.

        Raises:
            RequestError: ``output_too_large``: there are too many groups.
        """
        self._totals.add(Scored(state.loss, state.weights, state.positives, state.count))
        for sums, planes in zip(self._outputs, state.outputs, strict=True):
            for plane in planes:
                _add_planes(sums, np.frombuffer(plane), 0, self._cut.outputs)
        if self._report is not None:
            add_report_state(self._report, state, self._rows, self._numberings)
        self._rows += state.rows

    def state(self) -> State:
        """Return the figures of all rows. Nothing can be added then."""
        totals = self._totals.totals(weighted=is_weighted(self._with_lists().tensors))
        report, groups, ids = (
            (memoryview(b""), [], None) if self._report is None else report_state(self._report)
        )
        return State(
            question=self._question.of_sums(),
            rows=self._rows,
            count=totals.count,
            loss=totals.loss,
            weights=totals.weights,
            positives=totals.positives,
            outputs=[[plane.tobytes() for plane in sums.canonical()] for sums in self._outputs],
            report=report,
            groups=groups,
            ids=ids,
        )

    def result(self, reduction: str) -> LossResult:
        """Return the result, a ``sum`` or ``mean``, with the report. Nothing can be added then.

        Raises:
            RequestError: ``empty_mean``.
        """
        cut, request = self._cut, self._with_lists()
        request = replace(request, params={**request.params, "reduction": reduction})
        whole = Cut(self._losses(self._rows), cut.axes, cut.elements, whole_rows=cut.whole_rows)
        totals = self._totals.totals(weighted=is_weighted(request.tensors))
        planes = [list(sums.canonical()) for sums in self._outputs]
        result = result_of(request, whole, totals, planes, "", "")
        if self._report is not None:
            result.report = document_of(self._report, result, request)
        return result


def _of_rows(tensors: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Return tensors of many rows, given those of one."""
    return {name: replace(tensor, shape=(rows, *tensor.shape)) for name, tensor in tensors.items()}


def _add_planes(sums: IndexedSums, numbers: Float64Array, first: int, outputs: int) -> None:
    """Add planes of numbers to the sums of some outputs."""
    places = np.arange(first, first + outputs)
    sums.add(np.tile(places, len(numbers) // max(1, outputs)), numbers)


def _names_of(names: StringRows, rows: Int64Array) -> list[str]:
    return [names.at(row) for row in rows.tolist()]


def _not_over_rows() -> RequestError:
    detail = (
        "rows in many places are summed: leave axis out, or name 0 among the axes; losses row by row are for "
        "a request, or for lossd score --out"
    )
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/axis", "without 0")])
