"""The Open Inference Protocol with Triton's own clients, sync and asyncio."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks as openapi_checks
from tritonclient.http import (  # type: ignore[import-untyped]  # it has no types
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
)
from tritonclient.http.aio import (  # type: ignore[import-untyped]
    InferenceServerClient as AsyncInferenceServerClient,
)
from tritonclient.utils import (  # type: ignore[import-untyped]
    InferenceServerException,
    np_to_triton_dtype,
)

import reference
from live_server import live_server
from lossd.api.routes.inference import inference_problem
from lossd.core.catalog import LOSSES
from lossd.types import ErrorCode, RequestError

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Params = dict[str, Any]

RNG = np.random.default_rng(29)
X = RNG.normal(0, 5, (9, 7)).astype(np.float32)
Y = np.where(RNG.random((9, 7)) < 0.5, RNG.random((9, 7)), RNG.integers(0, 2, (9, 7))).astype(np.float32)
HARD = (RNG.random((9, 7)) < 0.3).astype(np.uint8)
WEIGHT = RNG.random((9, 1))
MASK = RNG.random((9, 7)) < 0.8
POS_WEIGHT = np.array([0.5, 1.0, 2.0, 1.5, 3.0, 1.0, 0.0], dtype=np.float32)
DENSE: Arrays = {"logits": X, "targets": Y}
BOXES: Arrays = {
    "boxes": np.array([[1, 2, 5, 6], [0, 0, 2, 1]], np.float32),
    "targets": np.array([[1, 1, 5, 7], [0, 0, 1, 2]], np.float32),
}
LONG: Arrays = {
    "logits": RNG.normal(0, 5, (600, 500)).astype(np.float32),
    "targets": (RNG.random((600, 500)) < 0.1).astype(np.uint8),
}
SHORT: Arrays = {name: array[:100] for name, array in LONG.items()}
SUMS = ("sum", "weight_sum", "positives")
FIGURES = ("loss", *SUMS, "count", *(f"{name}_terms" for name in SUMS))
NPY = {"content-type": "application/x-npy", "accept": "application/x-npy"}

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
INTEGERS = [
    np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64,
]  # fmt: skip


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(base_url.removeprefix("http://"), concurrency=4) as made:
        yield made


def tensor(name: str, array: Array, binary: bool = True) -> InferInput:
    made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def tensors(arrays: Arrays, binary: bool = True) -> list[InferInput]:
    return [tensor(name, array, binary) for name, array in arrays.items()]


def wanted(names: Sequence[str] = FIGURES, binary: bool = True) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(name, binary_data=binary) for name in names]


def natively(base_url: str, loss: str, arrays: Arrays, params: Params) -> Arrays:
    """The figures by way of .npy files."""
    body = io.BytesIO()
    for array in arrays.values():
        np.save(body, array)
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    answer = httpx.post(
        f"{base_url}/{loss}",
        params={**query, "tensors": ",".join(arrays)},
        content=body.getvalue(),
        headers=NPY,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    figures = {
        name: np.array(list(map(float, answer.headers[f"Lossd-{name.replace('_', '-')}"].split(","))))
        for name in FIGURES
        if name != "loss"
    }
    figures["count"] = figures["count"].astype(np.int64)
    return {"loss": np.atleast_1d(np.load(io.BytesIO(answer.content))), **figures}


def check(result: InferResult, expected: Arrays) -> None:
    """The figures of an answer, to their bits."""
    assert [output["name"] for output in result.get_response()["outputs"]] == list(expected)
    for name, array in expected.items():
        got = result.as_numpy(name)
        assert got.shape == array.shape
        assert got.dtype == array.dtype
        assert got.tobytes() == array.tobytes(), name


def refused(base_url: str, status: int, code: str, **request: Any) -> str:  # noqa: ANN401
    """The error that the request of an inference of focal loss gets."""
    answer = httpx.post(f"{base_url}/v2/models/focal/infer", timeout=30, **request)
    return check_error(answer, status, code)


def check_error(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.headers["lossd-code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert "compute;dur=" in answer.headers["server-timing"]
    document: dict[str, str] = answer.json()
    assert list(document) == ["error"]
    return document["error"]


def document(**members: object) -> dict[str, object]:
    return {
        "inputs": [
            {"name": "logits", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
            {"name": "targets", "shape": [2, 2], "datatype": "FP32", "data": [[0, 1], [1, 0]]},
        ],
        **members,
    }


# The same losses as by the other routes

REDUCTIONS: list[Params] = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"axis": 0},
    {"axis": 1, "reduction": "sum"},
    {"axis": "0,1"},
    {"axis": "1", "normalizer": "positives"},
    {"normalizer": 12.5},
]


@pytest.mark.parametrize("params", REDUCTIONS, ids=str)
@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_the_bits_of_npy(base_url: str, client: InferenceServerClient, loss: str, params: Params) -> None:
    expected = natively(base_url, loss, DENSE, params)
    for binary in (True, False):
        for outputs in (None, wanted(), wanted(binary=False)):
            check(client.infer(loss, tensors(DENSE, binary), outputs=outputs, parameters=params), expected)


@pytest.mark.parametrize(("loss", "element"), [("bce", reference.bce), ("focal", reference.focal)])
def test_the_true_number(client: InferenceServerClient, loss: str, element: Callable[..., Any]) -> None:
    each = [element(float(x), float(y)) for x, y in zip(X.flat, Y.flat, strict=True)]
    truth = {"none": each, "sum": [math.fsum(map(float, each))], "mean": [float(sum(each) / len(each))]}
    for reduction, expected in truth.items():
        got = client.infer(loss, tensors(DENSE), parameters={"reduction": reduction}).as_numpy("loss")
        np.testing.assert_allclose(got.ravel(), [float(value) for value in expected], rtol=4e-15, atol=0)


PARAMETERS: list[tuple[Params, dict[str, str]]] = [
    ({"alpha": "null"}, {"alpha": "null"}),
    ({"alpha": 0.75, "gamma": 2}, {"alpha": "0.75", "gamma": "2"}),
    ({"alpha": "0.1,0.2,0.3,0.4,0.5,0.6,0.7"}, {"alpha": "[0.1,0.2,0.3,0.4,0.5,0.6,0.7]"}),
    ({"pos_weight": "1,2,3,4,5,6,7"}, {"pos_weight": "1,2,3,4,5,6,7"}),
    ({"pos_weight": 3}, {"pos_weight": "3"}),
    (
        {"pos_weight": "[9,8,7,6,5,4,3,2,1]", "class_axis": 0},
        {"pos_weight": "9,8,7,6,5,4,3,2,1", "class_axis": "0"},
    ),
    ({"label_smoothing": 0.1, "variant": "exp"}, {"label_smoothing": "0.1", "variant": "exp"}),
    ({"variant": "quality", "reduction": "none"}, {"variant": "quality", "reduction": "none"}),
    ({"ignore_index": 0.0}, {"ignore_index": "0"}),
    ({"allow_nan": True, "axis": -1}, {"allow_nan": "true", "axis": "-1"}),
]  # fmt: skip


@pytest.mark.parametrize(("params", "query"), PARAMETERS, ids=str)
def test_parameters_of_every_kind(
    base_url: str, client: InferenceServerClient, params: Params, query: dict[str, str]
) -> None:
    expected = natively(base_url, "focal", DENSE, query)
    assert expected["loss"].tobytes() != natively(base_url, "focal", DENSE, {})["loss"].tobytes()
    check(client.infer("focal", tensors(DENSE), parameters=params), expected)
    check(client.infer("focal", tensors(DENSE), query_params=query), expected)


def test_lists_and_null_beyond_triton(base_url: str) -> None:
    body = document(parameters={"alpha": None, "axis": [0, 1], "pos_weight": [2.0, 1.0]})
    answer = httpx.post(f"{base_url}/v2/models/focal/infer", json=body)
    text = {"logits": [[1, 2], [3, 4]], "targets": [[0, 1], [1, 0]]}
    native = httpx.post(
        f"{base_url}/focal", json={**text, "alpha": None, "axis": [0, 1], "pos_weight": [2, 1]}
    )
    assert answer.json()["outputs"][0] == {
        "name": "loss", "datatype": "FP64", "shape": [1], "data": [native.json()["loss"]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "binary"),
    [
        (dtype, binary)
        for dtype in (*FLOATS, *INTEGERS, np.bool_)
        for binary in (True, False)
        if binary or dtype != ml_dtypes.bfloat16  # Triton's client sends it as binary data only
    ],
)
def test_every_datatype(
    base_url: str, client: InferenceServerClient, dtype: npt.DTypeLike, binary: bool
) -> None:
    arrays = {"logits": X, "targets": HARD.astype(dtype)}
    if dtype in FLOATS:
        arrays = {"logits": X.astype(dtype), "targets": Y.astype(dtype), "weight": WEIGHT.astype(dtype)}
    saved = {name: a.view("V2") if a.dtype == ml_dtypes.bfloat16 else a for name, a in arrays.items()}
    result = client.infer("focal", tensors(arrays, binary), parameters={"reduction": "none"})
    check(result, natively(base_url, "focal", saved, {"reduction": "none"}))


EXTRA: list[Arrays] = [
    {**DENSE, "weight": WEIGHT},
    {**DENSE, "weight": WEIGHT, "pos_weight": POS_WEIGHT, "mask": MASK},
    {**DENSE, "mask": MASK.astype(np.uint8)},
    {**DENSE, "weight": np.arange(9, dtype=np.uint64)[:, None], "mask": MASK.astype(np.int32)},
    {**DENSE, "pos_weight": np.arange(7, dtype=np.uint16)},
    {"mask": MASK, "targets": HARD, "logits": X},
    {"probabilities": 1 / (1 + np.exp(-X)), "targets": Y},
    {
        "logits": X.astype(np.float64),
        "targets": Y.astype(np.float16),
        "weight": np.array([[0.5]], np.float32),
    },
    {"logits": X[0], "targets": Y[0]},
    {"logits": X[:0], "targets": Y[:0]},
    {"logits": X.reshape(1, 3, 1, 3, 1, 7, 1, 1), "targets": Y.reshape(1, 3, 1, 3, 1, 7, 1, 1)},
]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
@pytest.mark.parametrize("arrays", EXTRA, ids=lambda arrays: ",".join(arrays))
def test_every_tensor(base_url: str, client: InferenceServerClient, arrays: Arrays, binary: bool) -> None:
    params = {"reduction": "none"}
    result = client.infer("bce", tensors(arrays, binary), parameters=params)
    check(result, natively(base_url, "bce", arrays, params))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda dtype: dtype.__name__)
def test_class_ids(
    base_url: str, client: InferenceServerClient, dtype: type[np.generic], binary: bool
) -> None:
    arrays = {"logits": X, "targets": np.arange(9).astype(dtype) % np.dtype(dtype).type(7)}
    params = {"targets_format": "index", "ignore_index": 3, "axis": "1", "reduction": "sum"}
    result = client.infer("focal", tensors(arrays, binary), parameters=params)
    check(result, natively(base_url, "focal", arrays, params))


def test_some_inputs_binary_and_others_in_json(base_url: str, client: InferenceServerClient) -> None:
    arrays = {**DENSE, "weight": WEIGHT, "mask": MASK}
    expected = natively(base_url, "focal", arrays, {"axis": "0"})
    for number in range(16):
        inputs = [
            tensor(name, array, bool(number >> place & 1))
            for place, (name, array) in enumerate(arrays.items())
        ]
        check(client.infer("focal", inputs, parameters={"axis": "0"}), expected)


def test_chosen_outputs(base_url: str, client: InferenceServerClient) -> None:
    expected = natively(base_url, "focal", DENSE, {"reduction": "none"})
    for names in (["loss"], ["count", "sum"], ["positives", "loss", "weight_sum"]):
        for text in ([], names[:1], names[1:], names):
            outputs = [InferRequestedOutput(name, binary_data=name not in text) for name in names]
            result = client.infer("focal", tensors(DENSE), outputs=outputs, parameters={"reduction": "none"})
            check(result, {name: expected[name] for name in names})
            assert all(("data" in result.get_output(name)) == (name in text) for name in names)


def test_infinite_outputs_come_back(client: InferenceServerClient) -> None:
    x, y = np.array([[np.inf, -np.inf, 1.0]]), np.array([[0.0, 0.0, np.nan]])
    inputs = tensors({"logits": x, "targets": y})
    params = {"reduction": "none", "allow_nan": True}
    for binary in (True, False):
        result = client.infer("bce", inputs, outputs=wanted(binary=binary), parameters=params)
        np.testing.assert_array_equal(result.as_numpy("loss"), [[np.inf, 0.0, np.nan]])
        assert math.isnan(result.as_numpy("sum")[0])


def test_infinite_numbers_are_strings_in_json(base_url: str) -> None:
    logits = {"name": "logits", "shape": [4], "datatype": "FP32", "data": ["Infinity", "-Infinity", 1, 2]}
    targets = {"name": "targets", "shape": [4], "datatype": "FP32", "data": [1, 0.5, None, "NaN"]}
    params: Params = {"ignore_index": "nan", "reduction": "none"}
    answer = httpx.post(
        f"{base_url}/v2/models/bce/infer", json={"inputs": [logits, targets], "parameters": params}
    )
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["loss"] == [0.0, "Infinity", 0.0, 0.0]  # -log(1), -log(0) / 2, and two that are dropped
    assert outputs["count"] == [2]
    params = {"allow_nan": True, "reduction": "none"}
    answer = httpx.post(
        f"{base_url}/v2/models/bce/infer", json={"inputs": [logits, targets], "parameters": params}
    )
    assert answer.json()["outputs"][0]["data"] == [0.0, "Infinity", "NaN", "NaN"]
    answer = httpx.post(f"{base_url}/v2/models/bce/infer", json={"inputs": [logits, targets]})
    assert "NaN at /targets/2" in check_error(answer, 422, "non_finite_input")


def test_notes_come_with_the_answer(base_url: str, client: InferenceServerClient) -> None:
    square = {name: np.ones((3, 3), np.float32) for name in DENSE}
    for binary in (True, False):
        result = client.infer("bce", tensors({**square, "weight": np.arange(3.0)}, binary))
        assert "weight" in result.get_response()["parameters"]["notes"]
        assert "parameters" not in client.infer("bce", tensors(square, binary)).get_response()


# Long bodies, compressed bodies


@pytest.mark.parametrize("params", [{}, {"reduction": "none"}, {"axis": "0"}], ids=str)
def test_long_bodies(base_url: str, client: InferenceServerClient, params: Params) -> None:
    expected = natively(base_url, "focal", LONG, params)
    check(client.infer("focal", tensors(LONG), parameters=params), expected)
    check(client.infer("focal", tensors(LONG), outputs=wanted(binary=False), parameters=params), expected)
    mixed = [*wanted(["loss"], binary=False), *wanted(FIGURES[1:])]
    check(client.infer("focal", tensors(LONG), outputs=mixed, parameters=params), expected)


def test_long_json(base_url: str, client: InferenceServerClient) -> None:
    expected = natively(base_url, "focal", SHORT, {"axis": "1"})
    check(client.infer("focal", tensors(SHORT, binary=False), parameters={"axis": "1"}), expected)
    inputs = [tensor("targets", SHORT["targets"], binary=False), tensor("logits", SHORT["logits"])]
    check(client.infer("focal", inputs, parameters={"axis": "1"}), expected)


def test_chunked_bodies(base_url: str) -> None:
    body, length = InferenceServerClient.generate_request_body(tensors(LONG), parameters={"axis": 0})
    pieces = (body[start : start + 99_999] for start in range(0, len(body), 99_999))
    headers = {"inference-header-content-length": str(length)}
    answer = httpx.post(f"{base_url}/v2/models/focal/infer", content=pieces, headers=headers, timeout=30)
    check(read(answer), natively(base_url, "focal", LONG, {"axis": 0}))


def read(answer: httpx.Response) -> InferResult:
    """An answer, whose coding httpx has undone, as Triton's client reads it."""
    assert answer.status_code == 200, answer.text
    length = answer.headers.get("inference-header-content-length")
    return InferenceServerClient.parse_response_body(
        answer.content, header_length=None if length is None else int(length)
    )


@pytest.mark.parametrize("answer", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_compressed_both_ways(
    base_url: str, client: InferenceServerClient, request_: str | None, answer: str | None, binary: bool
) -> None:
    result = client.infer(
        "focal",
        tensors(SHORT, binary),
        outputs=wanted(binary=binary),
        parameters={"reduction": "none"},
        request_compression_algorithm=request_,
        response_compression_algorithm=answer,
    )
    check(result, natively(base_url, "focal", SHORT, {"reduction": "none"}))


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate;q=0.9", "deflate"),
        ("GZIP", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("gzip, identity;q=0.1", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0", None),
        ("br, zstd", None),
        ("", None),
        (",;=", None),
    ],
)
def test_the_coding_of_an_answer(base_url: str, accept: str, coding: str | None) -> None:
    ones = {name: np.ones((100, 100), np.float32) for name in DENSE}
    body, length = InferenceServerClient.generate_request_body(
        tensors(ones), outputs=wanted(), parameters={"reduction": "none"}
    )
    headers = {"inference-header-content-length": str(length), "accept-encoding": accept}
    with httpx.stream("POST", f"{base_url}/v2/models/bce/infer", content=body, headers=headers) as answer:
        assert answer.headers.get("content-encoding") == coding
        sent = b"".join(answer.iter_raw())
    undo: dict[str | None, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
    plain = undo[coding](sent) if coding else sent
    assert (len(sent) < 5000) == (coding is not None)
    header = int(answer.headers["inference-header-content-length"])
    result = InferenceServerClient.parse_response_body(plain, header_length=header)
    check(result, natively(base_url, "bce", ones, {"reduction": "none"}))


def test_answers_that_compress_badly_are_not_compressed(base_url: str) -> None:
    headers = {"accept-encoding": "gzip"}
    for reduction, binary, coded in (("none", True, False), ("none", False, True), ("mean", False, False)):
        body, length = InferenceServerClient.generate_request_body(
            tensors(SHORT), outputs=wanted(binary=binary), parameters={"reduction": reduction}
        )
        answer = httpx.post(
            f"{base_url}/v2/models/focal/infer",
            content=body,
            headers={**headers, "inference-header-content-length": str(length)},
        )
        assert ("content-encoding" in answer.headers) == coded
        check(read(answer), natively(base_url, "focal", SHORT, {"reduction": reduction}))


# Clients


def test_requests_keep_their_ids(client: InferenceServerClient) -> None:
    for name in ("", "batch-17/3", "über 😀", "x" * 3000):
        response = client.infer("bce", tensors(DENSE), request_id=name).get_response()
        assert response.get("id", "") == name
        assert (response["model_name"], response["model_version"]) == ("bce", "1")
    response = client.infer("bce", tensors(DENSE), model_version="1", headers={"X-Request-Id": "a"})
    assert "id" not in response.get_response()


def test_async_infer(base_url: str, client: InferenceServerClient) -> None:
    asked = [
        client.async_infer("focal", tensors(LONG), request_id=str(n), parameters={"gamma": n})
        for n in range(8)
    ]
    for number, handle in enumerate(asked):
        result = handle.get_result(timeout=30)
        assert result.get_response()["id"] == str(number)
        check(result, natively(base_url, "focal", LONG, {"gamma": number}))
    wrong = client.async_infer("focal", tensors(DENSE), parameters={"gama": 1})
    with pytest.raises(InferenceServerException, match="did you mean gamma"):
        wrong.get_result(timeout=30)


def with_async_client(base_url: str, use: Callable[[AsyncInferenceServerClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with AsyncInferenceServerClient(base_url.removeprefix("http://")) as client:
            await use(client)

    asyncio.run(run())


def test_the_asyncio_client(base_url: str) -> None:
    expected = natively(base_url, "focal", SHORT, {"axis": "0"})

    async def use(client: AsyncInferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("focal", "1")
        assert not await client.is_model_ready("focal", "2")
        assert (await client.get_server_metadata())["name"] == "lossd"
        assert (await client.get_model_metadata("bce"))["name"] == "bce"
        assert (await client.get_model_config("bce"))["name"] == "bce"
        many = [
            client.infer(
                "focal",
                tensors(SHORT, binary),
                outputs=outputs,
                request_id="a",
                parameters={"axis": "0"},
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            for binary, outputs, coding in (
                (True, None, None),
                (True, wanted(binary=False), None),
                (True, wanted(), "gzip"),
                (True, wanted(binary=False), "deflate"),
            )
        ]
        for result in await asyncio.gather(*many):
            assert result.get_response()["id"] == "a"
            check(result, expected)
        with pytest.raises(InferenceServerException, match="send targets") as caught:
            await client.infer("focal", [tensor("logits", X)])
        assert caught.value.status() == "422"
        stats = await client.get_inference_statistics("focal", "1")
        assert stats["model_stats"][0]["inference_stats"]["success"]["count"] >= 4

    with_async_client(base_url, use)


# What the server says of itself


def test_health(base_url: str, client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    for model in LOSSES:
        assert client.is_model_ready(model)
        assert client.is_model_ready(model, "1")
        assert not client.is_model_ready(model, "2")
    assert not client.is_model_ready("nothing")
    assert httpx.get(f"{base_url}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{base_url}/v2/health/ready").json() == {"ready": True}
    assert httpx.get(f"{base_url}/v2/models/bce/ready").json() == {"ready": True}


def test_metadata_and_configuration(base_url: str, client: InferenceServerClient) -> None:
    server = client.get_server_metadata()
    info = httpx.get(f"{base_url}/info").json()
    assert (server["name"], server["version"]) == ("lossd", info["version"])
    assert {"binary_tensor_data", "parameters", "statistics"} <= set(server["extensions"])
    for loss in info["losses"]:
        metadata = client.get_model_metadata(loss["name"])
        assert metadata == client.get_model_metadata(loss["name"], "1")
        assert metadata["versions"] == ["1"]
        assert [output["name"] for output in metadata["outputs"]] == [*FIGURES, "report"]
        assert [given["name"] for given in metadata["inputs"]] == loss["tensors"]
        config = client.get_model_config(loss["name"])
        assert config == client.get_model_config(loss["name"], "1")
        defaults = {name: text["string_value"] for name, text in config["parameters"].items()}
        assert set(defaults) == {parameter["name"] for parameter in loss["parameters"]}
        params = {name: text for name, text in defaults.items() if text != "null"}
        given = BOXES if "boxes" in loss["tensors"] else DENSE
        check(
            client.infer(loss["name"], tensors(given), parameters=params),
            natively(base_url, loss["name"], given, {}),
        )


def test_the_list_of_models(base_url: str, client: InferenceServerClient) -> None:
    losses = [loss["name"] for loss in httpx.get(f"{base_url}/info").json()["losses"]]
    models = [{"name": name, "version": "1", "state": "READY", "reason": ""} for name in losses]
    assert client.get_model_repository_index() == models

    async def use(client: AsyncInferenceServerClient) -> None:
        assert await client.get_model_repository_index() == models

    with_async_client(base_url, use)
    url = f"{base_url}/v2/repository/index"
    for body in (b"", b" ", b"{}", b'{"ready": true}', b'{"ready": false}', b'{"ready": null}'):
        assert httpx.post(url, content=body).json() == models
    assert httpx.post(url, json={"ready": True}).json() == models  # as MLServer's clients send it
    for body, status, code in (
        (b"[]", 400, "bad_request"),
        (b"{", 400, "malformed_json"),
        (b'{"ready": 1}', 400, "bad_request"),
        (b'{"state": "READY"}', 422, "invalid_parameter"),
        (b" " * 1025, 413, "body_too_large"),
    ):
        check_error(httpx.post(url, content=body), status, code)
    assert httpx.get(url).status_code == 405


def mlserver_request(array_type: str | None = "np", **members: object) -> dict[str, Any]:
    """A request as MLServer's NumpyRequestCodec writes it."""
    types = {} if array_type is None else {"parameters": {"content_type": array_type}}
    inputs = [
        {"name": name, "shape": list(a.shape), "datatype": "FP32", **types, "data": a.ravel().tolist()}
        for name, a in DENSE.items()
    ]
    return {"id": "a", **types, "inputs": inputs, **members}


def test_requests_of_mlservers_clients(base_url: str) -> None:
    expected = natively(base_url, "focal", DENSE, {})["loss"].tolist()
    outputs = [{"name": "loss", "parameters": {"content_type": "np"}}]
    for body in (mlserver_request(), mlserver_request(None), mlserver_request(outputs=outputs)):
        answer = httpx.post(f"{base_url}/v2/models/focal/infer", json=body)
        assert answer.json()["outputs"][0]["data"] == expected
    asked = {"content_type": "np", "gamma": 2}
    answer = httpx.post(f"{base_url}/v2/models/focal/infer", json=mlserver_request(parameters=asked))
    assert answer.json()["outputs"][0]["data"] == natively(base_url, "focal", DENSE, {"gamma": 2})["loss"]


@pytest.mark.parametrize("content_type", ["str", "pd", "base64", "datetime", "NP", "", 1, ["np"]])
def test_data_of_other_content_types(base_url: str, content_type: object) -> None:
    wrong = {"parameters": {"content_type": content_type}}
    body = mlserver_request()
    first, second = body["inputs"]
    for members in (wrong, {"inputs": [first, {**second, **wrong}]}, {"outputs": [{"name": "sum", **wrong}]}):
        error = refused(base_url, 422, "invalid_parameter", json={**body, **members})
        assert "arrays of numbers alone are taken" in error


def test_statistics(client: InferenceServerClient) -> None:
    def figures() -> dict[str, Any]:
        [found] = client.get_inference_statistics("focal")["model_stats"]
        assert (found["name"], found["version"]) == ("focal", "1")
        return dict(found)

    before = figures()
    client.infer("focal", tensors(LONG))
    with pytest.raises(InferenceServerException):
        client.infer("focal", tensors({"logits": X}))
    after = figures()
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["last_inference"] > before["last_inference"]
    for name in ("success", "fail", "queue", "compute_infer"):
        old, new = before["inference_stats"][name], after["inference_stats"][name]
        assert new["count"] == old["count"] + 1, name
        assert new["ns"] > old["ns"] or name == "queue"
    everything = client.get_inference_statistics()["model_stats"]
    assert [entry["name"] for entry in everything] == list(LOSSES)
    assert figures() in everything


def test_metrics_have_the_format(base_url: str, client: InferenceServerClient) -> None:
    client.infer("bce", tensors(DENSE))
    exposed = httpx.get(f"{base_url}/metrics").text
    assert 'lossd_requests_total{format="v2",loss="bce",outcome="ok",team="default"}' in exposed


def test_the_routes_are_documented_as_they_are(base_url: str) -> None:
    paths = [path for path in httpx.get(f"{base_url}/openapi.json").json()["paths"] if path.startswith("/v2")]
    models = {f"/v2/models/{loss}{version}" for loss in LOSSES for version in ("", "/versions/1")}
    ends = ("", "/ready", "/config", "/stats", "/infer")
    whole = {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index"}
    assert set(paths) == whole | {model + end for model in models for end in ends}
    checks = [
        schemathesis.checks.not_a_server_error,
        openapi_checks.status_code_conformance,
        openapi_checks.content_type_conformance,
        openapi_checks.response_headers_conformance,
        openapi_checks.response_schema_conformance,
        openapi_checks.unsupported_method,
    ]
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    for path in (*whole, *(f"/v2/models/focal{end}" for end in ends)):
        for method in schema[path]:

            @settings(
                max_examples=40 if path.endswith("/infer") else 10,  # others take no body
                suppress_health_check=list(HealthCheck),
                phases=[Phase.explicit, Phase.generate],
            )
            @given(case=schema[path][method].as_strategy())
            def holds(case: schemathesis.Case[Any]) -> None:
                case.headers.pop("X-Timeout-Ms", None)  # 1 ms is a true deadline, and 504 the true answer
                case.call_and_validate(checks=checks, timeout=30)

            holds()


def test_the_example_is_answered(base_url: str) -> None:
    for loss in LOSSES:
        operation = httpx.get(f"{base_url}/openapi.json").json()["paths"][f"/v2/models/{loss}/infer"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["examples"]["text"]["value"]
        text = {given["name"]: given["data"] for given in example["inputs"]}
        native = httpx.post(f"{base_url}/{loss}", json=text).json()
        outputs = httpx.post(f"{base_url}/v2/models/{loss}/infer", json=example).json()["outputs"]
        assert {output["name"]: output["data"] for output in outputs} == {
            name: native[name] if name.endswith("_terms") else [native[name]] for name in FIGURES
        }


# Errors


ERRORS: list[tuple[str, Arrays, Params, str, str]] = [
    ("no targets", {"logits": X}, {}, "422", "send targets; got logits"),
    ("both", {**DENSE, "probabilities": Y}, {}, "422", "both logits and probabilities"),
    ("shapes", {"logits": X, "targets": Y[1:]}, {}, "422", r"targets has shape \[8, 7\]"),
    ("a target", {"logits": X, "targets": 2 * np.ones_like(X)}, {}, "422", r"outside \[0, 1\]"),
    ("a NaN", {"logits": np.full_like(X, np.nan), "targets": Y}, {}, "422", "/logits/0/0"),
    ("integer logits", {"logits": HARD, "targets": HARD}, {}, "415", "logits has the datatype 'UINT8'"),
    ("another tensor", {**DENSE, "logit": X}, {}, "422", "did you mean logits"),
    ("a parameter", DENSE, {"gama": 2}, "422", "did you mean gamma"),
    ("alpha", DENSE, {"alpha": 2}, "422", "alpha"),
    ("an axis", DENSE, {"axis": "0,0"}, "422", "axis"),
    ("over nothing", {"logits": X[:0], "targets": Y[:0]}, {}, "422", "over nothing"),
    ("no dimensions", dict.fromkeys(DENSE, np.array(1.0)), {}, "422", "no dimensions"),
]  # fmt: skip


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
@pytest.mark.parametrize(
    ("arrays", "params", "status", "message"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
def test_errors_as_tritons_client_raises_them(
    client: InferenceServerClient, arrays: Arrays, params: Params, status: str, message: str, binary: bool
) -> None:
    if not binary and any(np.isnan(array).any() for array in arrays.values()):
        status, message = "400", "NaN"  # not JSON
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer("focal", tensors(arrays, binary), parameters=params)
    assert caught.value.status() == status


def test_unknown_outputs(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="did you mean loss") as caught:
        client.infer("bce", tensors(DENSE), outputs=wanted(["losses"]))
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="class") as caught:
        client.infer("bce", tensors(DENSE), outputs=[InferRequestedOutput("loss", class_count=2)])
    assert caught.value.status() == "400"


def test_routes_of_triton_that_are_missing(client: InferenceServerClient) -> None:
    """Each call gets an error of the protocol."""
    calls: list[tuple[str, Callable[[], object]]] = [
        ("triplet", lambda: client.infer("triplet", tensors(DENSE))),
        ("versions/2", lambda: client.infer("focal", tensors(DENSE), model_version="2")),
        ("triplet", lambda: client.get_model_metadata("triplet")),
        ("versions/2", lambda: client.get_model_metadata("bce", "2")),
        ("versions/3", lambda: client.get_model_config("bce", "3")),
        ("triplet", lambda: client.get_inference_statistics("triplet")),
        ("load", lambda: client.load_model("bce")),
        ("unload", lambda: client.unload_model("bce")),
        ("trace", client.get_trace_settings),
        ("trace", lambda: client.update_trace_settings("bce", {"trace_rate": "1"})),
        ("logging", client.get_log_settings),
        ("logging", lambda: client.update_log_settings({"log_info": False})),
        ("systemsharedmemory", client.get_system_shared_memory_status),
        ("register", lambda: client.register_system_shared_memory("a", "/a", 8)),
        ("cudasharedmemory", client.get_cuda_shared_memory_status),
    ]
    for word, call in calls:
        with pytest.raises(InferenceServerException, match=f"there is no .*{word}.*bce, focal") as caught:
            call()
        assert caught.value.status() == "404"


def test_client_shared_memory_is_refused(client: InferenceServerClient) -> None:
    given = InferInput("logits", [9, 7], "FP32").set_shared_memory("region", X.nbytes)
    asked = InferRequestedOutput("loss")
    asked.set_shared_memory("region", 8)
    for inputs, outputs in (([given, tensor("targets", Y)], None), (tensors(DENSE), [asked])):
        with pytest.raises(InferenceServerException, match="no shared memory here") as caught:
            client.infer("focal", inputs, outputs=outputs)
        assert caught.value.status() == "400"


def test_routes_and_methods(base_url: str) -> None:
    for path in ("/v2/", "/v2/models", "/v2/models/bce/infer/", "/v2/models/bce/versions/01/infer", "/v2//"):
        assert path in check_error(httpx.post(base_url + path), 404, "not_found")
    for path in ("/v2", "/v2/health/live", "/v2/models/bce", "/v2/models/bce/versions/1/config"):
        answer = httpx.post(base_url + path, content=b"x" * 100)
        assert "GET" in check_error(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD"
    answer = httpx.get(f"{base_url}/v2/models/bce/infer", headers={"x-request-id": "mine"})
    assert "POST" in check_error(answer, 405, "method_not_allowed")
    assert answer.headers["x-request-id"] == "mine"
    other = httpx.get(f"{base_url}/v2x")
    assert other.json()["code"] == "not_found"


BODY, LENGTH = InferenceServerClient.generate_request_body(tensors(DENSE))


@pytest.mark.parametrize(
    "length", ["-1", "1.5", "", "x", "0x10", "+5", "1e3", "9" * 30, "²", str(len(BODY) + 1)]
)
def test_malformed_header_lengths(base_url: str, length: str) -> None:
    headers = [(b"inference-header-content-length", length.encode("latin-1"))]
    assert "Inference-Header" in refused(base_url, 400, "bad_request", content=BODY, headers=headers)


def test_wrong_header_lengths(base_url: str) -> None:
    def at(length: int, body: bytes = BODY, **headers: str) -> dict[str, Any]:
        return {"content": body, "headers": {"inference-header-content-length": str(length), **headers}}

    assert LENGTH is not None
    for shift in (-LENGTH, -1, 1, len(BODY) - LENGTH):
        refused(base_url, 400, "malformed_json", **at(LENGTH + shift))
    refused(base_url, 400, "malformed_json", content=BODY)
    refused(base_url, 400, "truncated_body", **at(LENGTH, BODY[:-1]))
    refused(base_url, 400, "trailing_bytes", **at(LENGTH, BODY + b"\0"))
    coded = gzip.compress(BODY)
    refused(base_url, 400, "truncated_body", **at(len(BODY) + 1, coded, **{"content-encoding": "gzip"}))
    refused(base_url, 400, "truncated_body", **at(LENGTH, coded[:-9], **{"content-encoding": "gzip"}))
    refused(base_url, 400, "bad_request", **at(LENGTH, BODY, **{"content-encoding": "gzip"}))
    refused(base_url, 415, "unsupported_encoding", **at(LENGTH, BODY, **{"content-encoding": "br"}))
    twice = [("inference-header-content-length", str(LENGTH))] * 2
    refused(base_url, 400, "bad_request", content=BODY, headers=twice)
    refused(base_url, 413, "body_too_large", **at(10**14, BODY, **{"content-encoding": "gzip"}))


def sized(size: object, **members: object) -> dict[str, object]:
    given_input = {"name": "logits", "shape": [4], "datatype": "FP32", **members}
    return {"inputs": [{**given_input, "parameters": {"binary_data_size": size}}]}


HOSTILE: dict[str, tuple[object, int, str]] = {
    "nothing": (b"", 400, "malformed_json"),
    "a list": ([], 400, "bad_request"),
    "no inputs": ({}, 400, "bad_request"),
    "empty inputs": ({"inputs": []}, 422, "missing_tensor"),
    "a name twice": ({"inputs": document()["inputs"] * 2}, 400, "malformed_json"),  # type: ignore[operator]
    "a size that is not the shape's": (sized(15), 422, "shape_mismatch"),
    "a size without a header length": (sized(16), 400, "bad_request"),
    "a negative size": (sized(-16), 422, "shape_mismatch"),
    "a size and data": (sized(16, data=[1, 2, 3, 4]), 400, "bad_request"),
    "a shape past 2^63": (sized(16, shape=[2**40, 2**40]), 422, "bad_shape"),
    "a shape past 2^63 of nothing": (sized(0, shape=[2**40, 2**40, 0]), 422, "bad_shape"),
    "nine dimensions": (sized(16, shape=[1] * 9), 422, "bad_shape"),
    "a negative length": (sized(16, shape=[-4]), 422, "bad_shape"),
    "texts": (sized(16, datatype="BYTES"), 415, "dtype_not_allowed"),
    "a sequence": (document(parameters={"sequence_id": 7}), 422, "invalid_parameter"),
    "a member more": (document(gamma=2), 422, "invalid_parameter"),
    "bce's gamma twice": (document(parameters={"gamma": "1", "gamma ": 2}), 422, "invalid_parameter"),
    "half a pair": (b'{"id": "\\ud800", "inputs": []}', 400, "malformed_json"),
    "deep": (b'{"inputs": ' + b"[" * 100_000, 400, "malformed_json"),
    "long": (b'{"inputs": [{"data": ' + b"[" * 2_000_000, 400, "malformed_json"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bodies(base_url: str, case: str) -> None:
    body, status, code = HOSTILE[case]
    refused(base_url, status, code, content=body if isinstance(body, bytes) else json.dumps(body))


def test_parameters_in_two_places(base_url: str) -> None:
    body = document(parameters={"gamma": 2})
    message = refused(base_url, 422, "invalid_parameter", params={"gamma": "2"}, json=body)
    assert "both in the query and in the body" in message
    refused(base_url, 422, "invalid_parameter", params={"tensors": "logits,targets"}, json=document())


def test_neither_content_type_nor_accept_matters(base_url: str) -> None:
    for headers in (
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-npy", "accept": "image/png"},
    ):
        answer = httpx.post(
            f"{base_url}/v2/models/bce/infer", content=json.dumps(document()), headers=headers
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"


def test_timeouts(base_url: str, client: InferenceServerClient) -> None:
    assert client.infer("focal", tensors(LONG), timeout=30_000_000).as_numpy("count") == [300_000]
    assert client.infer("focal", tensors(LONG), timeout=0).as_numpy("count") == [300_000]
    for late in (
        {"timeout": 1},
        {"timeout": 1, "headers": {"X-Timeout-Ms": "60000"}},
        {"timeout": 60_000_000, "headers": {"X-Timeout-Ms": "1"}},
    ):
        with pytest.raises(InferenceServerException, match="deadline") as caught:
            client.infer("focal", tensors(LONG), **late)
        assert caught.value.status() == "504"
    for wrong in (-1, "soon", 1.5, 2**63):
        refused(base_url, 422, "invalid_parameter", json=document(parameters={"timeout": wrong}))
    refused(base_url, 422, "invalid_parameter", json=document(), headers={"x-timeout-ms": "0"})


def test_an_error_leaves_the_connection_usable(base_url: str) -> None:
    with httpx.Client(base_url=base_url) as connection:
        for _ in range(3):
            wrong = connection.post("/v2/models/focal/infer", json=document(parameters={"gama": 1}))
            check_error(wrong, 422, "invalid_parameter")
            assert connection.post("/v2/models/focal/infer", json=document()).status_code == 200


def test_errors_have_retry_after() -> None:
    headers = dict(inference_problem(RequestError(ErrorCode.OVERLOADED, "full; try again"), "a").headers)
    assert int(headers[b"retry-after"]) > 0
    assert headers[b"lossd-code"] == b"overloaded"


def test_limits(tmp_path: Path) -> None:
    limits = {"max_json_bytes": 2000, "max_body_bytes": 100_000, "max_output_bytes": 20_000}

    def announcing(nbytes: int) -> tuple[bytes, dict[str, str]]:
        text = json.dumps(sized(nbytes, shape=[nbytes // 4])).encode()
        return text, {"inference-header-content-length": str(len(text))}

    with live_server(tmp_path, **limits) as server:
        arrays = {name: np.ones((30, 50), np.float32) for name in DENSE}
        body, length = InferenceServerClient.generate_request_body(
            tensors(arrays), outputs=wanted(binary=False), parameters={"reduction": "none"}
        )
        headers = {"inference-header-content-length": str(length)}
        message = refused(server.url, 413, "output_too_large", content=body, headers=headers)
        assert "ask for the loss as binary data" in message
        with InferenceServerClient(server.url.removeprefix("http://")) as client:
            result = client.infer("focal", tensors(arrays), parameters={"reduction": "none"})
            assert result.as_numpy("loss").shape == (30, 50)
            result = client.infer("focal", tensors(arrays), outputs=wanted(binary=False))
            assert result.as_numpy("count") == [1500]

        answer = httpx.post(f"{server.url}/v2/models/bce/infer", content=b"x" * 100_001, headers=headers)
        check_error(answer, 413, "body_too_large")
        long_text = {"inference-header-content-length": "2001"}
        refused(server.url, 413, "body_too_large", content=b"x" * 3000, headers=long_text)
        text = json.dumps(document()).encode() + b" " * 2000
        refused(server.url, 413, "body_too_large", content=text)
        refused(server.url, 413, "body_too_large", content=iter([text[:1000], text[1000:]]))
        gzipped = {"content-encoding": "gzip"}
        refused(server.url, 413, "body_too_large", content=gzip.compress(text), headers=gzipped)
        text, headers = announcing(2**32)
        refused(server.url, 413, "body_too_large", content=iter([text, b"\0"]), headers=headers)
        text, headers = announcing(200_000)
        coded = gzip.compress(text + b"\0" * 200_000)
        refused(server.url, 413, "expanded_too_large", content=coded, headers=headers | gzipped)
