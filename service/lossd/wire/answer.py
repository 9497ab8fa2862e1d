"""Answers: the whole result as JSON, or the loss alone as a .npy file."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import orjson

from lossd.types import ErrorCode, Float64Array, LossResult, RequestError
from lossd.wire.json.writing import join_pieces, plain, write_value
from lossd.wire.report import write_report

SUMS: Final = ("sum", "weight_sum", "positives")
"""The sums of every answer, each of which also has terms."""

_MOST_EMPTY_LISTS: Final = 1 << 14  # a shape such as [2^40, 0] takes no bytes of a body

_LONGEST_LIST: Final = 16
"""The most numbers of a list in a header: three such lists take 1.2 kB."""
_CHUNK_NUMBERS: Final = 1 << 13  # about 160 KiB of text; 200 KiB at most

_NPY_NUMBERS: Final = 1 << 17
_DESCRIPTORS: Final[Mapping[str, str]] = {"float64": "<f8", "float32": "<f4"}


class JsonAnswers:
    """Writer of JSON answers to requests with equal parameters, which are encoded once.

    The answers are those of requests for one number.

    Args:
        params: The loss's own parameters.
        options: The parameters that all losses share.
        version: The service's version.
    """

    def __init__(self, params: Mapping[str, object], options: Mapping[str, object], version: str) -> None:
        self._params = orjson.Fragment(write_value(dict(params)))
        self._options = orjson.Fragment(write_value(dict(options)))
        self._version = version

    def write(self, result: LossResult, request_id: str) -> bytes:
        """Write a result as `write_json` does."""
        answer = _members(result, self._params, self._options, request_id, self._version)
        return orjson.dumps(answer if are_finite(result) else plain(answer))


def are_finite(result: LossResult) -> bool:
    """Return whether a result's loss, which is a number, and its sums are finite."""
    return math.isfinite(result.loss + result.sum + result.weight_sum + result.positives)


def write_json(result: LossResult, *, request_id: str, version: str) -> bytes:
    """Write a result as a JSON object.

    Args:
        result: The result.
        request_id: The request's id, which the logs have too.
        version: The service's version.

    Raises:
        RequestError: ``output_too_large``: the loss has no elements, but very many empty lists.
    """
    return b"".join(write_json_chunks(result, request_id=request_id, version=version))


def _members(
    result: LossResult, params: object, options: object, request_id: str, version: str
) -> dict[str, object]:
    return {
        "loss": result.loss,
        "reduction": result.reduction,
        "sum": result.sum,
        "count": result.count,
        "weight_sum": result.weight_sum,
        "positives": result.positives,
        "shape": result.shape,
        "loss_name": result.loss_name,
        "params": params,
        "sum_terms": result.sum_terms,
        "weight_sum_terms": result.weight_sum_terms,
        "positives_terms": result.positives_terms,
        "options": options,
        "notes": result.notes,
        "kernel": result.kernel,
        "device": result.device,
        "request_id": request_id,
        "version": version,
    }


def write_json_chunks(result: LossResult, *, request_id: str, version: str) -> Iterator[bytes]:
    """Write a result as a JSON object, in chunks of about 160 KiB, each written when it is asked for.

    The arguments and errors are those of `write_json`. Errors are raised by this call, not by the iterator.
    """
    loss = result.loss
    answer = _members(result, dict(result.params), dict(result.options), request_id, version)
    if not isinstance(loss, np.ndarray):
        return _write_members(b"{", answer, result)
    del answer["loss"]
    arrays = [(b'{"loss":', loss)]
    end = b","
    for name, planes in (("loss_terms", result.loss_terms), ("divisor_terms", result.divisor_terms)):
        for number, plane in enumerate(planes or ()):
            arrays.append((b"," if number else end + b'"%b":[' % name.encode(), plane))
            end = b"],"
    chunks: list[Iterable[bytes]] = []
    text = b""
    for before, array in arrays:
        text += before
        if array.size > _CHUNK_NUMBERS:
            chunks.append(_write_long_array(array, text))
            text = b""
        else:
            text += write_array(array)
    chunks.append(_write_members(text + end, answer, result))
    return itertools.chain.from_iterable(chunks)


def _write_members(before: bytes, answer: dict[str, object], result: LossResult) -> Iterator[bytes]:
    """Write the members of an answer that are short, and the report.

    Args:
        before: The text before them.
        answer: The short members.
        result: The result.
    """
    if result.report is None:
        is_finite = "loss" in answer and are_finite(result)
        return iter((before + (orjson.dumps(answer) if is_finite else write_value(answer))[1:],))
    request_id, version = str(answer.pop("request_id")), str(answer.pop("version"))
    pieces = itertools.chain(
        (before + write_value(answer)[1:-1] + b',"report":',),
        write_report(result, request_id=request_id, version=version),
        (b"," + write_value({"request_id": request_id, "version": version})[1:],),
    )
    return join_pieces(pieces)


def write_figures(result: LossResult) -> list[tuple[bytes, bytes]]:
    """Return the sums of an answer that is the loss alone, as headers; commas separate terms."""
    headers = [(b"lossd-count", b"%d" % result.count)]
    for name in SUMS:
        terms = list(map(_number, getattr(result, f"{name}_terms")))
        header = b"lossd-" + name.replace("_", "-").encode()
        headers += [(header, terms[0]), (header + b"-terms", b",".join(terms))]
    return headers


def _number(value: float) -> bytes:
    """Write a float64 so that it reads back to the same bits, or as Infinity, -Infinity or NaN."""
    text = repr(float(value))
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(text, text).encode()


def write_params(result: LossResult) -> bytes:
    """Return the parameters of an answer that is the loss alone, for a header: one ASCII JSON object.

    A long list is replaced by its length and the SHA-256 of its float64s.
    """
    params = {"reduction": result.reduction, **result.params, **result.options}
    short = {
        name: _shortened(value) if isinstance(value, list | tuple) else value
        for name, value in params.items()
    }
    return json.dumps(short, separators=(",", ":")).encode("ascii")


def _shortened(numbers: list[float] | tuple[float, ...]) -> object:
    if len(numbers) <= _LONGEST_LIST:
        return list(numbers)
    digest = hashlib.sha256(np.array(numbers, dtype="<f8").tobytes()).hexdigest()
    return {"length": len(numbers), "sha256": digest}


def write_npy(loss: float | Float64Array, dtype: str) -> tuple[int, Iterator[bytes]]:
    """Write the loss alone as a .npy file, of no dimensions if it is a number.

    Args:
        loss: The loss.
        dtype: ``float64``; or ``float32`` to round to the nearest, where numbers too large become infinite.

    Returns:
        The file's length, and the file in chunks, so that a large array is not copied as a whole.
    """
    array = np.asarray(loss, dtype=np.float64)
    header = _npy_header(array.shape, dtype)
    length = len(header) + array.size * np.dtype(dtype).itemsize
    return length, _npy_chunks(header, array.reshape(-1), dtype)


def _npy_chunks(header: bytes, flat: Float64Array, dtype: str) -> Iterator[bytes]:
    yield header + _rounded(flat[:_NPY_NUMBERS], dtype)
    for start in range(_NPY_NUMBERS, flat.size, _NPY_NUMBERS):
        yield _rounded(flat[start : start + _NPY_NUMBERS], dtype)


def _rounded(numbers: Float64Array, dtype: str) -> bytes:
    with np.errstate(over="ignore"):
        return numbers.astype(_DESCRIPTORS[dtype]).tobytes()


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Write a .npy file up to its elements, which must follow in C order, little-endian.

    Args:
        shape: The array's shape.
        dtype: ``float64`` or ``float32``.
    """
    header = io.BytesIO()
    fields = {"descr": _DESCRIPTORS[dtype], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def write_array(array: Float64Array) -> bytes:
    """Write nested arrays. orjson writes null for a number that is not finite; each null is then replaced."""
    contiguous = np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)
    # orjson does not support numpy arrays that are empty or have no dimensions.
    source = contiguous if contiguous.ndim and contiguous.size else _as_lists(contiguous)
    text = orjson.dumps(source, option=orjson.OPT_SERIALIZE_NUMPY)
    odd = contiguous[~np.isfinite(contiguous)].tolist()
    if not odd:
        return text
    parts = text.split(b"null")
    named = [orjson.dumps(plain(value)) for value in odd]
    return b"".join(part + name for part, name in zip(parts, [*named, b""], strict=True))


def _write_long_array(array: Float64Array, before: bytes) -> Iterator[bytes]:
    """Write long nested arrays behind a text, in chunks of at most `_CHUNK_NUMBERS` numbers."""
    # The lists along one axis are cut: the first axis whose items fit a chunk.
    sizes = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    axis = next(axis for axis, size in enumerate(sizes) if size <= _CHUNK_NUMBERS)
    outer, length = array.shape[:axis], array.shape[axis]
    parts = -(-length // (_CHUNK_NUMBERS // sizes[axis]))
    cuts = [length * part // parts for part in range(parts + 1)]
    before += b"[" * (axis + 1)
    for place in np.ndindex(*outer):
        for start, stop in itertools.pairwise(cuts):
            yield before + write_array(array[place][start:stop])[1:-1]
            before = b","
        # This list ends here, and so does each list around it whose last item it is.
        inner_first = zip(reversed(place), reversed(outer), strict=True)
        ended = 1 + sum(1 for _ in itertools.takewhile(lambda at: at[0] + 1 == at[1], inner_first))
        before = b"]" * ended + b"," + b"[" * ended
    yield b"]" * (axis + 1)


def _as_lists(array: Float64Array) -> object:
    lists = math.prod(itertools.takewhile(bool, array.shape))
    if array.size == 0 and lists > _MOST_EMPTY_LISTS:
        detail = f"the answer is {lists} empty lists; accept application/x-npy, or reduce"
        raise RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail)
    return array.tolist()
