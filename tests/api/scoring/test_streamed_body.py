"""Arrow streams through a server with small windows: the same bits as one .npy request."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from arrow_stream import stream
from live_server import LiveServer, live_server

pytestmark = pytest.mark.slow

MEDIA = "application/vnd.apache.arrow.stream"
BATCH_BYTES = 300_000
RNG = np.random.default_rng(4)

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("small"), max_batch_bytes=BATCH_BYTES) as running:
        yield running


def send(
    server: LiveServer, tensors: Arrays, params: dict[str, Any], rows: int, *, chunked: bool
) -> httpx.Response:
    body = stream(tensors, rows)
    pieces = (body[i : i + 70_001] for i in range(0, len(body), 70_001))
    return ask(server, MEDIA, pieces if chunked else body, params)


def ask(
    server: LiveServer, media: str, body: bytes | Iterator[bytes], params: dict[str, Any], loss: str = "focal"
) -> httpx.Response:
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    headers = {"content-type": media, "accept": "application/x-npy"}
    return httpx.post(f"{server.url}/{loss}", content=body, params=query, headers=headers, timeout=60)


def as_npy(server: LiveServer, tensors: Arrays, params: dict[str, Any]) -> httpx.Response:
    file = io.BytesIO()
    for array in tensors.values():
        np.save(file, array)
    return ask(server, "application/x-npy", file.getvalue(), {**params, "tensors": ",".join(tensors)})


def inputs(n: int, c: int | None) -> Arrays:
    shape = (n,) if c is None else (n, c)
    return {
        "logits": RNG.normal(0, 4, shape).astype(np.float32),
        "targets": RNG.random(shape) < 0.3,
    }


def weighted(n: int, c: int) -> Arrays:
    return inputs(n, c) | {"weight": RNG.random((n, 1)), "mask": RNG.random((n, c)) < 0.9}


def by_index(n: int, c: int) -> Arrays:
    return {
        "targets": RNG.integers(-1, c, n).astype(np.int16),
        "probabilities": RNG.random((n, c)),
    }


def _as_floats(tensors: Arrays) -> Arrays:
    return {**tensors, "targets": tensors["targets"].astype(np.float32)}


def _with_nan(tensors: Arrays) -> Arrays:
    return {**tensors, "targets": np.where(RNG.random((20_000, 7)) < 0.1, np.nan, tensors["targets"])}


INDEX = {"targets_format": "index", "ignore_index": -1}
CASES: list[tuple[str, Arrays, dict[str, Any], int]] = [
    ("mean", inputs(50_000, 7), {}, 1000),
    ("tiny batches", inputs(3_000, 7), {}, 3),
    ("odd width", inputs(9_000, 81), {}, 700),
    ("by sample", inputs(20_000, 7), {"axis": 1}, 999),
    ("by class", inputs(50_000, 7), {"axis": 0, "reduction": "sum"}, 4_000),
    ("none", inputs(20_000, 7), {"reduction": "none"}, 3_000),
    ("none of both axes' sums", inputs(10_000, 7), {"axis": [0, 1]}, 3_000),
    ("flat", inputs(300_000, None), {}, 60_000),
    ("flat none", inputs(200_000, None), {"reduction": "none"}, 50_000),
    ("flat with pos_weight", inputs(100_000, None) | {"pos_weight": RNG.random(100_000)}, {}, 7_777),
    ("pos_weight a row", inputs(20_000, 7) | {"pos_weight": RNG.random((20_000, 1))}, {}, 2_500),
    (
        "pos_weight an element",
        inputs(20_000, 7) | {"pos_weight": RNG.random((20_000, 7))},
        {"axis": 0},
        2_500,
    ),
    ("background", by_index(60_000, 9), {"targets_format": "index", "background_index": -1}, 2_000),
    ("ids that are floats", _as_floats(by_index(60_000, 9)), INDEX, 2_000),
    ("missing labels", _with_nan(inputs(20_000, 7)), {"ignore_index": "nan"}, 2_500),
    ("width 1", inputs(100_000, 1), {"axis": 1}, 20_000),
    ("wide by sample", inputs(30, 40_000), {"axis": 1}, 1),
    ("wide by class", inputs(30, 40_000), {"axis": 0}, 1),
    ("wide", inputs(30, 40_000), {}, 1),
    ("wide none", inputs(9, 40_000), {"reduction": "none"}, 1),
    ("weighted", weighted(30_000, 7), {"normalizer": "weight"}, 2_500),
    ("weighted by sample", weighted(30_000, 7), {"normalizer": "weight", "axis": 1}, 2_500),
    ("masked by class", weighted(30_000, 7), {"axis": 0, "pos_weight": [1, 2, 3, 4, 5, 6, 7.5]}, 2_500),
    ("alpha a class", inputs(20_000, 4), {"alpha": [0.1, 0.2, 0.3, 0.4]}, 2_500),
    ("index", by_index(60_000, 9), INDEX, 2_000),
    ("index by sample", by_index(60_000, 9), {**INDEX, "axis": 1, "reduction": "sum"}, 2_000),
    ("wide index", by_index(20, 30_000), INDEX, 1),
    ("one row", inputs(1, 7), {"axis": 0}, 1),
    ("one wide row", inputs(1, 40_000), {"axis": 0}, 1),
    ("one row by sample", inputs(1, 40_000), {"axis": 1}, 1),
    ("no rows", inputs(0, 7), {"reduction": "sum"}, 1),
    ("no rows none", inputs(0, 7), {"reduction": "none"}, 1),
    ("no rows by class", inputs(0, 7), {"reduction": "sum", "axis": 0}, 1),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(
    ("tensors", "params", "rows"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_the_bits_of_one_request(
    small: LiveServer, tensors: Arrays, params: dict[str, Any], rows: int, chunked: bool
) -> None:
    found = send(small, tensors, params, rows, chunked=chunked)
    expected = as_npy(small, tensors, params)
    assert found.status_code == expected.status_code == 200, found.text
    assert found.content == expected.content
    for name in ("lossd-sum", "lossd-count", "lossd-weight-sum", "lossd-positives"):
        assert found.headers[name] == expected.headers[name]


def test_a_mean_over_no_rows_is_refused(small: LiveServer) -> None:
    found = send(small, inputs(0, 7), {}, 1, chunked=False)
    assert (found.status_code, found.json()["code"]) == (422, "empty_mean")


@pytest.mark.parametrize("row", [0, 12_345, 49_999])
def test_a_bad_value_is_named_by_its_row_in_the_stream(small: LiveServer, row: int) -> None:
    tensors = inputs(50_000, 7)
    tensors["targets"] = tensors["targets"].astype(np.float32)
    tensors["targets"][row, 3] = 1.5
    found = send(small, tensors, {}, 1000, chunked=True)
    assert (found.status_code, found.json()["code"]) == (422, "target_out_of_range")
    assert found.json()["errors"][0]["pointer"] == f"/targets/{row}/3"


def test_a_batch_over_the_limit_is_refused(small: LiveServer) -> None:
    found = send(small, inputs(50_000, 7), {}, 50_000, chunked=False)
    assert (found.status_code, found.json()["code"]) == (413, "body_too_large")
    assert "max_chunksize" in found.json()["detail"]


UNFIT: dict[str, tuple[Arrays, dict[str, Any], int, str]] = {
    "widths": ({"logits": np.zeros((4, 3)), "targets": np.zeros((4, 2))}, {}, 422, "shape_mismatch"),
    "no targets": ({"logits": np.zeros((4, 3))}, {}, 422, "missing_tensor"),
    "both": (
        {"logits": np.zeros(4), "probabilities": np.zeros(4), "targets": np.zeros(4)},
        {}, 422, "invalid_parameter",
    ),
    "ids that are not whole": (
        {"logits": np.zeros((4, 3)), "targets": np.full(4, 0.5)},
        {"targets_format": "index"}, 415, "dtype_not_allowed",
    ),
    "a number for each row": (
        {"logits": np.zeros((4, 3)), "targets": np.zeros((4, 3))},
        {"pos_weight": [1, 2, 3, 4], "class_axis": 0}, 422, "invalid_parameter",
    ),
    "pos_weight of other rows": (
        {"logits": np.zeros((4, 3)), "targets": np.zeros((4, 3)), "pos_weight": np.zeros((4, 2))},
        {}, 422, "shape_mismatch",
    ),
    "axis": (
        {"logits": np.zeros((4, 3)), "targets": np.zeros((4, 3))}, {"axis": 2}, 422, "invalid_parameter"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "params", "status", "code"), UNFIT.values(), ids=UNFIT)
def test_tensors_that_do_not_fit(
    small: LiveServer, tensors: Arrays, params: dict[str, Any], status: int, code: str
) -> None:
    found = send(small, tensors, params, 2, chunked=False)
    assert (found.status_code, found.json()["code"]) == (status, code), found.text


def test_an_answer_that_outgrows_its_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    with live_server(tmp_path_factory.mktemp("limited"), max_output_bytes=8 * 7 * 10_000) as limited:
        tensors = inputs(10_001, 7)
        for chunked in (False, True):
            found = send(limited, tensors, {"reduction": "none"}, 500, chunked=chunked)
            assert (found.status_code, found.json()["code"]) == (413, "output_too_large")
        exact = {name: array[:10_000] for name, array in tensors.items()}
        assert send(limited, exact, {"reduction": "none"}, 500, chunked=True).status_code == 200
        # Sums over the rows come with terms, which are text in JSON: four arrays of 10,000 in all.
        query = {"tensors": "logits,targets", "axis": "0", "reduction": "sum"}
        file = io.BytesIO()
        for array in inputs(2, 10_000).values():
            np.save(file, array)
        for accept, status in (("application/x-npy", 200), ("application/json", 413)):
            headers = {"content-type": "application/x-npy", "accept": accept}
            answer = httpx.post(f"{limited.url}/bce", content=file.getvalue(), params=query, headers=headers)
            assert answer.status_code == status


def test_nothing_stays_reserved(small: LiveServer) -> None:
    metrics = httpx.get(f"{small.url}/metrics", timeout=10).text
    assert "lossd_bytes_in_flight 0.0" in metrics
