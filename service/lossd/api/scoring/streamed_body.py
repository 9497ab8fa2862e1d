"""From a body of any length to its loss: rows are scored as they arrive, in memory that does not grow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from lossd.api.scoring.body_limits import Room
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.validation import assemble_rows
from lossd.api.scoring.whole_body import (
    Outcome,
    Task,
    await_outcome,
    check_output,
    number_bytes,
    release_after,
    reserve_output,
)
from lossd.api.services import Service
from lossd.core.parameters import reduced_axes
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.array_outputs import arrays, cut_for
from lossd.engine.dispatch.job import Job
from lossd.engine.dispatch.row_stream import RowStream
from lossd.types import ErrorCode, RequestError, Tensor
from lossd.wire import Batch, Chunk, Column, Columns, Decoder, Event, StreamReader

_MOST_ROWS: Final = 1 << 40
"""More rows than will ever come; a stream must have some number of them."""


class StreamScoring:
    """Scores one body that comes in batches of rows.

    Args:
        service: The workers and the memory.
        exchange: The request.
        task: What is asked for.
        reader: Reads the body.
        decoder: Undoes the body's coding, if it has one.
        room: How long a coded body may be, decoded.
    """

    def __init__(
        self,
        service: Service,
        exchange: Exchange,
        task: Task,
        reader: StreamReader,
        decoder: Decoder | None,
        room: Room,
    ) -> None:
        self._service = service
        self._exchange = exchange
        self._task = task
        self._reader = reader
        self._decoder = decoder
        self._room = room
        self._decoded_bytes = 0
        self._lists: list[Region] = []  # of the parameters
        self._output: Region | None = None
        self._job: Job | None = None
        self._stream: RowStream | None = None
        self._outputs_per_row = 0  # of an answer that grows with the rows
        self._row_elements = 0
        self._arrays = 1  # of so many numbers that it takes to compute it

    async def score(self) -> Outcome:
        """Receive the body and score it.

        Raises:
            RequestError: Whatever is wrong with it.
            ClientDisconnect: The caller has hung up.
        """
        answered = False
        try:
            while (chunk := await self._exchange.chunk()) is not None:
                for plain in self._decoded(chunk):
                    await self._exchange.breathe()
                    for event in self._reader.feed(plain):
                        await self._take(event)
                        await self._exchange.breathe()
                if self._stream is not None:
                    self._stream.advance()
                await self._stop_if_failed()
            if self._decoder is not None:
                self._decoder.finish()
            self._reader.finish()
            assert self._job is not None
            assert self._stream is not None
            patience, deadline = self._service.settings.timeout_seconds, self._exchange.deadline
            self._job.deadline = time.monotonic() + patience if deadline is None else deadline
            self._stream.close()
            outcome = await await_outcome(self._job, self._exchange, self._output)
            answered = True
            return outcome
        finally:
            rows = None if self._stream is None else self._stream.region
            regions = self._lists if rows is None else [*self._lists, rows]
            release_after(self._job, regions, None if answered else self._output)

    def _decoded(self, chunk: Chunk) -> Iterable[Chunk]:
        if self._decoder is None:
            yield chunk
            return
        for plain in self._decoder.feed(chunk):
            self._decoded_bytes += len(plain)
            self._room.check(self._decoded_bytes)
            yield plain

    async def _take(self, event: Event) -> None:
        if isinstance(event, Columns):
            await self._start(event.columns)
            return
        assert self._stream is not None
        if isinstance(event, Batch):
            outputs = (self._stream.rows + event.rows) * self._outputs_per_row
            check_output(self._service, outputs, self._task, self._arrays)
            self._exchange.charge(event.rows * self._row_elements)
            await self._stream.begin(event.rows)
            await self._stop_if_failed()
        else:
            self._stream.write(event.column, event.data)

    async def _stop_if_failed(self) -> None:
        if self._job is not None and self._job.over:
            await self._job.result()

    async def _start(self, columns: tuple[Column, ...]) -> None:
        pool, patience = self._service.pool, self._service.settings.timeout_seconds
        request, inner, lists = assemble_rows(self._task.loss, columns, self._task.params)
        rows = dict(request.tensors)
        self._row_elements = math.prod(inner)
        axes = reduced_axes(request.params, (0, *inner))
        elements, most = pool.elements_for(self._task.loss), self._most_rows(columns)
        bounded = most
        if 0 not in axes:
            self._outputs_per_row = math.prod(n for axis, n in enumerate(inner, 1) if axis not in axes)
            self._arrays = arrays(request, cut_for((2, *inner), axes, elements))
            least = max(1, self._outputs_per_row) * number_bytes(self._task, self._arrays)
            bounded = min(most, self._service.settings.max_output_bytes // least)
        widest = cut_for((max(2, bounded), *inner), axes, elements)
        others = {name: await self._lay_down(numbers) for name, numbers in lists.items()}
        request = replace(request, tensors=rows | others)
        self._output = await reserve_output(self._service, request, widest, self._task, self._exchange)
        team = self._exchange.team
        self._job = await pool.start(
            request,
            widest,
            self._output,
            self._exchange.left(patience),
            team.name,
            team.weight,
            self._exchange.request_id,
            self._exchange.trace,
        )
        self._job.deadline = math.inf if self._exchange.deadline is None else self._exchange.deadline
        self._stream = RowStream(self._job, rows, others, widest, most, self._reserve)

    async def _reserve(self, nbytes: int) -> Region:
        bodies = self._service.bodies
        if nbytes > bodies.capacity:
            detail = (
                f"a stream of such rows needs {nbytes} bytes of memory, there are {bodies.capacity}; send "
                "narrower rows, or .npy files"
            )
            raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
        patience, team = self._service.settings.timeout_seconds, self._exchange.team
        return await bodies.reserve(nbytes, self._exchange.left(patience), team.name, team.weight)

    async def _lay_down(self, numbers: tuple[float, ...]) -> Tensor:
        """A list among the parameters, in the arena."""
        array = np.array(numbers, dtype=np.float64)
        region = await self._reserve(array.nbytes)
        self._lists.append(region)
        region.view[: array.nbytes] = array.view(np.uint8).data
        return Tensor("float64", array.shape, region.offset)

    def _most_rows(self, columns: tuple[Column, ...]) -> int:
        """How many rows the body can have at most, by its length."""
        bits = sum(column.wire_bits for column in columns)
        length = self._exchange.declared
        if length is None or self._decoder is not None or not bits:
            return _MOST_ROWS
        return min(_MOST_ROWS, 8 * length // bits)
