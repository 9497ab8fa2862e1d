"""Every format gives the true number, computed with mpmath rather than the core."""

from __future__ import annotations

import gzip
import io
import json
import math
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

import reference
from arrow_stream import stream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RNG = np.random.default_rng(11)
X = RNG.normal(0, 5, (9, 7)).astype(np.float32)
Y = np.where(RNG.random((9, 7)) < 0.5, RNG.random((9, 7)), RNG.integers(0, 2, (9, 7))).astype(np.float32)
W = RNG.random((9, 1)).astype(np.float64)
K = np.array([0.5, 1.0, 2.0, 1.5, 3.0, 1.0, 0.0])

Loss = dict[str, Any]


def npy(*arrays: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


def truth(loss: str, *, weighted: bool, params: Loss) -> npt.NDArray[np.object_]:
    own = tuple((name, params[name]) for name in ("gamma", "alpha") if name in params)
    return _truth(loss, weighted, own)


@cache
def _truth(loss: str, weighted: bool, own: tuple[tuple[str, Any], ...]) -> npt.NDArray[np.object_]:
    elements: dict[str, Callable[..., Any]] = {"bce": reference.bce, "focal": reference.focal}
    each = np.empty(X.shape, dtype=object)
    for i, j in np.ndindex(X.shape):
        k = {"pos_weight": float(K[j])} if weighted else {}
        each[i, j] = elements[loss](float(X[i, j]), float(Y[i, j]), **dict(own), **k) * (
            float(W[i, 0]) if weighted else 1
        )
    return each


def reduced(each: npt.NDArray[np.object_], params: Loss) -> Any:  # noqa: ANN401 -- an mpf or an array of them
    reduction, axis = params.get("reduction", "mean"), params.get("axis")
    if reduction == "none":
        return each
    axes = tuple(range(each.ndim)) if axis is None else tuple(np.atleast_1d(axis) % each.ndim)
    total = np.add.reduce(each, axis=axes)
    return total / (each.size // np.size(total)) if reduction == "mean" else total


def send(url: str, loss: str, form: str, *, weighted: bool, params: Loss) -> httpx.Response:
    tensors: dict[str, npt.NDArray[Any]] = {"logits": X, "targets": Y}
    if weighted:
        tensors |= {"weight": W, "pos_weight": K}
    address = f"{url}/{loss}"
    if form == "json":
        body = {name: array.astype(np.float64).tolist() for name, array in tensors.items()}
        return httpx.post(address, json={**body, **params}, timeout=30)
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    if form == "npy":
        query["tensors"] = ",".join(tensors)
        headers = {"content-type": "application/x-npy"}
        return httpx.post(address, params=query, content=npy(*tensors.values()), headers=headers, timeout=30)
    if form.startswith("npz"):
        file = io.BytesIO()
        save: Callable[..., None] = np.savez if form == "npz" else np.savez_compressed
        save(file, **tensors)
        headers = {"content-type": "application/x-npz"}
        return httpx.post(address, params=query, content=file.getvalue(), headers=headers, timeout=30)
    if form.startswith("arrow"):
        if "pos_weight" in tensors:
            query["pos_weight"] = json.dumps(tensors.pop("pos_weight").tolist())
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
        arrow = stream(tensors, rows=4)
        pieces = (arrow[i : i + 100] for i in range(0, len(arrow), 100))
        content = arrow if form == "arrow" else pieces
        return httpx.post(address, params=query, content=content, headers=headers, timeout=30)
    if form in CODINGS:
        query["tensors"] = ",".join(tensors)
        headers = {"content-type": "application/x-npy", "content-encoding": form}
        coded = CODINGS[form](npy(*tensors.values()))
        return httpx.post(address, params=query, content=coded, headers=headers, timeout=30)
    files = {name: (f"{name}.npy", npy(array)) for name, array in tensors.items()}
    if form == "multipart":
        return httpx.post(address, params=query, files=files, timeout=30)
    assert form == "multipart with params"
    return httpx.post(address, files={**files, "params": (None, json.dumps(params).encode())}, timeout=30)


CASES: list[tuple[str, Loss]] = [
    ("bce", {}),
    ("bce", {"reduction": "sum"}),
    ("bce", {"reduction": "none"}),
    ("bce", {"axis": 0}),
    ("focal", {}),
    ("focal", {"gamma": 2, "alpha": None, "axis": 1}),
    ("focal", {"gamma": 0.7, "alpha": 0.9, "axis": [0, -1], "reduction": "sum"}),
]
FORMS = [
    "json",
    "npy",
    "npz",
    "npz deflated",
    "multipart",
    "multipart with params",
    "arrow",
    "arrow chunked",
    *CODINGS,
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("loss", "params"), CASES)
@pytest.mark.parametrize("form", FORMS)
def test_the_true_number(base_url: str, loss: str, params: Loss, weighted: bool, form: str) -> None:
    answer = send(base_url, loss, form, weighted=weighted, params=params)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    each = truth(loss, weighted=weighted, params=params)
    expected = np.asarray(reduced(each, params), dtype=np.float64)
    np.testing.assert_allclose(np.asarray(found["loss"]), expected, rtol=4e-15, atol=0)
    assert np.shape(found["loss"]) == expected.shape
    assert found["sum"] == pytest.approx(float(each.sum()), rel=4e-15)
    assert found["count"] == X.size
    assert found["positives"] == math.fsum(Y.ravel().astype(np.float64))
    assert found["weight_sum"] == pytest.approx(math.fsum(W.ravel()) * 7 if weighted else X.size, rel=1e-15)
    assert found["shape"] == list(X.shape)
    assert found["loss_name"] == loss
    assert found["reduction"] == params.get("reduction", "mean")
    own = {"gamma": 1.5, "alpha": 0.25, "variant": "sigmoid"} if loss == "focal" else {}
    assert found["params"] == {name: params.get(name, value) for name, value in own.items()}


@pytest.mark.parametrize(("loss", "params"), CASES)
def test_every_format_gives_the_same_bits(base_url: str, loss: str, params: Loss) -> None:
    bodies = [send(base_url, loss, form, weighted=True, params=params).json() for form in FORMS]
    for body in bodies:
        del body["request_id"]
        assert body["options"].pop("pos_weight") in (
            {"dtype": "float64", "shape": [7]},  # where it is a tensor
            K.tolist(),
        )
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize(("loss", "params"), CASES)
def test_npy_answers_hold_the_same_bits(base_url: str, loss: str, params: Loss) -> None:
    expected = send(base_url, loss, "npy", weighted=False, params=params).json()
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    for dtype in ("float64", "float32"):
        accept = "application/x-npy" + (";dtype=float32" if dtype == "float32" else "")
        answer = httpx.post(
            f"{base_url}/{loss}",
            params=query,
            content=npy(X, Y),
            headers={"content-type": "application/x-npy", "accept": accept},
        )
        assert answer.status_code == 200, answer.text
        got = np.load(io.BytesIO(answer.content), allow_pickle=False)
        np.testing.assert_array_equal(got, np.asarray(expected["loss"]).astype(dtype))
        assert (got.dtype, got.shape) == (np.dtype(dtype), np.shape(expected["loss"]))
        for name in ("sum", "weight_sum", "positives"):
            header = f"Lossd-{name.replace('_', '-')}"
            assert float(answer.headers[header]) == expected[name]
            terms = answer.headers[f"{header}-Terms"].split(",")
            assert list(map(float, terms)) == expected[f"{name}_terms"]
        assert int(answer.headers["Lossd-Count"]) == expected["count"]


def exactly(numbers: npt.ArrayLike) -> list[float]:
    """The terms of a sum: the rounded sum, the rounded rest, and so on until nothing is left."""
    left = np.ravel(numbers).tolist()
    terms = [math.fsum(left)]  # which is the exact sum, rounded once
    while rest := math.fsum([*left, *(-term for term in terms)]):
        terms.append(rest)
    return terms


@pytest.mark.parametrize("shape", [(9, 7), (3000, 50)])
@pytest.mark.parametrize("normalizer", ["count", "weight", "positives", 3.0])
def test_terms_add_up_to_the_sums_exactly(base_url: str, shape: tuple[int, ...], normalizer: object) -> None:
    rng = np.random.default_rng(5)
    x, y, w = rng.normal(0, 5, shape), rng.random(shape), rng.random(shape) + 0.1
    kept = rng.random(shape) < 0.9

    def ask(**params: object) -> dict[str, Any]:
        query = {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()
        }
        query["tensors"] = "logits,targets,weight,mask"
        headers = {"content-type": "application/x-npy"}
        answer = httpx.post(f"{base_url}/focal", params=query, content=npy(x, y, w, kept), headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    each = np.array(ask(reduction="none")["loss"])
    summed = {"sum": each, "weight_sum": w * kept, "positives": y * kept}
    divided = {"count": kept.astype(np.float64), "weight": w * kept, "positives": y * kept}
    divisors = [exactly(column) for column in divided[normalizer].T] if normalizer in divided else [[3.0]]
    least = 1.0 if normalizer == "positives" else 0.0
    for reduction in ("sum", "mean"):
        found = ask(reduction=reduction, axis=0, normalizer=normalizer)
        for name, numbers in summed.items():
            assert found[f"{name}_terms"] == exactly(numbers)
            assert found[name] == found[f"{name}_terms"][0]
        columns = list(map(exactly, each.T))
        assert [list(trimmed(column)) for column in zip(*found["loss_terms"], strict=True)] == columns
        terms = [list(trimmed(column)) for column in zip(*found["divisor_terms"], strict=True)]
        assert terms == divisors * (shape[1] // len(divisors))
        by = [max(divisor[0], least) if reduction == "mean" else 1.0 for divisor in terms]
        assert found["loss"] == [column[0] / divisor for column, divisor in zip(columns, by, strict=True)]
    for params in ({}, {"axis": 1}, {"axis": [0, 1]}, {"reduction": "none"}):
        assert not {"loss_terms", "divisor_terms"} & ask(**params).keys()


def trimmed(terms: tuple[float, ...]) -> tuple[float, ...]:
    """Terms without trailing zeros, which pad those of other outputs."""
    return terms if len(terms) == 1 or terms[-1] else trimmed(terms[:-1])


def test_fortran_order_and_big_endian_give_the_same_bits(base_url: str) -> None:
    expected = send(base_url, "focal", "npy", weighted=False, params={}).json()["loss"]
    for x in (np.asfortranarray(X), X.astype(">f4")):
        for y in (np.asfortranarray(Y), Y.astype(">f4"), Y):
            answer = httpx.post(
                f"{base_url}/focal", content=npy(x, y), headers={"content-type": "application/x-npy"}
            )
            assert answer.json()["loss"] == expected


def test_bfloat16_as_ml_dtypes_saves_it(base_url: str) -> None:
    exact = np.array([[-1.5, 0.25, 3.0]], dtype=np.float32)  # representable in bfloat16
    bits = (exact.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    y = np.array([[1, 0, 1]], dtype=np.int8)
    headers = {"content-type": "application/x-npy"}
    got = httpx.post(f"{base_url}/bce", content=npy(bits, y), headers=headers)
    assert got.status_code == 200, got.text
    assert (
        got.json()["loss"]
        == httpx.post(f"{base_url}/bce", content=npy(exact, y), headers=headers).json()["loss"]
    )


@pytest.mark.parametrize("n", [0, 1, 63, 8191, 8192, 8193, 300_000])
def test_any_length(base_url: str, n: int) -> None:
    x, y = np.linspace(-30, 30, n), np.linspace(0, 1, n)
    answer = httpx.post(
        f"{base_url}/bce",
        params={"reduction": "sum"},
        content=npy(x, y),
        headers={"content-type": "application/x-npy"},
    ).json()
    step = max(1, n // 2000)
    some = math.fsum(
        float(reference.bce(float(a), float(b))) for a, b in zip(x[::step], y[::step], strict=True)
    )
    if step == 1:
        assert answer["loss"] == pytest.approx(some, rel=1e-14, abs=0)
    else:
        assert answer["loss"] == pytest.approx(some * n / len(x[::step]), rel=2e-3)
    assert answer["count"] == n


def test_zero_size_arrays(base_url: str) -> None:
    def ask(shape: tuple[int, ...], **params: str) -> httpx.Response:
        body = npy(np.zeros(shape), np.zeros(shape))
        return httpx.post(
            f"{base_url}/bce", params=params, content=body, headers={"content-type": "application/x-npy"}
        )

    assert ask((0, 3), reduction="none").json()["loss"] == []
    assert ask((3, 0), reduction="none").json()["loss"] == [[], [], []]
    assert ask((0, 3), reduction="sum").json()["loss"] == 0.0
    assert ask((0, 3), reduction="sum", axis="0").json()["loss"] == [0.0, 0.0, 0.0]
    assert ask((0, 3), axis="1").json()["loss"] == []
    for params in ({}, {"axis": "0"}):
        assert ask((0, 3), **params).json()["code"] == "empty_mean"


def test_infinite_losses_are_strings(base_url: str) -> None:
    body = npy(np.array([[np.inf], [0.0]]), np.array([[0.0], [1.0]]))
    headers = {"content-type": "application/x-npy"}
    whole = httpx.post(f"{base_url}/bce", content=body, headers=headers).json()
    assert (whole["loss"], whole["sum"]) == ("Infinity", "Infinity")
    rows = httpx.post(f"{base_url}/bce?axis=1", content=body, headers=headers).json()
    assert rows["loss"] == ["Infinity", math.log(2)]
    assert (whole["sum_terms"], rows["sum_terms"]) == (["Infinity"], ["Infinity"])


def test_the_curl_command_of_the_readme(base_url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    done = subprocess.run(
        ["curl", "-sS", "-F", "logits=@x.npy", "-F", "targets=@y.npy", f"{base_url}/focal?gamma=2"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=30,
    )
    expected = reduced(truth("focal", weighted=False, params={"gamma": 2}), {})
    assert json.loads(done.stdout)["loss"] == pytest.approx(float(expected), rel=4e-15)


def test_long_json_gives_the_bits_of_npy(base_url: str) -> None:
    x = RNG.normal(0, 5, (3000, 40)).astype(np.float32)
    y = (RNG.random((3000, 40)) < 0.1).astype(np.float32)
    headers = {"content-type": "application/x-npy"}
    binary = httpx.post(f"{base_url}/focal", content=npy(x, y), headers=headers, timeout=30).json()
    document = {"logits": x.tolist(), "targets": y.astype(bool).tolist()}
    text = httpx.post(f"{base_url}/focal", json=document, timeout=30).json()
    assert (text["loss"], text["sum"], text["count"]) == (binary["loss"], binary["sum"], binary["count"])
