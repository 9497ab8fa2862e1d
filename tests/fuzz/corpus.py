"""Valid bodies of every format, by other writers: numpy, pyarrow, json, orjson, httpx, Triton's client."""

from __future__ import annotations

import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

import httpx
import ml_dtypes
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from tritonclient.http import InferenceServerClient, InferInput  # type: ignore[import-untyped]
from tritonclient.utils import np_to_triton_dtype  # type: ignore[import-untyped]

from wire.feeding import BOUNDARY, AnyArray, npy

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A body with its request's headers and query.

    Attributes:
        name: Its name in reports.
        format: ``json``, ``npy``, ``npz``, ``multipart``, ``arrow`` or ``v2``.
        body: The body as sent.
        loss: The requested loss.
        query: The query before percent-encoding.
        coding: The Content-Encoding.
        header_length: Inference-Header-Content-Length.
    """

    name: str
    format: str
    body: bytes
    loss: str = "bce"
    query: bytes = b""
    coding: str | None = None
    header_length: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A request in no particular format.

    Attributes:
        name: Its name in reports.
        tensors: The arrays by name; bfloat16 with ml_dtypes.
        params: Plain JSON values.
        loss: The requested loss.
    """

    name: str
    tensors: Mapping[str, AnyArray]
    params: Mapping[str, object] = field(default_factory=dict)
    loss: str = "bce"


def cases() -> Iterator[Case]:
    """Yield small requests that together have every dtype, tensor and parameter."""
    random = np.random.default_rng(7)

    def floats(*shape: int, dtype: npt.DTypeLike = np.float32) -> AnyArray:
        return np.round(random.normal(0, 3, shape), 3).astype(dtype)

    def hard(*shape: int, dtype: npt.DTypeLike = np.uint8) -> AnyArray:
        return random.integers(0, 2, shape).astype(dtype)

    integers = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    for name in ("bool", *integers, "float16", "float32", "float64"):
        yield Case(f"{name} targets", {"logits": floats(3, 2), "targets": hard(3, 2, dtype=name)})
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        tensors = {"logits": floats(2, 3, dtype=dtype), "targets": hard(2, 3, dtype=dtype)}
        yield Case(f"{np.dtype(dtype).name} logits", tensors)
    yield Case(
        "all tensors",
        {
            "logits": floats(4, 3),
            "targets": random.random((4, 3)),
            "weight": random.random((4, 1)),
            "pos_weight": random.random(3).astype(np.float32),
            "mask": hard(4, 3, dtype=bool),
        },
        {"gamma": 2, "alpha": None, "label_smoothing": 0.1, "normalizer": "weight"},
        "focal",
    )
    yield Case(
        "probabilities",
        {"probabilities": random.random(5), "targets": random.random(5), "mask": hard(5)},
        {"variant": "quality", "gamma": 1.5, "reduction": "sum"},
        "focal",
    )
    yield Case(
        "class ids",
        {"logits": floats(4, 3), "targets": np.array([0, 2, -1, 1])},
        {"targets_format": "index", "ignore_index": -1, "class_axis": -1, "alpha": [0.1, 0.5, 1.0]},
        "focal",
    )
    yield Case("an axis", {"logits": floats(4, 3), "targets": hard(4, 3)}, {"axis": 1, "normalizer": 2.5})
    yield Case(
        "axes",
        {"logits": floats(2, 3, 2), "targets": hard(2, 3, 2)},
        {"axis": [0, -1], "normalizer": "positives"},
    )
    yield Case("every element", {"logits": floats(7), "targets": hard(7)}, {"reduction": "none"})
    yield Case(
        "NaN and infinity",
        {"logits": np.array([np.nan, np.inf, -np.inf]), "targets": hard(3)},
        {"allow_nan": True},
    )
    yield Case(
        "partly labelled",
        {
            "logits": np.array([[np.inf, 1.5], [-2.0, -np.inf]]),
            "targets": np.array([[1.0, np.nan], [0.0, 0.0]]),
            "weight": np.array([[1], [3]], dtype=np.uint16),
        },
        {"ignore_index": "nan"},
    )
    yield Case("no rows", {"logits": floats(0, 3), "targets": hard(0, 3)}, {"reduction": "sum"})
    yield Case(
        "8 dimensions", {"logits": floats(1, 2, 1, 1, 2, 1, 1, 1), "targets": hard(1, 2, 1, 1, 2, 1, 1, 1)}
    )
    two = {"logits": floats(5, 3), "targets": hard(5, 3)}
    ids = {"ids": np.arange(5) * 7 - 9}
    groups = {"groups": np.array([[1, 2], [1, 3], [-1, 2], [1, 2], [1, 3]]), "baseline": floats(5, 3)}
    yield Case("worst by class", {**two, **ids}, {"report": "classes,top", "top": 3})
    yield Case(
        "a whole report",
        {**two, **ids, **groups},
        {"report": "all", "row": "mean", "calibration_bins": 7, "first_row": 40, "sweep": "gamma:0,1.5"},
        "focal",
    )
    names = {"report": "groups,paired", "group_names": ["camera", "day"]}
    yield Case("groups and a baseline", {**two, **groups}, names)
    yield Case("many", {"logits": floats(60, 8), "targets": hard(60, 8), "weight": random.random((60, 1))})


def large_cases() -> Iterator[Case]:
    """Yield requests whose documents are long enough for the JSON helper."""
    logits = np.random.default_rng(8).normal(0, 3, (120, 120))
    yield Case("large", {"logits": logits, "targets": logits > 0}, {"gamma": 2, "alpha": None}, "focal")
    ids = np.arange(120)
    yield Case("large, class ids", {"logits": logits, "targets": ids}, {"targets_format": "index", "axis": 1})


def swapped(case: Case) -> Case:
    """Return the same request with Fortran-ordered, big-endian arrays."""
    tensors = {
        name: np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))
        for name, array in case.tensors.items()
    }
    return replace(case, name=f"{case.name}, swapped", tensors=tensors)


def query(params: Mapping[str, object]) -> bytes:
    """Write parameters as a query."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in params.items()
    }
    return "&".join(f"{name}={text}" for name, text in texts.items()).encode()


def spelled(value: Any, *, null: bool = False) -> Any:  # noqa: ANN401 -- numbers, in lists or not
    """Return numbers with strings for special ones; a NaN may be null."""
    if isinstance(value, list):
        return [spelled(item, null=null) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return (
            None if null and np.isnan(value) else str(value).replace("inf", "Infinity").replace("nan", "NaN")
        )
    return value


def json_samples(case: Case) -> Iterator[Sample]:
    tensors = {name: spelled(array.tolist()) for name, array in case.tensors.items()}
    document = {**tensors, **case.params}
    yield Sample(f"{case.name}, json", "json", json.dumps(document).encode(), case.loss)
    yield Sample(f"{case.name}, orjson", "json", orjson.dumps(document), case.loss)
    if case.name == "partly labelled":
        nulls = {**document, "targets": spelled(case.tensors["targets"].tolist(), null=True)}
        yield Sample(f"{case.name}, null", "json", json.dumps(nulls).encode(), case.loss)
    if case.name in ("all tensors", "partly labelled"):
        yield Sample(f"{case.name}, indented", "json", json.dumps(document, indent=1).encode(), case.loss)


def npy_samples(case: Case) -> Iterator[Sample]:
    names = ",".join(case.tensors)
    body = b"".join(npy(array) for array in case.tensors.values())
    yield Sample(case.name, "npy", body, case.loss, query({"tensors": names, **case.params}))


def npz_samples(case: Case) -> Iterator[Sample]:
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **case.tensors)  # type: ignore[arg-type]  # allow_pickle is not among the names
        name = f"{case.name}, {save.__name__}"
        yield Sample(name, "npz", file.getvalue(), case.loss, query(case.params))
        if case.name == "all tensors":
            others = {"meta": np.array({"epoch": 3}, dtype=object), "names": np.array(["cat", "dog"])}
            file = io.BytesIO()
            save(file, **others, **case.tensors)  # type: ignore[arg-type]  # as above
            yield Sample(f"{name}, others", "npz", file.getvalue(), case.loss, query(case.params))


def multipart_samples(case: Case) -> Iterator[Sample]:
    files = {name: (f"{name}.npy", npy(array)) for name, array in case.tensors.items()}
    data = {"params": json.dumps(case.params)} if case.params else {}
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    request = httpx.Request("POST", "http://localhost", files=files, data=data, headers=headers)
    yield Sample(case.name, "multipart", request.read(), case.loss)
    if case.params:
        texts = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in case.params.items()
        }
        request = httpx.Request("POST", "http://localhost", files=files, data=texts, headers=headers)
        body = b"A preamble.\r\n" + request.read() + b"And an epilogue."
        yield Sample(f"{case.name}, fields", "multipart", body, case.loss)


def arrow_samples(case: Case) -> Iterator[Sample]:
    tensors = dict(case.tensors)
    params = dict(case.params)
    if "pos_weight" in tensors:
        params["pos_weight"] = tensors.pop("pos_weight").tolist()
    if max(array.ndim for array in tensors.values()) > 2 or params.get("axis") == 0:
        return
    table = pa.table([column(array) for array in tensors.values()], schema=schema(tensors))
    for rows in (2, 1000):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
        yield Sample(f"{case.name}, by {rows}", "arrow", sink.getvalue(), case.loss, query(params))


def report_samples() -> Iterator[Sample]:
    """Yield Arrow streams with columns that no other format has: strings, and dictionaries that grow."""
    texts = ["cam_1", "", "cam_2", "cam_1", "é" * 20, "a string longer than a view", "cam_2"]
    numbers = {"logits": pa.array(np.linspace(-2, 2, 7)), "targets": pa.array(np.linspace(0, 1, 7))}
    asked = b"report=groups,top&top=3"
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        plain = pa.array(texts, kind)
        ids = pa.array([f"{number}{text}" for number, text in enumerate(texts)], kind)
        table = pa.table({"group.camera": plain, **numbers, "ids": ids})
        yield Sample(f"{kind} columns", "arrow", _arrow(table.to_batches(4)), query=asked)
    indices = pa.array([0, 1, 2, 0, 3, 4, 2], pa.uint8())
    entries = pa.array(list(dict.fromkeys(texts)))
    days = pa.array([5, 5, 2**40, -3, 5, 9, -3])
    batches = []
    for start in range(0, 7, 3):
        known = int(np.max(indices[: start + 3])) + 1
        cameras = pa.DictionaryArray.from_arrays(indices[start : start + 3], entries[:known])
        columns: dict[str, Any] = {name: each[start : start + 3] for name, each in numbers.items()}
        columns |= {"group.camera": cameras, "group.day": days[start : start + 3].dictionary_encode()}
        batches.append(pa.record_batch(columns))
    for deltas in (False, True):
        body = _arrow(batches, emit_dictionary_deltas=deltas)
        name = f"dictionaries that {'grow' if deltas else 'are replaced'}"
        yield Sample(name, "arrow", body, query=b"report=groups,top")


def _arrow(batches: Sequence[pa.RecordBatch], *, emit_dictionary_deltas: bool = False) -> bytes:
    """Write batches as a stream."""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=emit_dictionary_deltas)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def column(array: AnyArray) -> pa.Array[Any]:
    """Return an array as a column of numbers, or of lists where a row has several."""
    numbers = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
    flat = pa.array(numbers.reshape(-1))
    plain = array.ndim == 1 or array.shape[1] == 1
    return flat if plain else pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def schema(tensors: Mapping[str, AnyArray]) -> pa.Schema:
    """Return the schema, with metadata for bfloat16."""
    fields = []
    for name, array in tensors.items():
        metadata = {"lossd.dtype": "bfloat16"} if array.dtype == ml_dtypes.bfloat16 else None
        fields.append(pa.field(name, column(array).type, metadata=metadata))
    return pa.schema(fields)


def v2_samples(case: Case, *, binary: bool) -> Iterator[Sample]:
    half = any(array.dtype.itemsize == 2 and array.dtype.kind in "fV" for array in case.tensors.values())
    finite = all(np.isfinite(array).all() for array in case.tensors.values())
    if not binary and not finite:
        yield _special_in_v2(case)
    if not binary and (half or not finite):  # Triton's client does not write these as JSON
        return
    inputs = []
    for name, array in case.tensors.items():
        made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(made.set_data_from_numpy(array, binary_data=binary))
    params = {
        name: json.dumps(value) if value is None or isinstance(value, list) else value
        for name, value in case.params.items()
    }
    body, length = InferenceServerClient.generate_request_body(inputs, request_id="r", parameters=params)
    yield Sample(case.name, "v2", body, case.loss, header_length=length)


def _special_in_v2(case: Case) -> Sample:
    """Return an inference request with strings for special numbers."""
    inputs = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": np_to_triton_dtype(array.dtype),
            "data": spelled(array.tolist(), null=name == "targets"),
        }
        for name, array in case.tensors.items()
    ]
    body = json.dumps({"inputs": inputs, "parameters": {**case.params, "content_type": "np"}}).encode()
    return Sample(f"{case.name}, special numbers", "v2", body, case.loss)


def coded_samples(coding: str, samples: Sequence[Sample]) -> Iterator[Sample]:
    for sample in samples:
        if sample.format != "v2" or coding != "zstd":  # the protocol does not have it
            name = f"{sample.format}, {sample.name}, {coding}"
            yield replace(sample, name=name, body=CODINGS[coding](sample.body), coding=coding)


@cache
def corpus() -> Mapping[str, tuple[Sample, ...]]:
    """Return the bodies by kind.

    The kinds are the formats, v2 with binary tensors, the codings, bodies with a query, and large documents.
    """
    plain = list(cases())
    both = plain + [swapped(case) for case in plain if "bfloat16" not in case.name]
    kinds = {
        "json": [sample for case in plain for sample in json_samples(case)],
        "npy": [sample for case in both for sample in npy_samples(case)],
        "npz": [sample for case in both for sample in npz_samples(case)],
        "multipart": [sample for case in both for sample in multipart_samples(case)],
        "arrow": [*(sample for case in plain for sample in arrow_samples(case)), *report_samples()],
        "v2": [sample for case in plain for sample in v2_samples(case, binary=False)],
        "v2-binary": [sample for case in plain for sample in v2_samples(case, binary=True)],
    }
    every = [sample for samples in kinds.values() for sample in samples]
    return {
        **{kind: tuple(samples) for kind, samples in kinds.items()},
        **{coding: tuple(coded_samples(coding, every[::3])) for coding in CODINGS},
        "query": tuple(sample for sample in every if sample.query),
        "large": tuple(sample for case in large_cases() for sample in json_samples(case)),
    }
