"""Scoring of a body of any length: rows are scored as they arrive, in memory that does not grow."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from lossd.api.scoring.array_answer import check_output, number_bytes, reserve_output
from lossd.api.scoring.body import SizeLimit, decoded
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.request_spec import LossSpec
from lossd.api.scoring.whole_body import Answer, arena_for, await_answer, release_after
from lossd.core.parameters import losses_shape, reduced_axes
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.array_outputs import arrays, cut_for
from lossd.engine.dispatch.job import Job
from lossd.engine.dispatch.row_stream import RowStream
from lossd.requests.loss_checks import check_length
from lossd.requests.report_checks import plan_for
from lossd.requests.validation import assemble_rows, cut_request
from lossd.types import ErrorCode, LossRequest, RequestError, Tensor
from lossd.wire import Batch, Column, Columns, Decoder, Event, StreamReader, Strings

_MOST_ROWS: Final = 1 << 40
"""The number of rows that a stream of unknown length is planned for: more than will ever arrive."""


class StreamedBody:
    """Receives and scores one body that arrives in batches of rows.

    Args:
        exchange: The exchange of the request.
        spec: The loss and its parameters.
        reader: The body's reader.
        decoder: The decoder of its content coding, if it has one.
        limit: The most bytes that a coded body may have, decoded.
    """

    def __init__(
        self,
        exchange: Exchange,
        spec: LossSpec,
        reader: StreamReader,
        decoder: Decoder | None,
        limit: SizeLimit,
    ) -> None:
        self._service = exchange.service
        self._exchange = exchange
        self._spec = spec
        self._reader = reader
        self._decoder = decoder
        self._limit = limit
        self._parameters: list[Region] = []  # lists of numbers among them
        self._output: Region | None = None
        self._job: Job | None = None
        self._stream: RowStream | None = None
        self._outputs_per_row = 0  # of an answer that grows with the rows
        self._row_elements = 0
        self._arrays = 1  # that computing such an answer takes
        self._columns: tuple[Column, ...] = ()
        self._strings: dict[str, list[str]] = {}  # by the name of a column of strings, for a report

    async def score(self) -> Answer:
        """Receive the body and score it.

        Raises:
            RequestError: The body is wrong, or cannot be scored now.
            ClientDisconnect: The caller has hung up.
        """
        answer = None
        try:
            await self._receive()
            assert self._job is not None
            assert self._stream is not None
            self._job.deadline = self._exchange.answer_deadline
            self._stream.close()
            answer = await await_answer(self._job, self._exchange, self._output)
            return answer
        finally:
            rows = None if self._stream is None else self._stream.region
            regions = self._parameters if rows is None else [*self._parameters, rows]
            release_after(self._exchange, self._job, regions, self._output if answer is None else None)

    async def _receive(self) -> None:
        """Hand rows to the job as they arrive."""
        decoded_bytes = 0
        while (chunk := await self._exchange.next_chunk()) is not None:
            for plain in decoded(chunk, self._decoder):
                if self._decoder is not None:
                    decoded_bytes += len(plain)
                    self._limit.check(decoded_bytes)
                await self._exchange.let_others_run()
                for event in self._reader.feed(plain):
                    await self._take(event)
                    await self._exchange.let_others_run()
            if self._stream is not None:
                self._stream.advance()
            await self._raise_if_failed()
        if self._decoder is not None:
            self._decoder.finish()
        self._reader.finish()

    async def _take(self, event: Event) -> None:
        if isinstance(event, Columns):
            await self._start(event.columns)
            return
        assert self._stream is not None
        if isinstance(event, Batch):
            outputs = (self._stream.rows + event.rows) * self._outputs_per_row
            limit = self._service.settings.max_output_bytes
            check_output(limit, outputs, self._spec, self._arrays)
            self._exchange.charge(event.rows * self._row_elements)
            await self._stream.begin(event.rows)
            await self._raise_if_failed()
        elif isinstance(event, Strings):
            self._take_strings(event)
        else:
            self._stream.write(event.column, event.data)

    def _take_strings(self, strings: Strings) -> None:
        """Take what the codes of strings mean in the rows that follow."""
        self._strings[self._columns[strings.column].name] += strings.names
        if strings.rows is not None:
            assert self._stream is not None
            self._stream.name(len(strings.rows), strings.rows.at, strings.rows.nbytes)

    async def _raise_if_failed(self) -> None:
        if self._job is not None and self._job.ended:
            await self._job.result()

    async def _start(self, columns: tuple[Column, ...]) -> None:
        """Start the job, planned for the most rows that the body may have."""
        exchange, pool = self._exchange, self._service.pool
        request, row_shape, lists = assemble_rows(self._spec.loss, columns, self._spec.params)
        check_length(request, self._service.settings)
        self._row_elements = math.prod(row_shape)
        self._columns = columns
        self._strings = {column.name: [] for column in columns if column.strings}
        loss, params = self._spec.loss, request.params
        row_losses = losses_shape(loss, params, (0, *row_shape))[1:]
        axes = reduced_axes(params, (0, *row_losses), "losses" if loss.row else "inputs")
        most_rows = self._most_rows(columns)
        slice_elements = pool.elements_for(loss, report="report" in params)
        planned_rows = most_rows
        if 0 not in axes:
            planned_rows = min(most_rows, self._most_answered_rows(request, row_losses, axes))
        shape = (max(2, planned_rows), *row_shape)
        rows = dict(request.tensors)
        whole = {name: replace(row, shape=(shape[0], *row.shape)) for name, row in rows.items()}
        others = {name: await self._write_list(numbers) for name, numbers in lists.items()}
        widest = cut_request(loss, params, whole | others, shape, axes, slice_elements)
        report = None
        if widest.whole_rows:
            all_rows = replace(request, tensors=whole | others)
            report = plan_for(all_rows, widest, self._service.settings, self._strings)
        request = replace(request, tensors=rows | others)
        if widest.output_shape or report is not None:
            self._output = await reserve_output(request, widest, self._spec, exchange, report)
        self._job = await pool.start(
            request, widest, self._output, exchange.patience, exchange.requester, report
        )
        self._job.deadline = math.inf if exchange.deadline is None else exchange.deadline
        named = "ids" in self._strings
        self._stream = RowStream(self._job, rows, others, widest, most_rows, self._reserve, named=named)

    def _most_answered_rows(
        self, request: LossRequest, row_losses: tuple[int, ...], axes: tuple[int, ...]
    ) -> int:
        """Return the most rows that an answer which grows with them may have, by the output limit."""
        self._outputs_per_row = math.prod(n for axis, n in enumerate(row_losses, 1) if axis not in axes)
        whole_rows = "report" in request.params
        elements = self._service.pool.elements_for(self._spec.loss, report=whole_rows)
        most = max(1, elements // max(1, request.row_size))
        self._arrays = arrays(request, cut_for((2, *row_losses), axes, most, whole_rows=whole_rows))
        row_bytes = max(1, self._outputs_per_row) * number_bytes(self._spec, self._arrays)
        return self._service.settings.max_output_bytes // row_bytes

    async def _reserve(self, nbytes: int) -> Region:
        """Reserve memory for rows. The stream must hold none in that part, which may be all its team gets."""
        bodies = self._service.bodies
        if nbytes > bodies.capacity:
            detail = (
                f"a stream of such rows needs {nbytes} bytes of memory, there are {bodies.capacity}; send "
                "narrower rows, or .npy files"
            )
            raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
        return await self._exchange.reserve(bodies, nbytes)

    async def _write_list(self, numbers: tuple[float, ...]) -> Tensor:
        """Write a list among the parameters to the arena."""
        array = np.array(numbers, dtype=np.float64)
        region = await self._exchange.reserve(arena_for(self._service, array.nbytes), array.nbytes)
        self._parameters.append(region)
        region.view[: array.nbytes] = array.view(np.uint8).data
        return Tensor("float64", array.shape, region.offset)

    def _most_rows(self, columns: tuple[Column, ...]) -> int:
        """Return the most rows that the body can have, by its length."""
        bits = sum(column.wire_bits for column in columns)
        length = self._exchange.content_length
        if length is None or self._decoder is not None or not bits:
            return _MOST_ROWS
        return min(_MOST_ROWS, 8 * length // bits)
