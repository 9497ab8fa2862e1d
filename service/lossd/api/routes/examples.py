"""Examples of the OpenAPI document: requests, and the answers and errors that this code gives to them.

Nothing here is written down that the code can say: an example of an error is what its own code raises, an
answer is what the native kernel computes. A test provokes the few errors that are quoted.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import numpy as np

from lossd import __version__
from lossd.api.accounting import FAILED, STOPPED
from lossd.api.auth import Gate, check_team
from lossd.api.http.request import check_head
from lossd.api.problems import problem
from lossd.api.scoring.array_answer import check_output
from lossd.api.scoring.body import expanded_limit, whole_body_limit
from lossd.api.scoring.request_spec import LossSpec, SpecFields, read_spec
from lossd.core.catalog import LOSSES, Loss
from lossd.core.checks import LOGIT, PROBABILITY, TARGET, WEIGHT, Rule, box_size, value_error
from lossd.core.cut import Cut
from lossd.core.document.accumulator import ReportSums
from lossd.core.document.document import document_of
from lossd.core.native.kernel import native_kernel
from lossd.core.operand import Operand
from lossd.core.report.partial import Partial
from lossd.engine.admission.quota_memory import quotas_bytes
from lossd.engine.admission.quotas import Quotas
from lossd.engine.dispatch.in_place import prepare_request
from lossd.engine.dispatch.result import crashed, empty_mean, result_of, too_late
from lossd.engine.ipc.memory import create_memory
from lossd.requests.report_checks import plan_for
from lossd.requests.validation import OwnMemory, assemble
from lossd.settings import Settings
from lossd.teams import Limits, Team
from lossd.types import ErrorCode, LossRequest, RequestError, Tensor
from lossd.wire import STREAMS, Format, merge_params, write_json

Document = dict[str, Any]

_NUMBERS: Final = [[2.0, -1.5, 0.25], [-3.0, 4.0, 0.0]]
_PROBABILITIES: Final = [[0.75, 0.125, 0.5], [0.25, 1.0, 0.5]]
_LABELS: Final = [[1, 0, 0.5], [0, 1, 1]]
_IDS: Final = [0, 1]
_BOXES: Final = [[10.0, 10.0, 50.0, 50.0], [20.0, 30.0, 60.0, 90.0]]
_TRUE_BOXES: Final = [[12.0, 8.0, 50.0, 54.0], [20.0, 30.0, 64.0, 80.0]]
REQUEST_ID: Final = "5f0c2f5e3b7d4d0f9f3f9be1a6a4c1d2"

_ARROW: Final = "application/vnd.apache.arrow.stream"
_MIB: Final = 1 << 20
_ARRAY_BYTES: Final = 1 << 16
"""Memory for the arrays of an example."""


def tensors_example(loss: Loss) -> dict[str, Any]:
    """Return the inputs and targets of a request of two rows."""
    if loss.targets == "box":
        return {loss.inputs[0]: _BOXES, "targets": _TRUE_BOXES}
    numbers = _PROBABILITIES if loss.inputs[0] == "probabilities" else _NUMBERS
    return {loss.inputs[0]: numbers, "targets": _IDS if loss.row == "classes" else _LABELS}


def request_example(loss: Loss) -> Document:
    """Return a JSON request, with the loss's own parameters at their defaults."""
    own = {parameter.name: parameter.default for parameter in loss.parameters}
    return {**tensors_example(loss), **own}


def weighted_example(loss: Loss) -> Document:
    """Return a JSON request with a weight for each row, and one for each class if the loss has such."""
    names = {parameter.name for parameter in loss.all_parameters}
    by_class: Document = {name: [1.0, 3.0, 0.5] for name in ("pos_weight", "class_weight") if name in names}
    weight = [1.0, 0.5] if loss.row else [[1.0], [0.5]]
    return {**tensors_example(loss), "weight": weight, **by_class}


def report_example(loss: Loss) -> Document:
    """Return a JSON request with a report: the losses by class and group, and the two worst rows."""
    sections = [section for section in ("classes", "groups", "top") if section not in loss.without]
    return {**request_example(loss), "groups": [3, 7], "report": ",".join(sections), "top": 2}


def answer_example(loss: Loss, document: Document) -> Document | None:
    """Return the answer to a JSON request for a loss; None where the native kernel cannot compute it."""
    kernel = native_kernel(threads=1) if loss.is_native else None
    if kernel is None:
        return None
    request, cut, memory = _read("application/json", json.dumps(document).encode(), loss=loss.name)
    plan = plan_for(request, cut, Settings()) if cut.whole_rows else None
    place = None if plan is None else memoryview(bytearray(plan.place_bytes))
    sums = kernel.score(prepare_request(request, cut).work, memory.view, 0, 0, report=place)
    result = result_of(request, cut, sums, (), kernel.name, kernel.device)
    if plan is not None and place is not None:
        figures = ReportSums(plan.layout, plan.most_cells, plan.groups, plan.ids)
        figures.add(Partial.read(place[: sums.report]), 0)
        result.report = document_of(figures, result, request)
    answer: Document = json.loads(write_json(result, request_id=REQUEST_ID, version=__version__))
    return answer


@cache
def problem_example(code: ErrorCode) -> Document:
    """Return an example of a problem, from the code that raises its error."""
    document: Document = json.loads(problem(_error(code), REQUEST_ID).body)
    return document


def _error(code: ErrorCode) -> RequestError:
    if code in QUOTED:
        return RequestError(code, QUOTED[code])
    if code in _RETURNED:
        return _RETURNED[code]()
    try:
        _RAISED[code]()
    except RequestError as error:
        return error
    msg = f"the example of {code} raises nothing"
    raise AssertionError(msg)


def _read(
    content_type: str | None,
    body: bytes = b"",
    query: bytes = b"",
    *,
    coding: str | None = None,
    accept: str | None = None,
    loss: str = "focal",
) -> tuple[LossRequest, Cut, OwnMemory]:
    """Read a request as the server does, to the point at which it would be scored."""
    spec = read_spec(loss, SpecFields(query, content_type, coding, accept, None))
    assert isinstance(spec.form, Format)
    reader = spec.form.reader(options=spec.options, names=spec.names)
    kept = b"".join(reader.feed(body))
    memory = OwnMemory(memoryview(bytearray(len(kept) + _ARRAY_BYTES)))
    memory.view[: len(kept)] = kept
    found = reader.finish(memory.view[: len(kept)])
    params = merge_params(spec.query_params, found.params)
    request, cut = assemble(spec.loss, found, len(kept), memory, params, 1 << 20)
    return request, cut, memory


def _read_stream(body: bytes) -> None:
    reader = STREAMS[_ARROW].reader(options={}, max_batch_bytes=_MIB)
    for _ in reader.feed(body):
        pass
    reader.finish()


def _npy(logits_shape: tuple[int, ...], targets_shape: tuple[int, ...], dtype: str = "float32") -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(logits_shape, dtype))
    np.save(file, np.zeros(targets_shape, "float32"))
    return file.getvalue()


def _read_npy(body: bytes, query: bytes = b"") -> None:
    _read("application/x-npy", body, query)


def _read_json(text: str) -> None:
    _read("application/json", text.encode())


def _value_error(rule: Rule, name: str, value: float, columns: int = 80) -> RequestError:
    """Return the error of a value in row 17, column 3 of a tensor of 32 rows."""
    tensor = Tensor("float32", (32, columns), 0)
    operand = Operand(name, tensor, tensor.shape, (0, 1), (4 * columns, 4), 0)
    return value_error(rule, operand, 17 * columns + 3, value)


def _enter(limits: Limits, times: int) -> None:
    """Have a team send requests at once."""
    fd = create_memory(quotas_bytes(1))
    try:
        quotas = Quotas(fd, 1, 0, clock=lambda: 0.0)
        quotas.change({"vision": Team("vision", limits=limits)}, {"vision": 0})
        for _ in range(times):
            quotas.enter("vision", 0)
    finally:
        os.close(fd)


def _send_no_key() -> None:
    fd = create_memory(quotas_bytes(1))
    try:
        Gate(Quotas(fd, 1, 0), teams=True).identify({"headers": []})
    finally:
        os.close(fd)


QUOTED: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.UPLOAD_TOO_SLOW: (
        "the upload is too slow: 100 bytes so far; at least 1024 bytes/s are required, apart from pauses up "
        "to 10 s; send it faster, or in smaller requests"
    ),
    ErrorCode.HEADERS_TOO_LARGE: "the head has more than 100 headers; send fewer",
    ErrorCode.OVERLOADED: "the queue is too long for this request's deadline; "
    "try again later, or allow more time",
    ErrorCode.OUT_OF_MEMORY: "cuda:0 has no memory left for this request; send a smaller one",
}
"""Details of errors that take a connection, a queue or a device to raise."""

_RETURNED: Final[Mapping[ErrorCode, Callable[[], RequestError]]] = {
    ErrorCode.TARGET_OUT_OF_RANGE: lambda: _value_error(TARGET, "targets", 1.7),
    ErrorCode.PROBABILITY_OUT_OF_RANGE: lambda: _value_error(PROBABILITY, "probabilities", 1.2),
    ErrorCode.WEIGHT_OUT_OF_RANGE: lambda: _value_error(WEIGHT, "weight", -1.0),
    ErrorCode.NON_FINITE_INPUT: lambda: _value_error(LOGIT, "logits", float("nan")),
    ErrorCode.INVERTED_BOX: lambda: _value_error(box_size("xyxy", 3), "boxes", 12.5, columns=4),
    ErrorCode.EMPTY_MEAN: lambda: empty_mean(()),
    ErrorCode.INTERNAL_ERROR: lambda: FAILED,
    ErrorCode.WORKER_CRASHED: crashed,
    ErrorCode.DRAINING: lambda: STOPPED,
    ErrorCode.DEADLINE_EXCEEDED: too_late,
}

_RAISED: Final[Mapping[ErrorCode, Callable[[], object]]] = {
    ErrorCode.UNAUTHORIZED: _send_no_key,
    ErrorCode.FORBIDDEN: lambda: check_team(Team("vision", disabled=True)),
    ErrorCode.RATE_LIMITED: lambda: _enter(Limits(requests_per_second=50), 52),
    ErrorCode.TOO_MANY_IN_FLIGHT: lambda: _enter(Limits(requests_in_flight=64), 65),
    ErrorCode.BAD_REQUEST: lambda: check_head(b"POST", b"/focal", "1.1", [(b"host", b"a"), (b"host", b"b")]),
    ErrorCode.MALFORMED_JSON: lambda: _read_json('{"logits": [0.5, -1.25, NaN], "targets": [1, 0, 1]}'),
    ErrorCode.MALFORMED_NPY: lambda: _read_npy(b"0.5,1\n-1.25,0\n3.0,1\n"),
    ErrorCode.MALFORMED_NPZ: lambda: _read("application/x-npz", b"0.5,1\n-1.25,0\n3.0,1\n" * 8),
    ErrorCode.MALFORMED_ARROW: lambda: _read_stream(b"ARROW1\0\0" * 8),
    ErrorCode.MALFORMED_MULTIPART: lambda: _read("multipart/form-data"),
    ErrorCode.TRUNCATED_BODY: lambda: _read_npy(_npy((32, 80), (32, 80))[:12_000]),
    ErrorCode.TRAILING_BYTES: lambda: _read_npy(_npy((32, 80), (32, 80)) + bytes(16)),
    ErrorCode.NOT_ACCEPTABLE: lambda: _read("application/json", accept="text/html"),
    ErrorCode.BODY_TOO_LARGE: lambda: whole_body_limit(2048 * _MIB, 1024 * _MIB, None, Settings()),
    ErrorCode.EXPANDED_TOO_LARGE: lambda: expanded_limit(64 * _MIB).check(64 * _MIB + 1),
    ErrorCode.OUTPUT_TOO_LARGE: lambda: check_output(
        256 * _MIB, 100_000_000, LossSpec(LOSSES["focal"], {}, "accept application/x-npy"), 1
    ),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: lambda: _read("text/csv"),
    ErrorCode.DTYPE_NOT_ALLOWED: lambda: _read_npy(_npy((32, 80), (32, 80), "int64")),
    ErrorCode.UNSUPPORTED_ENCODING: lambda: _read("application/json", coding="br"),
    ErrorCode.SHAPE_MISMATCH: lambda: _read_npy(_npy((32, 80), (32, 81))),
    ErrorCode.BAD_SHAPE: lambda: _read_json('{"logits": [[0.5, 1.0], [2.0]], "targets": [[1, 0], [0]]}'),
    ErrorCode.INVALID_PARAMETER: lambda: _read("application/json", query=b"gama=2"),
    ErrorCode.MISSING_TENSOR: lambda: _read_json('{"logits": [0.5, -1.25]}'),
    ErrorCode.UNKNOWN_TENSOR: lambda: _read_npy(_npy((32, 80), (32, 80)), b"tensors=logit,targets"),
}
