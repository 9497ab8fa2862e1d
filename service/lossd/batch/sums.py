"""The sums and the report of a table's rows, added up run by run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from lossd.batch.kernels import kernel_for
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.document.accumulator import Int64Array, ReportSums
from lossd.core.document.document import document_of
from lossd.core.document.indexed_sums import indexed_sums
from lossd.core.kernel import Sums as PartSums
from lossd.core.parameters import reduced_axes
from lossd.core.prepare import Work, prepare
from lossd.core.report.partial import Partial
from lossd.engine.dispatch.array_outputs import channels
from lossd.engine.dispatch.result import RunningTotals, Totals, result_of
from lossd.requests.report_checks import plan_for
from lossd.requests.validation import cut_request
from lossd.settings import Settings
from lossd.types import ErrorCode, Float64Array, LossRequest, LossResult, RequestError, Tensor
from lossd.wire import StringRows

ELEMENTS: Final = 1 << 20
"""The most elements that are read and scored at a time, unless a row has more."""


class TableSums:
    """The sums of a table, of the reduction ``sum``.

    Args:
        request: The request, each of whose tensors stands for one row.
        row_shape: The shape of a row of the inputs.
        strings: What the codes of strings stand for, by column; the lists grow while rows are read.
        device: The device.
        settings: The limits of reports.

    Raises:
        RequestError: ``invalid_parameter``, or what the report's checks find.
    """

    def __init__(
        self,
        request: LossRequest,
        row_shape: tuple[int, ...],
        strings: Mapping[str, Sequence[str]],
        device: str,
        settings: Settings,
    ) -> None:
        loss = LOSSES[request.loss]
        axes = reduced_axes(request.params, (0, *row_shape))
        if 0 not in axes:
            raise _not_over_rows()
        rows = max(2, ELEMENTS // max(1, *row_shape))
        tensors = {
            name: replace(tensor, shape=(rows, *tensor.shape)) for name, tensor in request.tensors.items()
        }
        self._request = request
        self._row_shape = row_shape
        self._cut = cut_request(loss, request.params, tensors, (rows, *row_shape), axes, ELEMENTS)
        self._kernel = kernel_for(device, is_native=loss.is_native)
        self._totals = RunningTotals()
        self._outputs = [
            indexed_sums(self._cut.outputs)
            for _ in range(channels(request, self._cut) if self._cut.output_shape else 0)
        ]
        self._report: ReportSums | None = None
        self._place = memoryview(b"")
        if self._cut.whole_rows:
            plan = plan_for(replace(request, tensors=tensors), self._cut, settings, strings)
            self._report = ReportSums(plan.layout, plan.most_cells, plan.groups, plan.ids)
            self._place = memoryview(bytearray(plan.place_bytes))
        self._rows = 0

    def add(
        self, memory: memoryview, tensors: Mapping[str, Tensor], rows: int, names: StringRows | None
    ) -> None:
        """Score rows, and add them.

        Args:
            memory: The memory of their tensors.
            tensors: The tensors.
            rows: The number of rows.
            names: Their string ids, if they have such.

        Raises:
            RequestError: A value is not allowed; the error names the first in its tensor.
        """
        request, shape = self._request, (rows, *self._row_shape)
        work = prepare(
            request.loss, request.params, shape, self._cut.axes, self._cut.elements, tensors, self._rows
        )
        for index in range(work.cut.parts):
            self._add_part(work, memory, index, names)
        self._rows += rows

    def _add_part(self, work: Work, memory: memoryview, index: int, names: StringRows | None) -> None:
        memories = [np.empty(work.cut.most_numbers(index)) for _ in self._outputs]
        report = None if self._report is None else self._place
        scored = self._kernel.score(work, memory, 0, index, memories, report)
        self._totals.add(Totals(scored.loss, scored.weights, scored.positives, scored.count))
        part = work.cut.part(index)
        places = np.arange(part.output, part.output + part.outputs)
        for sums, numbers, planes in zip(self._outputs, memories, scored.planes, strict=True):
            sums.add(np.tile(places, planes), numbers[: part.outputs * planes])
        if self._report is not None:
            partial = Partial.read(self._place[: scored.report])
            self._report.add(partial, self._rows, None if names is None else _names_of(names))

    def result(self) -> LossResult:
        """Return the sums of all rows, with the report."""
        request, cut = self._request, self._cut
        whole = Cut((self._rows, *self._row_shape), cut.axes, cut.elements, whole_rows=cut.whole_rows)
        totals = self._totals.totals(weighted="weight" in request.tensors)
        planes = [list(sums.canonical()) for sums in self._outputs]
        result = result_of(request, whole, totals, planes, self._kernel.name, self._kernel.device)
        if self._report is not None:
            result.report = document_of(self._report, result, request)
        return result


def _names_of(names: StringRows):
    def names_of(rows: Int64Array) -> list[str]:
        return [names.at(row) for row in rows.tolist()]

    return names_of


def _not_over_rows() -> RequestError:
    detail = (
        "what is scored in many places must be summed over the rows: leave axis out, or name 0 among the axes; "
        "losses row by row are for `lossd score` or a request"
    )
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/axis", "without 0")])
