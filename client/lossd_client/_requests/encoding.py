"""Requests from calls, and results from answers."""

import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import as_bools, as_ids, dtype_name, narrowed, npy_pieces, read_npy, widened
from lossd_client._calls.axes import Axes
from lossd_client._calls.calls import CheckedCall, ReportCall
from lossd_client._calls.labels import put_back
from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import LOSSES, OPTIONS
from lossd_client._http.media_types import JSON, NPY
from lossd_client._http.problems import status_error
from lossd_client._version import version
from lossd_client.errors import BadAnswer
from lossd_client.rate_limit import RateLimit
from lossd_client.report import Report
from lossd_client.report._merging.runs import request_ids
from lossd_client.result import LossResult
from lossd_client.transport import Request, Response

_LISTED: Final = 16  # numbers; longer lists are shortened, as the server does
_BLOCK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which tensors are sent; see `LossClient`."""

    shrink_targets: bool = True
    one_hot_as_ids: bool = False
    narrow_floats: bool = False


def encode(call: CheckedCall, form: Form) -> Request:
    """Return the request of a call."""
    tensors, params = _formed(call, form)
    own = dict(call.own)
    if _is_long(own.get("class_weight")):
        tensors["class_weight"] = np.array(own.pop("class_weight"), dtype=np.float64)
    query = [("tensors", ",".join(tensors)), *query_text({**own, **params, **_report_params(call)})]
    as_npy = call.axes.joins_rows and call.report is None
    return Request(
        method="POST",
        path=f"/{call.loss_name}",
        query=tuple(query),
        headers={"Content-Type": NPY, "Accept": NPY if as_npy else JSON},
        body=tuple(piece for array in tensors.values() for piece in npy_pieces(array)),
    )


def _is_long(numbers: object) -> bool:
    """Return whether a list is too long for the query, which servers and proxies limit."""
    return isinstance(numbers, list) and len(numbers) > _LISTED


def _report_params(call: CheckedCall) -> dict[str, Any]:
    if call.report is None:
        return {}
    names = () if call.report.groups is None else call.report.groups.names
    return {**call.report.params, **({"group_names": list(names)} if names else {})}


def now() -> str:
    """Return the time as RFC 3339 has it, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """The parts of a request that its answer may not repeat.

    Attributes:
        loss_name: The loss.
        shape: The inputs' shape.
        reduction: What becomes of the elements' losses.
        params: Those of the loss's own parameters that were given.
        options: Those of the other parameters that were given.
        report: What is asked of a report; None without one.
        started: When the call began, as a report's run has it.
    """

    loss_name: str
    shape: tuple[int, ...]
    reduction: str
    params: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    report: ReportCall | None = None
    started: str = field(default_factory=now)

    @property
    def loss(self) -> Loss:
        """What the client knows of the loss."""
        return LOSSES[self.loss_name]

    def report_of(self, answer: Mapping[str, Any]) -> Report | None:
        """Return the report in an answer, with the strings of its groups and ids.

        Raises:
            BadAnswer: There is none, and one was asked for.
        """
        if self.report is None:
            return None
        if "report" not in answer:
            raise BadAnswer("the answer has no report: the server is of a version that makes none")
        document = answer["report"]
        put_back(document, self.report.groups, self.report.ids)
        if self.report.row_weights is not None:
            document["totals"]["params"]["pos_weight"] = self.report.row_weights
        run = document.get("run", {})
        own = {"client_version": version(), "started": self.started, "ended": now()}
        document["run"] = {**run, "request_ids": request_ids(run), **own}
        return Report(document)

    def loss_of(self, lists: list[Any]) -> NDArray[np.float64]:
        """Return the losses in an answer as an array; empty lists do not show all of its axes."""
        losses = np.asarray(lists, dtype=np.float64)
        if losses.size:
            return losses
        given = {**self.params, **self.options, "reduction": self.reduction}
        axes = Axes.of(self.loss, len(self.shape), given)
        shape = self.loss.losses_shape(given, self.shape)
        return losses.reshape([shape[axis] for axis in axes.left])

    def all_params(self, applied: Mapping[str, Any]) -> dict[str, Any]:
        """Return the loss's own parameters: those that the server applied, and given lists in full."""
        long = {name for name, value in applied.items() if isinstance(value, Mapping)}  # lists, shortened
        given = {name: value for name, value in self.params.items() if name in self.loss.answered}
        return {**given, **{name: value for name, value in applied.items() if name not in long}}

    def all_options(self, applied: Mapping[str, Any]) -> dict[str, Any]:
        """Return the other parameters: as given, since they may be sent in another form."""
        options = {name: OPTIONS[name] for name in self.loss.shared if name in OPTIONS}
        options |= {name: value for name, value in self.params.items() if name not in self.loss.answered}
        options |= applied
        if "targets_format" in self.loss.shared:
            options["targets_format"] = "dense"
        return {**options, **self.options}


def summary_of(call: CheckedCall) -> RequestSummary:
    """Return what is needed to read the answer to a call."""
    options = {name: value for name, value in call.params.items() if name != "reduction"}
    pos_weight = call.tensors.get("pos_weight")
    if pos_weight is not None:
        options["pos_weight"] = _described(pos_weight)
    return RequestSummary(
        call.loss_name, call.inputs.shape, call.axes.reduction, call.own, options, call.report
    )


def _described(array: NDArray[Any]) -> object:
    """Return a tensor as a parameter: a small one as a list, a large one by its SHA-256."""
    if array.size <= _LISTED:
        return widened(array).astype(np.float64).tolist()
    numbers = np.ascontiguousarray(widened(array)).reshape(-1)
    digest = sha256()
    for start in range(0, numbers.size, _BLOCK):  # a copy of it all may be large
        digest.update(numbers[start : start + _BLOCK].astype("<f8").data)
    return {"dtype": dtype_name(array.dtype), "shape": list(array.shape), "sha256": digest.hexdigest()}


def _formed(call: CheckedCall, form: Form) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    tensors, params = dict(call.tensors), dict(call.params)
    # The targets are of other values than 0 and 1, or compared with one.
    compares = call.by_index or "ignore_index" in params or call.loss.targets != "probability"
    if form.narrow_floats:
        kept = "targets" if compares else None  # rounded, they might equal nothing any more
        tensors = {name: array if name == kept else narrowed(name, array) for name, array in tensors.items()}
    if compares:
        return tensors, params
    targets = tensors["targets"]
    ids = (
        as_ids(targets, call.axes.classes)
        # Reports of batches merge, and name this parameter: it may not depend on the targets.
        if form.one_hot_as_ids
        and call.report is None
        and targets.shape == call.inputs.shape
        and "targets_format" in call.loss.shared
        else None
    )
    if ids is not None:
        tensors["targets"] = ids
        params |= {
            "targets_format": "index",
            "class_axis": call.axes.classes,
        }
    elif form.shrink_targets:
        bools = as_bools(targets)
        tensors["targets"] = targets if bools is None else bools
    return tensors, params


def query_text(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return parameters as the query has them: bare words, and JSON for the rest."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value, allow_nan=False, separators=(",", ":")))
        for name, value in params.items()
    ]


_UNREADABLE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,  # a shape that does not fit into memory
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_result(response: Response, summary: RequestSummary) -> LossResult:
    """Read the answer to a scoring request.

    Raises:
        StatusError: The status is not 200.
        BadAnswer: It is 200, and yet the answer cannot be read.
    """
    if response.status != 200:
        raise status_error(response)
    reader = {JSON: _from_json, NPY: _from_npy}.get(response.media_type)
    if reader is None:
        kind = response.media_type or "no content type"
        raise BadAnswer(f"the answer is neither JSON nor .npy but {kind}; is base_url a lossd server?")
    try:
        return reader(response, summary)
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadAnswer(f"the {response.media_type} answer cannot be read ({reason})") from error


_TERMS = ("sum_terms", "weight_sum_terms", "positives_terms")


def _from_json(response: Response, summary: RequestSummary) -> LossResult:
    answer = json.loads(response.body)
    terms: dict[str, Any] = {name: tuple(map(float, answer.get(name, ()))) for name in _TERMS}
    for name in ("loss_terms", "divisor_terms"):
        if answer.get(name):
            terms[name] = tuple(np.asarray(plane, dtype=np.float64) for plane in answer[name])
    loss = answer["loss"]
    return LossResult(
        loss=summary.loss_of(loss) if isinstance(loss, list) else float(loss),
        sum=float(answer["sum"]),
        count=int(answer["count"]),
        weight_sum=float(answer["weight_sum"]),
        positives=float(answer["positives"]),
        reduction=answer.get("reduction", summary.reduction),
        params=summary.all_params(answer.get("params", {})),
        request_id=answer.get("request_id", response.headers.get("x-request-id")),
        timing=_timing(response),
        loss_name=answer.get("loss_name", summary.loss_name),
        shape=tuple(answer.get("shape", summary.shape)),
        kernel=answer.get("kernel"),
        device=answer.get("device"),
        version=answer.get("version"),
        options=summary.all_options(answer.get("options", {})),
        notes=tuple(map(str, answer.get("notes", ()))),
        report=summary.report_of(answer),
        rate_limit=RateLimit.of(response.headers),
        **terms,
    )


def _from_npy(response: Response, summary: RequestSummary) -> LossResult:
    loss = read_npy(response.body)
    headers = response.headers
    texts = {name: headers.get(f"lossd-{name.replace('_', '-')}") for name in _TERMS}
    terms: dict[str, Any] = {name: tuple(map(float, text.split(","))) for name, text in texts.items() if text}
    applied = dict(json.loads(headers.get("lossd-params", "{}")))
    applied.pop("reduction", None)
    own = {name: applied.pop(name) for name in summary.loss.answered if name in applied}
    return LossResult(
        loss=loss if loss.ndim else loss.item(),
        sum=float(headers["lossd-sum"]),
        count=int(headers["lossd-count"]),
        weight_sum=float(headers["lossd-weight-sum"]),
        positives=float(headers["lossd-positives"]),
        reduction=summary.reduction,
        params=summary.all_params(own),
        request_id=headers.get("x-request-id"),
        timing=_timing(response),
        loss_name=summary.loss_name,
        shape=summary.shape,
        kernel=headers.get("lossd-kernel"),
        version=headers.get("lossd-version"),
        options=summary.all_options(applied),
        notes=tuple(map(str, json.loads(headers.get("lossd-notes", "[]")))),
        rate_limit=RateLimit.of(headers),
        **terms,
    )


# One metric of a Server-Timing header: a name, then parameters, of which "dur" is in milliseconds.
_METRIC = re.compile(r"([\w-]+)[^,]*?;\s*dur\s*=\s*\"?([0-9.eE+-]+)")


def _timing(response: Response) -> dict[str, float]:
    return {
        name: float(duration) for name, duration in _METRIC.findall(response.headers.get("server-timing", ""))
    }


INFO: Final = Request("GET", "/info", headers={"Accept": JSON})
READY: Final = Request("GET", "/readyz", headers={"Accept": JSON})
USAGE: Final = Request("GET", "/usage", headers={"Accept": JSON})
OVERVIEW: Final = Request("GET", "/overview", headers={"Accept": JSON})


def for_days(request: Request, days: int | None) -> Request:
    """Return USAGE or OVERVIEW for a number of days; None for the server's default."""
    return request if days is None else replace(request, query=(("days", str(operator.index(days))),))


def read_object(response: Response, path: str) -> dict[str, Any]:
    """Read the answer to INFO, USAGE or OVERVIEW.

    Raises:
        StatusError: The status is not 200.
        BadAnswer: It is 200, and yet not a JSON object.
    """
    if response.status != 200:
        raise status_error(response)
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadAnswer(f"the answer to {path} is not a JSON object; is base_url a lossd server?")
    return found


def read_ready(response: Response) -> bool:
    """Read the answer to READY: 200 is yes, 503 is no.

    Raises:
        StatusError: The status is neither.
    """
    if response.status not in (200, 503):
        raise status_error(response)
    return response.status == 200
