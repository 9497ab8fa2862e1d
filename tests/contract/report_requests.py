"""Requests for reports, with every section under every parameter, and how each form of body carries them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import httpx
import ml_dtypes
import numpy as np
import pyarrow as pa

from report_reference import SECTIONS, Array, Document, Ids, Request

ALL: Final = tuple(section for section in SECTIONS if section != "totals")
PLAIN: Final = ("classes", "top", "histogram", "calibration")
"""The sections that need no further tensor or parameter."""

RNG = np.random.default_rng(19)
ROWS, CLASSES = 23, 5
SHAPE = (ROWS, CLASSES)
X = RNG.normal(0, 4, SHAPE).astype(np.float32)
OTHER = (X + RNG.normal(0, 1, SHAPE) * (RNG.random(SHAPE) < 0.8)).astype(np.float32)  # some are equal
HARD = (RNG.random(SHAPE) < 0.3).astype(np.uint8)
SOFT = np.where(RNG.random(SHAPE) < 0.5, RNG.random(SHAPE), HARD).astype(np.float32)
WEIGHT = np.round(RNG.random(SHAPE), 2) * (RNG.random(SHAPE) < 0.9)
MASK = (RNG.random(SHAPE) < 0.8) & (np.arange(ROWS) % 7 != 3)[:, None]  # every seventh row is dropped
CAMERA = RNG.integers(0, 4, ROWS)
CAMERA[np.arange(ROWS) % 7 == 3] = 9  # a group of dropped rows alone
WEATHER = RNG.integers(-2, 1, ROWS).astype(np.int8)
IDS = RNG.permutation(ROWS) + 1000
CLASS_IDS = RNG.integers(-1, CLASSES + 1, ROWS)  # -1 is ignored, the last is the background
INDEX: Final = {"targets_format": "index", "ignore_index": -1, "background_index": CLASSES}
MANY: Final[dict[str, Ids]] = {"camera": CAMERA, "weather": WEATHER}

STRINGS: Final = [f"{'é' if row % 3 else 'z'}{row % 5}" for row in range(ROWS)]
NAMES: Final = [f"img/{row * 7 % ROWS:03}.jpg" for row in range(ROWS)]

EVERYTHING = Request(
    loss="focal",
    inputs=X,
    targets=SOFT,
    weight=WEIGHT,
    mask=MASK,
    groups=MANY,
    ids=IDS,
    baseline=OTHER,
    params={"gamma": 2.0, "alpha": 0.75, "label_smoothing": 0.125, "pos_weight": [1.0, 0.5, 2.0, 0.0, 3.0]},
    sections=ALL,
    top=7,
    bins=16,
    gammas=(0.0, 0.5, 1.0, 2.0, 2.75),
)
"""A request for all sections, with all tensors."""


def _infinite() -> Array:
    x = X.copy()
    x[2, 1], x[4, 0], x[5] = np.inf, -np.inf, [np.inf, -np.inf, np.inf, 0.0, -0.0]
    return x


def _nan(array: Array, *places: tuple[int, int]) -> Array:
    found = array.copy()
    for place in places:
        found[place] = np.nan
    return found


def _middle() -> Request:
    rng = np.random.default_rng(3)
    x, y = rng.normal(0, 3, (7, 3, 4)), rng.random((7, 3, 4))
    return Request(
        loss="focal",
        inputs=x,
        targets=y.astype(np.float16),
        baseline=x + rng.normal(size=x.shape),
        groups={"camera": np.array([3, 1, 3, 2, 1, 1, 3])},
        params={"class_axis": 1, "alpha": [0.25, 0.5, 1.0], "pos_weight": [1.0, 2.0, 0.5]},
        sections=ALL,
        gammas=(1.5, 0.0),
        bins=5,
        top=4,
    )


HALF = X.astype(np.float16)
HALF[0, :4] = [0.0, -0.0, np.inf, -np.inf]
P = (1 / (1 + np.exp(-X.astype(np.float64)))).astype(np.float32)
P_OTHER = np.clip(P + RNG.normal(0, 0.1, SHAPE), 0.001, 0.999).astype(np.float16)
EDGES = P.copy()
EDGES[:2] = [0.0, 1.0, 0.5, 0.25, 1.0]
GREAT = np.array([2**53 + 1, -(2**53) - 1, 2**53, -(2**63), -(2**53)])

CASES: Final[dict[str, Request]] = {
    "plain": Request(inputs=X, targets=HARD, sections=PLAIN),
    "totals alone": Request(loss="focal", inputs=X, targets=SOFT),
    "everything": EVERYTHING,
    "means of rows": replace(EVERYTHING, row="mean", first_row=1000),
    "by index": replace(EVERYTHING, ids=None, first_row=2**40, groups={"group": CAMERA}),
    "no classes": replace(EVERYTHING, sections=tuple(name for name in ALL if name != "classes")),
    "groups alone": replace(EVERYTHING, baseline=None, ids=None, sections=("groups",), gammas=()),
    "pairs alone": replace(EVERYTHING, groups=None, ids=None, sections=("paired",), gammas=()),
    "weights": Request(
        inputs=X, targets=HARD, weight=WEIGHT, sections=PLAIN, params={"normalizer": "weight"}
    ),
    "weights by row": replace(
        EVERYTHING, weight=np.arange(ROWS)[:, None], params={"normalizer": "weight", "gamma": 0.0}
    ),
    "positives": replace(EVERYTHING, weight=None, params={"normalizer": "positives", "alpha": None}),
    "a number": replace(EVERYTHING, params={"normalizer": 12.5}, bins=2),
    "sums": replace(EVERYTHING, params={"reduction": "sum", "normalizer": "weight"}, bins=100),
    "missing targets": Request(
        inputs=X,
        targets=_nan(SOFT, (0, 0), (3, 2), (22, 4)),
        mask=MASK.astype(np.int64),
        params={"ignore_index": "nan"},
        sections=PLAIN,
        top=200,
    ),
    "ignored targets": Request(
        inputs=X,
        targets=np.where(X > 5, 255, HARD).astype(np.int32),
        params={"ignore_index": 255},
        sections=PLAIN,
        row="mean",
        top=1,
    ),
    "class ids": Request(
        loss="focal",
        inputs=X,
        targets=CLASS_IDS,
        sections=ALL,
        groups={"group": WEATHER},
        baseline=OTHER,
        params={**INDEX, "label_smoothing": 0.25},
        gammas=(2.0,),
        ids=IDS.astype(np.uint16),
    ),
    "class axis in the middle": _middle(),
    "class ids in the middle": replace(
        _middle(),
        targets=np.array([[0, 1, 2, -1]] * 7),
        params={"class_axis": -2, "targets_format": "index", "ignore_index": -1},
    ),
    "one dimension": Request(
        inputs=X[:, 0],
        targets=SOFT[:, 0],
        groups={"group": CAMERA},
        baseline=OTHER[:, 0],
        ids=IDS,
        sections=("groups", "top", "histogram", "calibration", "sweep", "paired"),
        top=5,
    ),
    "one row": Request(inputs=X[:1], targets=HARD[:1], sections=PLAIN),
    "no rows": Request(inputs=X[:0], targets=HARD[:0], sections=PLAIN, params={"reduction": "sum"}),
    "no elements": Request(inputs=X[:, :0], targets=HARD[:, :0], sections=PLAIN, params={"reduction": "sum"}),
    "all dropped": replace(EVERYTHING, mask=np.zeros((ROWS, 1), bool), params={"reduction": "sum"}),
    "probabilities": replace(EVERYTHING, inputs=P, baseline=P_OTHER, kind="probabilities"),
    "probabilities, bce": Request(
        inputs=EDGES,
        targets=HARD,
        kind="probabilities",
        baseline=P.astype(np.float64) ** 2,
        sections=("classes", "calibration", "sweep", "paired", "top"),
        bins=4096,
    ),
    "infinite logits": Request(
        inputs=_infinite(),
        targets=HARD,
        baseline=np.where(np.arange(CLASSES) % 2, _infinite(), -_infinite()),
        sections=("classes", "groups", "top", "histogram", "calibration", "paired"),
        groups={"group": CAMERA},
        top=200,
    ),
    "NaN": Request(
        loss="focal",
        inputs=_nan(X, (0, 1), (8, 3)),
        targets=_nan(SOFT, (1, 0), (8, 3)),
        weight=_nan(WEIGHT, (2, 2)),
        baseline=_nan(OTHER, (1, 1), (20, 0)),
        groups={"group": CAMERA},
        ids=IDS,
        params={"allow_nan": True},
        sections=("classes", "groups", "top", "histogram", "calibration", "paired"),
        bins=8,
    ),
    "beyond float64": Request(
        inputs=X,
        targets=HARD,
        weight=np.array([1e308, 1e200, 1e-320, 1.0])[CAMERA % 4][:, None],
        groups={"group": CAMERA % 4},
        sections=("classes", "groups", "top", "histogram"),
        params={"normalizer": "weight"},
    ),
    "exact, float16": Request(inputs=HALF, targets=HARD, bins="exact", sections=PLAIN, mask=MASK),
    "exact, bfloat16": Request(
        loss="focal",
        inputs=X.astype(ml_dtypes.bfloat16),
        targets=SOFT.astype(ml_dtypes.bfloat16),
        bins="exact",
        sections=("calibration",),
    ),
    "exact, probabilities": Request(
        inputs=P_OTHER, targets=HARD, kind="probabilities", bins="exact", sections=("calibration", "top")
    ),
    "great ids": Request(
        inputs=X[:5],
        targets=HARD[:5],
        groups={"group": GREAT},
        ids=GREAT.view(np.uint64),
        sections=("groups", "top"),
        top=3,
    ),
    "a tensor of pos_weights": replace(
        EVERYTHING, pos_weight=np.array([1.0, 2.0, 0.5, 0.0, 1.0], np.float32), params={"gamma": 3.0}
    ),
    "pos_weights of elements": Request(inputs=X, targets=HARD, pos_weight=SOFT + 1, sections=("classes",)),
    "pos_weights as in torch": replace(
        _middle(), pos_weight=np.array([[1.0], [2.0], [0.5]]), params={"class_axis": 1}
    ),
    "sweep of bce": Request(
        inputs=X,
        targets=SOFT,
        weight=WEIGHT,
        mask=MASK,
        params={"pos_weight": [1.0, 2.0, 0.5, 0.0, 3.0]},
        sections=("classes", "sweep"),
    ),
    "sweep of sigmoid": Request(
        loss="focal",
        inputs=_infinite(),
        targets=HARD,
        sections=("sweep",),
        gammas=(0.0, 1.0, 1.5, 2.0, 3.0),
        params={"alpha": None},
    ),
    "sweep of quality": Request(
        loss="focal",
        inputs=X,
        targets=SOFT,
        sections=("classes", "sweep"),
        gammas=(2.0, 0.0, 1000.0, 1.0),
        params={"variant": "quality"},
    ),
    "sweep of exp": Request(
        loss="focal",
        inputs=X,
        targets=SOFT,
        weight=WEIGHT,
        sections=("classes", "sweep"),
        gammas=(0.0, 1.0, 2.5),
        params={"variant": "exp", "pos_weight": 1.5, "label_smoothing": 0.1},
    ),
}
"""Requests by what is special about each."""

for _dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
    CASES[f"dtype {np.dtype(_dtype).name}"] = replace(
        EVERYTHING,
        inputs=X.astype(_dtype),
        targets=SOFT.astype(_dtype),
        weight=WEIGHT.astype(_dtype),
        baseline=OTHER.astype(_dtype),
    )
for _name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"):
    CASES[f"dtype {_name}"] = Request(
        inputs=X,
        targets=HARD.astype(_name),
        weight=(HARD + 1).astype(_name),
        mask=MASK.astype(_name),
        groups={"group": CAMERA.astype(_name)},
        ids=np.arange(ROWS)[::-1].astype(_name),
        sections=("groups", "top"),
        top=3,
    )
CASES["dtype bool"] = Request(inputs=X, targets=HARD.astype(bool), mask=MASK, sections=PLAIN)


def rows_of(request: Request, rows: list[int]) -> Request:
    """A request for some of the rows."""

    def some(array: Array | None) -> Array | None:
        return None if array is None else array[rows]

    def broadcast(array: Array | None) -> Array | None:
        return None if array is None else np.broadcast_to(array, request.inputs.shape)[rows]

    k = request.pos_weight
    groups = {name: np.asarray(column)[rows] for name, column in (request.groups or {}).items()}
    return replace(
        request,
        inputs=request.inputs[rows],
        targets=request.targets[rows],
        weight=broadcast(request.weight),
        mask=broadcast(request.mask),
        pos_weight=some(k) if k is not None and k.ndim == request.inputs.ndim else k,
        groups=groups or None,
        ids=None if request.ids is None else np.asarray(request.ids)[rows],
        baseline=some(request.baseline),
    )


# Bodies

FORMS: Final = (
    "json",
    "npy",
    "npz",
    "multipart",
    "multipart with params",
    "arrow",
    "arrow chunked",
    "v2 json",
    "v2",
)
_ARROW: Final = "application/vnd.apache.arrow.stream"


def tensors_of(request: Request) -> dict[str, Array]:
    """The tensors of a request by name; columns of groups as one tensor."""
    found: dict[str, Array | None] = {
        request.kind: request.inputs,
        "targets": request.targets,
        "weight": request.weight,
        "mask": request.mask,
        "pos_weight": request.pos_weight,
        "groups": None,
        "ids": _integers(request.ids),
        "baseline": request.baseline,
    }
    if request.groups is not None:
        columns = list(map(_integers, request.groups.values()))
        found["groups"] = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)  # type: ignore[arg-type] # never None
    return {name: array for name, array in found.items() if array is not None}


def _integers(ids: Ids | None) -> Array | None:
    assert not isinstance(ids, list), "strings are only in Arrow"
    return ids


def params_of(request: Request) -> Document:
    """The parameters of a request, those of its report included."""
    found: Document = {**request.params, "report": ",".join(("totals", *request.sections))}
    if "top" in request.sections and request.top != 20:
        found["top"] = request.top
    if request.row != "sum":
        found["row"] = request.row
    if request.first_row:
        found["first_row"] = request.first_row
    if request.bins != 64 and "calibration" in request.sections:
        found["calibration_bins"] = request.bins
    if request.gammas:
        found["sweep"] = {"gamma": list(request.gammas)}
    if request.groups is not None and list(request.groups) != ["group"]:
        found["group_names"] = list(request.groups)
    return found


def in_query(params: Document) -> dict[str, str]:
    """Parameters as a query has them."""
    return {name: _in_query(value) for name, value in params.items()}


def _in_query(value: object) -> str:
    if isinstance(value, dict):
        return ";".join(f"{name}:{','.join(map(json.dumps, values))}" for name, values in value.items())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def stored(array: Array) -> Array:
    """An array as numpy can save it: bfloat16 becomes what ml_dtypes saves."""
    return array.view("V2") if array.dtype == ml_dtypes.bfloat16 else array


def npy(array: Array) -> bytes:
    """An array as a .npy file."""
    file = io.BytesIO()
    np.save(file, stored(array))
    return file.getvalue()


def send(
    client: httpx.Client,
    request: Request,
    form: str = "npy",
    *,
    params: Document | None = None,
    accept: str = "*/*",
) -> httpx.Response:
    """Send a request in one of `FORMS`.

    Args:
        client: Sends it.
        request: The request.
        form: How it is sent.
        params: Parameters instead of the request's.
        accept: The header.
    """
    given = params_of(request) if params is None else params
    path = f"/{request.loss}"
    if form.startswith("v2"):
        path, body = f"/v2/models{path}/infer", inference(request, given, binary=form == "v2")
    else:
        body = _body(request, form, given)
    return client.post(path, **{**body, "headers": {**body.get("headers", {}), "accept": accept}})


def _body(request: Request, form: str, params: Document) -> dict[str, Any]:
    if form.startswith("arrow"):
        return _arrow(request, params, chunked=form == "arrow chunked")
    tensors, query = tensors_of(request), in_query(params)
    if form == "json":
        document = {name: in_json(array) for name, array in tensors.items()}
        return {"json": {**document, **params}}
    if form == "npy":
        content = b"".join(map(npy, tensors.values()))
        headers = {"content-type": "application/x-npy"}
        return {"params": {**query, "tensors": ",".join(tensors)}, "content": content, "headers": headers}
    if form == "npz":
        file = io.BytesIO()
        arrays: dict[str, Any] = {name: stored(array) for name, array in tensors.items()}
        np.savez(file, **arrays)
        return {"params": query, "content": file.getvalue(), "headers": {"content-type": "application/x-npz"}}
    files: dict[str, Any] = {name: (f"{name}.npy", npy(array)) for name, array in tensors.items()}
    if form == "multipart":
        return {"params": query, "files": files}
    assert form == "multipart with params"
    return {"files": {**files, "params": (None, json.dumps(params).encode())}}


def in_json(array: Array) -> Any:  # noqa: ANN401 -- nested lists
    """An array as nested lists, with strings for what JSON has no number for."""

    def plain(value: object) -> object:
        if isinstance(value, list):
            return list(map(plain, value))
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    exact = array.astype(np.float64) if array.dtype == ml_dtypes.bfloat16 else array
    return plain(exact.tolist())


def _arrow(request: Request, params: Document, *, chunked: bool) -> dict[str, Any]:
    names = {name: value for name, value in params.items() if name != "group_names" or not request.groups}
    content = arrow_stream(request)
    pieces: Iterator[bytes] = (content[start : start + 100] for start in range(0, len(content), 100))
    return {
        "params": in_query(names),
        "content": pieces if chunked else content,
        "headers": {"content-type": _ARROW},
    }


def arrow_stream(
    request: Request, rows: int = 4, strings: Callable[[list[str]], pa.Array[Any]] = pa.array
) -> bytes:
    """A request's tensors as an Arrow stream, a column each, with batches of at most so many rows.

    Args:
        request: The request.
        rows: The rows of a batch.
        strings: What makes a column of strings.
    """
    columns: dict[str, Array] = {request.kind: request.inputs, "targets": request.targets}
    columns |= {
        name: array
        for name, array in (
            ("weight", request.weight),
            ("mask", request.mask),
            ("baseline", request.baseline),
        )
        if array is not None
    }
    assert request.pos_weight is None
    fields: list[pa.Field[Any]] = []
    arrays: list[pa.Array[Any]] = []
    for name, array in columns.items():
        stored_ = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
        flat = pa.array(np.ascontiguousarray(stored_).reshape(-1))
        lists = array.ndim == 2 and array.shape[1] > 1
        column = pa.FixedSizeListArray.from_arrays(flat, array.shape[1]) if lists else flat
        metadata = {"lossd.dtype": "bfloat16"} if stored_ is not array else None
        fields.append(pa.field(name, column.type, metadata=metadata))
        arrays.append(column)
    ids = {f"group.{name}": column for name, column in (request.groups or {}).items()}
    if request.ids is not None:
        ids["ids"] = request.ids
    for name, column_ in ids.items():
        made = strings(column_) if isinstance(column_, list) else pa.array(column_)
        fields.append(pa.field(name, made.type))
        arrays.append(made)
    sink = io.BytesIO()
    table = pa.table(arrays, schema=pa.schema(fields))
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


_DATATYPES: Final = {
    "bool": "BOOL", "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


def inference(
    request: Request, params: Document, *, binary: bool, outputs: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A request in the Open Inference Protocol, as arguments of `httpx.post`.

    Args:
        request: The request.
        params: Its parameters, in a query's text where the protocol has no such value.
        binary: Whether tensors follow the JSON object, instead of lying in it.
        outputs: The outputs asked for; none for all.
    """
    inputs, data = [], b""
    for name, array in tensors_of(request).items():
        one: Document = {"name": name, "shape": list(array.shape), "datatype": _DATATYPES[array.dtype.name]}
        if binary:
            one["parameters"] = {"binary_data_size": array.nbytes}
            data += array.tobytes()
        else:
            one["data"] = in_json(array.reshape(-1))
        inputs.append(one)
    document: Document = {"inputs": inputs, "parameters": in_query(params)}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    head = json.dumps(document).encode()
    headers = {"content-type": "application/json"}
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(head))
        headers["content-type"] = "application/octet-stream"
    return {"content": head + data, "headers": headers}


def report_of(answer: httpx.Response) -> Document:
    """The report in an answer of any route."""
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if "outputs" in found:
        (output,) = (output for output in found["outputs"] if output["name"] == "report")
        assert (output["datatype"], output["shape"]) == ("BYTES", [1])
        report: Document = json.loads(output["data"][0])
        return report
    report = found["report"]
    assert list(found).index("report") == list(found).index("request_id") - 1
    return report


def sections_of(report: Document) -> str:
    """The text of a report's sections; `run` is no part of what is equal."""
    return json.dumps({name: section for name, section in report.items() if name != "run"})


def carries(form: str, request: Request) -> bool:
    """Whether a form of body can carry a request."""
    if form in ("json", "v2 json"):
        return request.inputs.size > 0 and request.bins != "exact"  # numbers in JSON are float64
    if form.startswith("arrow"):
        return request.inputs.ndim <= 2 and request.pos_weight is None and request.inputs.size > 0
    return True
