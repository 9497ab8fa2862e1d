"""Size limits and memory of array answers (those of `none`, or reduced over some axes) and of reports."""

from __future__ import annotations

from typing import Final

from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.request_spec import LossSpec
from lossd.api.services import Service
from lossd.core.cut import Cut
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.array_outputs import arrays
from lossd.engine.dispatch.report_outputs import ReportPlan, reserved_bytes
from lossd.types import ErrorCode, LossRequest, RequestError

_TEXT_BYTES: Final = 24  # "-1.7976931348623157e+308" is the longest number


async def reserve_output(
    request: LossRequest,
    cut: Cut,
    spec: LossSpec,
    exchange: Exchange,
    report: ReportPlan | None,
) -> Region:
    """Reserve memory for an array answer, a report, or both.

    Raises:
        RequestError: ``output_too_large``, or ``overloaded``.
    """
    if cut.output_shape:
        check_answer(exchange.service, request, cut, spec)
    outputs = exchange.service.outputs
    nbytes, capacity = reserved_bytes(request, cut, report), outputs.capacity
    if nbytes > capacity:
        detail = (
            f"the answer's array and its report take {nbytes} bytes, at most {capacity} are allowed; ask for "
            "them in two requests, or send less"
        )
        raise RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail)
    return await exchange.reserve(outputs, nbytes)


def check_answer(service: Service, request: LossRequest, cut: Cut, spec: LossSpec) -> None:
    """Refuse an array answer that is too large, as it is sent or as it is computed.

    Raises:
        RequestError: ``output_too_large``.
    """
    count = arrays(request, cut)
    written = 1 + count if 0 in cut.axes else 1  # with sums over the rows, text has their terms, too
    check_output(service.settings.max_output_bytes, cut.outputs, spec, count, written)


def check_output(limit: int, outputs: int, spec: LossSpec, arrays: int, written: int = 1) -> None:
    """Refuse an answer that is too large, as it is sent or as it is computed.

    Args:
        limit: The most bytes of an answer.
        outputs: The answer's numbers.
        spec: The loss, and whether the answer is text.
        arrays: The float64 arrays of that length that computing it takes.
        written: The arrays of that length that its text has.

    Raises:
        RequestError: ``output_too_large``.
    """
    needed = outputs * number_bytes(spec, arrays, written)
    if needed <= limit:
        return
    remedy = "reduce over more axes, or send less"
    if spec.binary_hint is not None and "report" not in spec.params:  # which a binary answer has not
        remedy = f"{spec.binary_hint}, {remedy}"
    detail = f"the answer's {outputs} numbers may take {needed} bytes, at most {limit} are allowed; {remedy}"
    raise RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail)


def number_bytes(spec: LossSpec, arrays: int, written: int = 1) -> int:
    """Return the bytes that one number of an array answer may take, sent or computed; see `check_output`."""
    return max(8 if spec.binary_hint is None else _TEXT_BYTES * written, 8 * arrays)
