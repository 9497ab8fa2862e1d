"""A loss and its figures, and how both forms of the answer are read into them."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from lossd_client._arrays import read_npy
from lossd_client._calls import OPTIONS, OWN
from lossd_client.errors import BadAnswer, status_error
from lossd_client.transport import JSON, NPY, Response


@dataclass(frozen=True, eq=False, slots=True)
class LossResult:
    """What the server computed.

    `sum`, `count`, `weight_sum` and `positives` are the whole request's, whatever the reduction, and their
    terms are what `merge` adds: what it makes of any batches has the bits of one request over everything.

    Attributes:
        loss: A float for a scalar, else a float64 array.
        sum: The weighted losses summed.
        count: How many elements were scored.
        weight_sum: The broadcast weights summed; the count where there is no weight.
        positives: The targets summed, unweighted.
        reduction: "none", "sum" or "mean".
        params: The loss's own parameters, such as gamma, as the server applied them, defaults too. (Older
            servers do not say them of an array: then those that were given.)
        request_id: The request's identity in the server's logs.
        timing: Milliseconds that the server spent, by stage: "read", "queue", "compute".
        loss_name: "bce" or "focal".
        shape: The inputs' shape.
        kernel: What computed it.
        device: Where; None when the loss is an array.
        version: The server's version.
        options: The parameters that all losses have, such as the axis and the normalizer, defaults too: what
            the caller gave, whatever was sent for it. A `pos_weight` of more than 16 numbers that is an array
            has its dtype, shape and SHA-256 (of its numbers as little-endian float64) here.
        notes: What to know of a loss that is right and may surprise: a sentence each, mostly none.
        sum_terms: Numbers that add up to the sum exactly: `sum`, what rounding it left, and so on. (Older
            servers do not say them: then `merge` takes `sum`.)
        weight_sum_terms: Likewise for `weight_sum`.
        positives_terms: Likewise for `positives`.
        loss_terms: Arrays of the loss's shape that add up exactly to its sums, before any division; where the
            rows (axis 0) are summed and other axes stay, else None.
        divisor_terms: There, likewise for what a mean divides the sums by; positives as they are, though it
            divides by 1 at least.
    """

    loss: float | NDArray[np.float64]
    sum: float
    count: int
    weight_sum: float
    positives: float
    reduction: str
    params: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    loss_name: str = ""
    shape: tuple[int, ...] = ()
    kernel: str | None = None
    device: str | None = None
    version: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sum_terms: tuple[float, ...] = ()
    weight_sum_terms: tuple[float, ...] = ()
    positives_terms: tuple[float, ...] = ()
    loss_terms: tuple[NDArray[np.float64], ...] | None = None
    divisor_terms: tuple[NDArray[np.float64], ...] | None = None

    @classmethod
    def merge(cls, results: Iterable["LossResult"]) -> "LossResult":
        """Puts the results of batches together into the result of all of them.

        The result is what one request over everything would have given, to the last bit, in whatever order
        and groups the batches come: sums are added exactly, as is what the normalizer divides by, and rounded
        and divided once. A mean of means would weigh a short last batch like a full one. Losses of "none",
        and of an `axis` that leaves the rows (axis 0) standing, are joined row after row; sums and means over
        rows that leave other axes standing are added place by place.

        Args:
            results: One a batch, in order; any iterable, read once. They may themselves be merged ones.

        Returns:
            A result whose figures are all batches' together. `request_id`, `kernel` and the like stay where
            they are the same in all, and are None elsewhere; `timing` adds up, and `notes` are united.

        Raises:
            ValueError: There are none; or they are of different losses, parameters or reductions; or they are
                means over rows that leave other axes standing, of a server that does not give their terms.
            InvalidRequest: A mean over nothing, code "empty_mean", as the server says it.
        """
        from lossd_client._merge import Tally  # which is made of results

        tally = Tally()
        for result in results:
            tally.add(result)
        return tally.result()

    def __float__(self) -> float:
        if isinstance(self.loss, np.ndarray):
            raise TypeError(
                f"the loss is an array of shape {self.loss.shape} and no single number; read it as .loss, or "
                "ask without reduction='none' and axis for one"
            )
        return self.loss

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    @overload
    def __round__(self) -> int: ...
    @overload
    def __round__(self, digits: int) -> float: ...
    def __round__(self, digits: int | None = None) -> float:
        return round(float(self), digits)

    def __repr__(self) -> str:
        loss = f"array{self.loss.shape}" if isinstance(self.loss, np.ndarray) else repr(self.loss)
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        return (
            f"<LossResult {self.loss_name} {loss}: reduction={self.reduction}, sum={self.sum!r}, "
            f"count={self.count}, weight_sum={self.weight_sum!r}, positives={self.positives!r}{params}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Gives every field in a form that `json.dumps` takes.

        Arrays become nested lists, and numbers that are not finite become the strings "Infinity",
        "-Infinity" and "NaN", as in the server's own answers.
        """
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller asked for: an answer may not repeat all of it.

    Attributes:
        loss_name: The loss.
        shape: The inputs' shape.
        reduction: What becomes of the elements' losses.
        params: Those of the loss's own parameters that were given.
        options: Those of the other parameters that were given.
    """

    loss_name: str
    shape: tuple[int, ...]
    reduction: str
    params: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def all_params(self, applied: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the loss's own parameters by what the server says that it applied."""
        long = {name for name, value in applied.items() if isinstance(value, Mapping)}  # lists, shortened
        return {**self.params, **{name: value for name, value in applied.items() if name not in long}}

    def all_options(self, applied: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the other parameters. What the caller gave counts: it may be sent in another form."""
        return {**OPTIONS, **applied, "targets_format": "dense", **self.options}


_UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,  # a shape that nobody could hold
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_result(response: Response, asked: Asked) -> LossResult:
    """Reads the answer to a scoring request.

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
        return reader(response, asked)
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadAnswer(f"the {response.media_type} answer cannot be read ({reason})") from error


_TERMS = ("sum_terms", "weight_sum_terms", "positives_terms")


def _from_json(response: Response, asked: Asked) -> LossResult:
    answer = json.loads(response.body)
    terms: dict[str, Any] = {name: tuple(map(float, answer.get(name, ()))) for name in _TERMS}
    for name in ("loss_terms", "divisor_terms"):
        if answer.get(name):
            terms[name] = tuple(np.asarray(plane, dtype=np.float64) for plane in answer[name])
    loss = answer["loss"]
    return LossResult(
        loss=np.asarray(loss, dtype=np.float64) if isinstance(loss, list) else float(loss),
        sum=float(answer["sum"]),
        count=int(answer["count"]),
        weight_sum=float(answer["weight_sum"]),
        positives=float(answer["positives"]),
        reduction=answer.get("reduction", asked.reduction),
        params=asked.all_params(answer.get("params", {})),
        request_id=answer.get("request_id", response.headers.get("x-request-id")),
        timing=_timing(response),
        loss_name=answer.get("loss_name", asked.loss_name),
        shape=tuple(answer.get("shape", asked.shape)),
        kernel=answer.get("kernel"),
        device=answer.get("device"),
        version=answer.get("version"),
        options=asked.all_options(answer.get("options", {})),
        notes=tuple(map(str, answer.get("notes", ()))),
        **terms,
    )


def _from_npy(response: Response, asked: Asked) -> LossResult:
    loss = read_npy(response.body)
    headers = response.headers
    texts = {name: headers.get(f"lossd-{name.replace('_', '-')}") for name in _TERMS}
    terms: dict[str, Any] = {name: tuple(map(float, text.split(","))) for name, text in texts.items() if text}
    applied = dict(json.loads(headers.get("lossd-params", "{}")))
    applied.pop("reduction", None)
    own = {name: applied.pop(name) for name in OWN.get(asked.loss_name, ()) if name in applied}
    return LossResult(
        loss=loss if loss.ndim else loss.item(),
        sum=float(headers["lossd-sum"]),
        count=int(headers["lossd-count"]),
        weight_sum=float(headers["lossd-weight-sum"]),
        positives=float(headers["lossd-positives"]),
        reduction=asked.reduction,
        params=asked.all_params(own),
        request_id=headers.get("x-request-id"),
        timing=_timing(response),
        loss_name=asked.loss_name,
        shape=asked.shape,
        kernel=headers.get("lossd-kernel"),
        version=headers.get("lossd-version"),
        options=asked.all_options(applied),
        notes=tuple(map(str, json.loads(headers.get("lossd-notes", "[]")))),
        **terms,
    )


# One metric of a Server-Timing header: a name, then parameters, of which "dur" is in milliseconds.
_METRIC = re.compile(r"([\w-]+)[^,]*?;\s*dur\s*=\s*\"?([0-9.eE+-]+)")


def _timing(response: Response) -> dict[str, float]:
    return {
        name: float(duration) for name, duration in _METRIC.findall(response.headers.get("server-timing", ""))
    }
