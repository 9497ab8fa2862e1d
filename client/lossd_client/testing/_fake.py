"""A stand-in for the server, for tests of what uses the client: `LossClient(transport=FakeTransport)`.

It answers within the process, in numpy's float64, every request that the client makes but Arrow streams. Its
losses, and the figures of its reports, are the server's to about 1e-12 relative; it knows no keys, limits,
deadlines or load. What it refuses, it refuses with the server's status and code; the wording is its own.
"""

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import dtype_name, widened
from lossd_client._calls.loss import Losses as LossesOf
from lossd_client._calls.parameters import OPTIONS
from lossd_client._calls.shape_notes import BY_COUNT, notes_of
from lossd_client._http.media_types import JSON, NPY, PROBLEM
from lossd_client.testing._fake_losses import Elements, Losses, losses_of, mean_of
from lossd_client.testing._fake_report import Baseline, Scored, class_axis, report_of
from lossd_client.testing._fake_report_params import PARAMS as REPORT_PARAMS
from lossd_client.testing._fake_report_params import Asked, refuse_without_report
from lossd_client.testing._fake_table import LOSSES, FakeLoss
from lossd_client.testing._fake_tensors import Refused, axes_of
from lossd_client.timeout import Timeout
from lossd_client.transport import Request, Response

_SHARED: Final[Mapping[str, Any]] = {"reduction": "mean", **OPTIONS}
_WORDS: Final = {"reduction": ("none", "sum", "mean"), "targets_format": ("dense", "index")}
_MOST_SHOWN: Final = 1 << 15  # numbers of a pos_weight tensor
_SHOWN: Final = (
    "normalizer",
    "class_axis",
    "targets_format",
    "label_smoothing",
    "ignore_index",
    "background_index",
    "allow_nan",
    "pos_weight",
)
"""The options that a report shows, in the server's order."""
VERSION: Final = "fake"
_ONE_CLASS: Final = (
    "there is one class, whose id is 0, so every target that counts is positive; if these are 0/1 labels, "
    "leave targets_format out and send them in the inputs' shape, targets[:, None]"
)


class FakeTransport:
    """Answers the requests of a `LossClient`."""

    def send(self, request: Request, timeout: Timeout) -> Response:
        """Return the answer, whatever the timeout."""
        return answer(request)

    def close(self) -> None:
        """Do nothing."""


class AsyncFakeTransport:
    """Answers the requests of an `AsyncLossClient`."""

    async def send(self, request: Request, timeout: Timeout) -> Response:  # noqa: ASYNC109 - the seam's
        """Return the answer, whatever the timeout."""
        return answer(request)

    async def aclose(self) -> None:
        """Do nothing."""


def answer(request: Request) -> Response:
    """Return the answer to a request."""
    try:
        if request.path.endswith("/info"):
            return _of_json(request, {"version": VERSION, "losses": [], "limits": {}, "workers": []})
        if request.path.endswith("/readyz"):
            return _of_json(request, {})
        name = request.path.rpartition("/")[2]
        if name not in LOSSES:
            raise Refused("not_found", f"the fake has no {request.path}", status=404)
        if request.stream is not None:
            raise Refused(
                "unsupported_media_type", "the fake takes no streams: use score_batches", status=415
            )
        return _scored(request, name)
    except Refused as refused:
        return _problem(request, *refused.args)


def _scored(request: Request, name: str) -> Response:
    kind = LOSSES[name]
    params = _params(request, name, kind)
    with np.errstate(all="ignore"):
        tensors = _tensors(request)
        factors = tensors.pop("class_weight", None) if "class_weight" in kind.own else None
        if factors is not None:
            params["class_weight"] = _factors(factors, params)
        params["targets_dtype"] = dtype_name(tensors["targets"].dtype)
        if params["targets_format"] is None:
            inputs = next(tensors[each] for each in kind.entry.inputs if each in tensors)
            params["targets_format"] = "index" if tensors["targets"].ndim < inputs.ndim else "dense"
        per_class = params.get("per") == "class" and "class_axis" not in dict(request.query)
        elements = Elements.of(name, _widened(tensors), params)
        if per_class and len(elements.inputs_shape) > 2:
            raise _invalid("class_axis", "per=class needs class_axis, of more than two dimensions")
        found = losses_of(elements, params)
        asked = _asked(dict(request.query), elements, tensors, params)
        loss, terms = _reduced(found, params)
        figures = found.figures
    tensor = tensors.get("pos_weight")
    options = {key: _single(params[key]) for key in OPTIONS if key in {**kind.options, **kind.own}}
    if tensor is not None:
        options["pos_weight"] = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
    applied = {key: params[key] for key in kind.own if key not in OPTIONS}
    if factors is not None and asked is None:
        applied["class_weight"] = {"dtype": dtype_name(factors.dtype), "shape": list(factors.shape)}
    notes = _notes(elements, tensors, params, has_axis="class_axis" in dict(request.query))
    if asked is not None and elements.loss.entry.row == "classes":
        note = asked.note_of(elements.inputs_shape[params["class_axis"]])
        notes += [note] if note else []
    by_count = (params["reduction"] == "mean" or asked is not None) and params["normalizer"] == "count"
    if by_count and params["targets_format"] == "index" and params.get("class_weight") is not None:
        notes += [BY_COUNT]
    if elements.loss.entry.row == "classes" and params["targets_format"] == "dense":
        off = abs(figures["positives"] - figures["count"])
        notes += [_OTHER_TOTAL] if off > figures["count"] / 256 else []
    if asked is not None and request.headers.get("Accept") == NPY:
        raise Refused("not_acceptable", "a report comes as JSON alone", status=406)
    if request.headers.get("Accept") == NPY:
        headers = {f"lossd-{key.replace('_', '-')}": _header(value) for key, value in figures.items()}
        flat = {"reduction": params["reduction"], **applied, **options}
        headers["lossd-params"] = json.dumps({key: _shortened(value) for key, value in flat.items()})
        headers |= {"lossd-kernel": VERSION, "lossd-version": VERSION}
        headers |= {"lossd-notes": json.dumps(notes)} if notes else {}
        return _response(request, 200, NPY, _npy(loss), headers)
    about: dict[str, Any] = {
        "reduction": params["reduction"],
        "shape": list(elements.inputs_shape),
        "loss_name": name,
        "params": applied,
        "options": options,
        "notes": notes,
        "kernel": VERSION,
        "device": "cpu",
        "version": VERSION,
    }
    plain = {"loss": loss.tolist(), **figures, **terms}
    if asked is not None:
        shown: dict[str, Any] = {**applied, **{key: options[key] for key in _SHOWN if key in options}}
        if tensor is not None:
            shown["pos_weight"] = _shown_pos_weight(tensor, elements.shape, params["class_axis"])
        run = {"version": VERSION, "kernel": VERSION, "device": "cpu"}
        run["request_id"] = request.headers.get("X-Request-Id", "")
        with np.errstate(all="ignore"):
            baseline = _baseline(name, tensors, params)
            scored = Scored(name, tensors, elements, found, baseline, params, shown)
            about["report"] = _plain(report_of(asked, scored, run))
    return _of_json(request, {**{key: _plain(value) for key, value in plain.items()}, **about})


_ONE_SOFTMAX_CLASS: Final = (
    "there is one class, which softmax is always certain of; losses with one logit for each label, such as "
    "bce, are for 0/1 labels"
)
_OTHER_TOTAL: Final = (
    "targets do not add up to the number of rows; those of a row are probabilities of its classes, which add "
    "up to 1; several labels a row are for bce"
)


def _notes(
    elements: Elements, tensors: Mapping[str, NDArray[Any]], params: Mapping[str, Any], *, has_axis: bool
) -> list[str]:
    """Return the notes of tensors whose shapes could mean two things."""
    by_index = params["targets_format"] == "index"
    shapes = {key: array.shape for key, array in tensors.items()}
    notes = notes_of(
        shapes,
        elements.inputs_shape,
        LossesOf(elements.loss.entry, params),
        by_index=by_index,
        named=has_axis,
    )
    if elements.loss.entry.row == "classes" and elements.inputs_shape[params["class_axis"]] == 1:
        notes += [_ONE_SOFTMAX_CLASS]
    if by_index and params["background_index"] is None and not elements.loss.entry.row:
        notes += [_ONE_CLASS] if elements.shape[params["class_axis"]] == 1 else []
    return notes


def _shown_pos_weight(tensor: NDArray[Any], shape: tuple[int, ...], axis: int) -> object:
    """Return a tensor as a report's parameter, which is alike in reports of other rows."""
    own = tensor.shape
    along_rows = len(own) == len(shape) or (len(own) == 1 and class_axis(shape, axis) is None)
    if along_rows and own[0] > 1:
        return {"dtype": dtype_name(tensor.dtype), "shape": list(own[1:])}
    numbers = widened(tensor).astype("<f8")
    if len(own) > 1 or numbers.size > _MOST_SHOWN:
        return {"shape": list(own), "sha256": sha256(numbers.tobytes()).hexdigest()}
    return numbers.item() if numbers.size == 1 else numbers.tolist()


def _widened(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: widened(array) for name, array in tensors.items()}


def _asked(
    query: Mapping[str, str],
    elements: Elements,
    tensors: Mapping[str, NDArray[Any]],
    params: Mapping[str, Any],
) -> Asked | None:
    """Return what is asked of a report; None without one."""
    if "report" not in query:
        refuse_without_report(query, tensors)
        return None
    if params.get("per", "sample") != "sample":
        raise Refused("invalid_parameter", "a report is of samples, and not per class or all", "/per")
    shape, inputs = elements.shape, elements.inputs_shape
    for name, fits in (("groups", shape[:1]), ("ids", shape[:1]), ("baseline", inputs)):
        if name in tensors and tensors[name].shape[: len(fits)] != fits:
            raise Refused("shape_mismatch", f"{name} {tensors[name].shape} does not fit {shape}", f"/{name}")
    has_classes = elements.loss.entry.row == "classes" or class_axis(shape, params["class_axis"]) is not None
    return Asked.of(query, elements.loss, tensors, has_classes=has_classes)


def _baseline(loss: str, tensors: Mapping[str, NDArray[Any]], params: Mapping[str, Any]) -> Baseline | None:
    """Return what the other model's inputs have; None without them."""
    if "baseline" not in tensors:
        return None
    kind = next(each for each in LOSSES[loss].entry.inputs if each in tensors)
    try:
        elements = Elements.of(loss, _widened({**tensors, kind: tensors["baseline"]}), params)
        return Baseline(elements, losses_of(elements, params))
    except Refused as refused:
        code, detail, pointer, status = refused.args
        raise Refused(code, detail, pointer.replace(f"/{kind}", "/baseline"), status) from None


def _reduced(found: Losses, params: Mapping[str, Any]) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return the loss, and its terms by name where rows are summed and other axes stay."""
    if params["reduction"] == "none":
        return found.each, {}
    axes = axes_of(params["axis"], found.each.ndim)
    planes = {
        "loss_terms": found.sums(axes),
        "divisor_terms": found.divisors(axes, params["normalizer"]),
    }
    loss = planes["loss_terms"][0]
    if params["reduction"] == "mean":
        loss = mean_of(loss, planes["divisor_terms"][0], params["normalizer"])
    if 0 not in axes or len(axes) == found.each.ndim:
        return loss, {}
    return loss, {name: [plane.tolist() for plane in each] for name, each in planes.items()}


def _header(value: float | list[float]) -> str:
    return ",".join(map(repr, value)) if isinstance(value, list) else repr(value)


def _factors(tensor: NDArray[Any], params: Mapping[str, Any]) -> list[float]:
    """Return a tensor of class weights as the list in its place."""
    if params["class_weight"] is not None:
        raise _invalid("class_weight", "class_weight is given both as a tensor and as a parameter")
    numbers: list[float] = widened(tensor).astype(np.float64).tolist()
    wrong = [place for place, number in enumerate(numbers) if not 0 <= number < math.inf]
    if wrong:
        raise Refused("weight_out_of_range", "a class_weight is out of range", f"/class_weight/{wrong[0]}")
    return numbers


def _single(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _shortened(value: object) -> object:
    if not isinstance(value, list) or len(value) <= 16:
        return value
    return {"length": len(value), "sha256": sha256(np.asarray(value, dtype="<f8").tobytes()).hexdigest()}


def _params(request: Request, name: str, loss: FakeLoss) -> dict[str, Any]:
    known = {"reduction", *loss.options, *loss.own}
    params = {**_SHARED, **loss.own}
    for key, text in request.query:
        if key in ("tensors", *REPORT_PARAMS):
            continue
        if key not in known:
            raise _invalid(key, f"{name} has no parameter {key}")
        try:
            params[key] = json.loads(text)
        except ValueError:
            params[key] = text
    for key, words in {**_WORDS, **loss.words}.items():
        if params[key] not in words and (params[key] is not None or key != "targets_format"):
            raise _invalid(key, f"{key} must be one of {', '.join(words)}")
    _check_numbers(params, loss)
    _check_index(params)
    if params["reduction"] == "none":
        for key in ("axis", "normalizer"):
            if params[key] != _SHARED[key]:
                raise _invalid(key, f"reduction=none does not go with {key}")
    return {**params, "row": loss.entry.row}


def _invalid(name: str, detail: str) -> Refused:
    return Refused("invalid_parameter", detail, f"/{name}")


def _check_numbers(params: Mapping[str, Any], loss: FakeLoss) -> None:
    normalizer = params["normalizer"]
    for name in ("axis", *loss.limits):
        if params[name] == []:
            raise _invalid(name, f"{name} is an empty list")
    fits = {
        "label_smoothing": 0 <= params["label_smoothing"] < 1,
        "normalizer": normalizer in loss.entry.normalizers
        or (isinstance(normalizer, float) and 0 < normalizer < math.inf),
    }
    for name, (low, high) in loss.limits.items():
        values = params[name] if isinstance(params[name], list) else [params[name]]
        fits[name] = all(value is None or low <= value <= high for value in values)
    for name, fit in fits.items():
        if not fit:
            raise _invalid(name, f"{name} is {params[name]}, which is out of range")


def _check_index(params: Mapping[str, Any]) -> None:
    background, ignored = params["background_index"], params["ignore_index"]
    if ignored is not None and not isinstance(ignored, int | float) and ignored != "nan":
        raise _invalid("ignore_index", f"ignore_index is {ignored!r}, which is no number, nan or null")
    if background is None:
        return
    if abs(background) >= 2**53:
        raise _invalid("background_index", f"background_index is {background}, which is out of range")
    if params["targets_format"] != "index":
        raise _invalid("background_index", "background_index is for index targets")
    if background == ignored:
        raise _invalid("background_index", "background_index equals ignore_index")


def _tensors(request: Request) -> dict[str, NDArray[Any]]:
    stream = BytesIO(b"".join(request.body))
    names = dict(request.query)["tensors"].split(",")
    return {name: np.lib.format.read_array(stream, allow_pickle=False) for name in names}


def _npy(loss: NDArray[np.float64]) -> bytes:
    body = BytesIO()
    np.lib.format.write_array(body, loss, allow_pickle=False)
    return body.getvalue()


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _of_json(request: Request, value: Mapping[str, Any], status: int = 200, kind: str = JSON) -> Response:
    document = {**value, "request_id": request.headers.get("X-Request-Id")}
    return _response(request, status, kind, json.dumps(document).encode(), {})


def _problem(request: Request, code: str, detail: str, pointer: str, status: int) -> Response:
    problem: dict[str, Any] = {"type": "about:blank", "title": code, "status": status, "detail": detail}
    problem |= {"code": code, "retryable": False}
    if pointer:
        problem["errors"] = [{"pointer": pointer, "detail": detail}]
    return _of_json(request, problem, status, PROBLEM)


def _response(request: Request, status: int, kind: str, body: bytes, headers: Mapping[str, str]) -> Response:
    own = {"content-type": kind, "x-request-id": request.headers.get("X-Request-Id", "")}
    return Response(status, {**own, **headers}, body)
