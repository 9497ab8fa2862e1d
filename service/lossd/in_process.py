"""One request, answered in this process as a server would: `lossd score --engine` asks it instead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple
from urllib.parse import quote

import numpy as np

from lossd import __version__
from lossd.api.problems import MEDIA_TYPE, problem
from lossd.batch.kernels import kernel_for
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.document.accumulator import ReportSums
from lossd.core.document.document import document_of
from lossd.core.kernel import Kernel
from lossd.core.parameters import is_weighted
from lossd.core.report.partial import Partial
from lossd.engine.dispatch.in_place import Prepared, prepare_request
from lossd.engine.dispatch.result import Planes, RunningTotals, planes_of, result_of
from lossd.requests.report_checks import plan_for, show_weights
from lossd.requests.validation import OwnMemory, assemble
from lossd.settings import Settings
from lossd.types import LossResult, RequestError
from lossd.wire import FORMATS, parse_query, write_json

_NPY: Final = "application/x-npy"
_JSON: Final = "application/json"
_PARAMETER_BYTES: Final = 1 << 16
"""Memory behind a body for lists among the parameters, such as a pos_weight."""
_ELEMENTS: Final = 1 << 17
"""The most elements of a part of a report, which takes two to four times as many."""
_WHOLE: Final = 1 << 62
"""So many elements are one part: here no other request waits for its end."""


class Answered(NamedTuple):
    """An answer."""

    status: int
    media_type: str
    body: bytes


def answer(
    loss: str, query: Sequence[tuple[str, str]], body: Sequence[bytes | memoryview], request_id: str
) -> Answered:
    """Answer a request for a loss.

    Args:
        loss: The loss's name.
        query: The query's names and values, not escaped.
        body: The pieces of a body of .npy files.
        request_id: What the answer bears as its id.

    Returns:
        What a server would send.
    """
    try:
        result = _score(loss, query, body)
        return Answered(200, _JSON, write_json(result, request_id=request_id, version=__version__))
    except RequestError as error:
        found = problem(error, request_id)
        return Answered(found.status, MEDIA_TYPE, found.body)


def _score(loss: str, query: Sequence[tuple[str, str]], body: Sequence[bytes | memoryview]) -> LossResult:
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    params = parse_query(text.encode())
    names = params.pop("tensors")
    assert isinstance(names, str | list)
    reader = FORMATS[_NPY].reader(options={}, names=[names] if isinstance(names, str) else names)
    memory = OwnMemory(_joined(body))
    stored = memory.view[: len(memory.view) - _PARAMETER_BYTES]
    for _ in reader.feed(stored):
        pass
    found = reader.finish(stored)
    request, cut = assemble(LOSSES[loss], found, len(stored), memory, params, _ELEMENTS)
    kernel = kernel_for("cpu", is_native=LOSSES[loss].is_native)
    if cut.whole_rows:
        show_weights(request, cut.shape, memory.view)
        return _reported(kernel, prepare_request(request, cut), memory.view)
    return _summed(kernel, prepare_request(request, Cut(cut.shape, cut.axes, _WHOLE)), memory.view)


def _joined(body: Sequence[bytes | memoryview]) -> memoryview:
    """Return a body's pieces in one piece of memory, with room behind them."""
    *starts, end = accumulate(map(len, body), initial=0)
    memory = np.empty(end + _PARAMETER_BYTES, np.uint8).data
    for start, piece in zip(starts, body, strict=True):
        memory[start : start + len(piece)] = piece
    return memory


def _summed(kernel: Kernel, ready: Prepared, memory: memoryview) -> LossResult:
    """Return the result of a request of one part, or of none."""
    request, cut, work = ready
    totals = RunningTotals()
    channels: list[Planes] = []
    if cut.output_shape:
        channels = [[np.zeros(cut.outputs)] for _ in range(work.channels)]
    if cut.parts:
        memories = [np.empty(cut.most_numbers(0)) for _ in channels]
        sums = kernel.score(work, memory, 0, 0, memories)
        totals.add(sums)
        channels = [planes_of(cut, *each) for each in zip(memories, sums.planes, strict=True)]
    of_all = totals.totals(weighted=is_weighted(request.tensors))
    return result_of(request, cut, of_all, channels, kernel.name, kernel.device)


def _reported(kernel: Kernel, ready: Prepared, memory: memoryview) -> LossResult:
    """Return the result of a request with a report, scored part by part."""
    request, cut, work = ready
    plan = plan_for(request, cut, Settings())
    report = ReportSums(plan.layout, plan.most_cells, plan.groups, plan.ids)
    place = memoryview(bytearray(plan.place_bytes))
    totals = RunningTotals()
    for index in range(cut.parts):
        sums = kernel.score(work, memory, 0, index, (), place)
        totals.add(sums)
        report.add(Partial.read(place[: sums.report]), 0)
    of_all = totals.totals(weighted=is_weighted(request.tensors))
    result = result_of(request, cut, of_all, (), kernel.name, kernel.device)
    result.report = document_of(report, result, request)
    return result
