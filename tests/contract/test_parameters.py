"""Every parameter, through every format, against mpmath."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

import reference

RNG = np.random.default_rng(5)
SHAPE = (6, 5)
X = RNG.normal(0, 4, SHAPE)
Y = RNG.integers(0, 2, SHAPE).astype(np.float64)
IDS = RNG.integers(0, SHAPE[1], SHAPE[0])
MASK = RNG.random(SHAPE) < 0.7
W = RNG.random(SHAPE)
ALPHA = [0.1, 0.25, 0.5, 0.75, 1.0]

Tensors = dict[str, npt.NDArray[Any]]


def bce(x: float, y: float, e: float = 0.0) -> reference.mpf:
    smooth = reference.mpf(y) * (1 - reference.mpf(e)) + reference.mpf(e) / 2
    return smooth * reference.bce(x, 1.0) + (1 - smooth) * reference.bce(x, 0.0)


def each(function: Any, *arrays: npt.NDArray[Any]) -> npt.NDArray[np.object_]:  # noqa: ANN401 -- any reference
    found = np.empty(SHAPE, dtype=object)
    for place in np.ndindex(SHAPE):
        found[place] = function(*(float(array[place]) for array in arrays))
    return found


BCE = each(bce, X, Y)
ONE_HOT = (IDS[:, None] == np.arange(SHAPE[1])).astype(np.float64)
TRUTH_INDEX = each(bce, X, ONE_HOT)
SMOOTHED = each(lambda x, y: bce(x, y, 0.1), X, Y)
PER_CLASS = each(lambda x, y, a: reference.focal(x, y, 1.5, a), X, Y, np.broadcast_to(np.array(ALPHA), SHAPE))

CASES: list[tuple[str, str, Tensors, dict[str, Any], Any]] = [
    ("mask", "bce", {"logits": X, "targets": Y, "mask": MASK}, {}, (BCE * MASK).sum() / int(MASK.sum())),
    (
        "mask under axis",
        "bce",
        {"logits": X, "targets": Y, "mask": MASK},
        {"axis": 0},
        (BCE * MASK).sum(axis=0) / MASK.sum(axis=0),
    ),
    ("none", "bce", {"logits": X, "targets": Y, "mask": MASK}, {"reduction": "none"}, BCE * MASK),
    ("index", "bce", {"logits": X, "targets": IDS}, {"targets_format": "index"}, TRUTH_INDEX.mean()),
    (
        "index on another axis",
        "bce",
        {"logits": X.T.copy(), "targets": IDS},
        {"targets_format": "index", "class_axis": 0, "reduction": "none"},
        TRUTH_INDEX.T,
    ),
    (
        "ignored ids",
        "bce",
        {"logits": X, "targets": np.where(IDS == 2, -100, IDS)},
        {"targets_format": "index", "ignore_index": -100, "reduction": "sum"},
        (TRUTH_INDEX * (IDS != 2)[:, None]).sum(),
    ),
    ("smoothing", "bce", {"logits": X, "targets": Y}, {"label_smoothing": 0.1}, SMOOTHED.mean()),
    (
        "divided by weights",
        "bce",
        {"logits": X, "targets": Y, "weight": W},
        {"normalizer": "weight"},
        (BCE * W).sum() / math.fsum(W.ravel()),
    ),
    (
        "divided by weights under axis",
        "bce",
        {"logits": X, "targets": Y, "weight": W},
        {"normalizer": "weight", "axis": 1},
        (BCE * W).sum(axis=1) / np.array([math.fsum(row) for row in W]),
    ),
    (
        "divided by positives",
        "bce",
        {"logits": X, "targets": Y},
        {"normalizer": "positives"},
        BCE.sum() / Y.sum(),
    ),
    ("divided by a number", "bce", {"logits": X, "targets": Y}, {"normalizer": 2.5}, BCE.sum() / 2.5),
    ("alpha a class", "focal", {"logits": X, "targets": Y}, {"alpha": ALPHA}, PER_CLASS.mean()),
]
FORMS = ["json", "npy", "multipart"]


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def send(url: str, loss: str, form: str, tensors: Tensors, params: dict[str, Any]) -> httpx.Response:
    address = f"{url}/{loss}"
    if form == "json":
        return httpx.post(address, json={**{k: v.tolist() for k, v in tensors.items()}, **params})
    query = {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}
    if form == "multipart":
        return httpx.post(address, params=query, files={k: npy(v) for k, v in tensors.items()})
    query["tensors"] = ",".join(tensors)
    body = b"".join(map(npy, tensors.values()))
    return httpx.post(address, params=query, content=body, headers={"content-type": "application/x-npy"})


@pytest.mark.parametrize(
    ("loss", "tensors", "params", "true"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_parameters(base_url: str, loss: str, tensors: Tensors, params: dict[str, Any], true: object) -> None:
    answers = []
    for form in FORMS:
        answer = send(base_url, loss, form, tensors, params)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
        del answers[-1]["request_id"]
    assert answers[1] == answers[0]
    assert answers[2] == answers[0]
    np.testing.assert_allclose(
        np.asarray(answers[0]["loss"]), np.asarray(true, dtype=np.float64), rtol=4e-15, atol=0
    )


@pytest.mark.parametrize("variant", ["sigmoid", "exp", "quality"])
def test_variants(base_url: str, variant: str) -> None:
    params = {"variant": variant, "gamma": 2, "alpha": None}
    answer = send(base_url, "focal", "json", {"logits": np.array([2.0]), "targets": np.array([0.7])}, params)
    x, y = reference.mpf(2), reference.mpf(0.7)
    p = 1 / (1 + reference.exp(-x))
    cross_entropy = reference.bce(2.0, 0.7)
    modulator = {
        "sigmoid": y * (1 - p) + (1 - y) * p,
        "exp": 1 + reference.mpf(1) / 10**6 - reference.exp(-cross_entropy),
        "quality": abs(y - p),
    }[variant]
    assert answer.json()["loss"] == pytest.approx(float(modulator**2 * cross_entropy), rel=4e-15)
    assert answer.json()["params"] == {"gamma": 2.0, "alpha": None, "variant": variant}


def test_probabilities(base_url: str) -> None:
    # scikit-learn, sklearn/metrics/tests/test_classification.py, test_log_loss
    tensors = {
        "probabilities": np.array([0.5, 0.9, 0.99, 0.1, 0.25, 0.999]),
        "targets": np.array([0, 0, 0, 1, 1, 1]),
    }
    for form in FORMS:
        assert send(base_url, "bce", form, tensors, {}).json()["loss"] == pytest.approx(1.8817971, rel=1e-7)
    both = send(base_url, "bce", "json", {**tensors, "logits": tensors["probabilities"]}, {})
    assert (both.status_code, both.json()["code"]) == (422, "invalid_parameter")
    outside = send(base_url, "bce", "json", {**tensors, "probabilities": np.full(6, 1.5)}, {}).json()
    assert (outside["code"], outside["errors"][0]["pointer"]) == (
        "probability_out_of_range",
        "/probabilities/0",
    )


BAD: list[tuple[Tensors, dict[str, Any], int, str, str | None]] = [
    (
        {"logits": X, "targets": np.full(6, 5)},
        {"targets_format": "index"},
        422,
        "target_out_of_range",
        "/targets/0",
    ),
    ({"logits": X, "targets": np.full(6, 0.5)}, {"targets_format": "index"}, 415, "dtype_not_allowed", None),
    ({"logits": X, "targets": IDS[:5]}, {"targets_format": "index"}, 422, "shape_mismatch", "/targets"),
    ({"logits": X, "targets": Y, "mask": MASK[:, :2]}, {}, 422, "shape_mismatch", "/mask"),
    ({"logits": X, "targets": Y, "mask": MASK & False}, {}, 422, "empty_mean", None),
    ({"logits": X, "targets": Y}, {"class_axis": 2}, 422, "invalid_parameter", "/class_axis"),
    ({"logits": X, "targets": Y}, {"normalizer": 0}, 422, "invalid_parameter", "/normalizer"),
    ({"logits": X, "targets": Y}, {"label_smoothing": 1}, 422, "invalid_parameter", "/label_smoothing"),
    ({"logits": X, "targets": Y}, {"allow_nan": 1}, 422, "invalid_parameter", "/allow_nan"),
    (
        {"logits": X, "targets": Y},
        {"normalizer": "count", "reduction": "none"},
        422,
        "invalid_parameter",
        None,
    ),
    ({"logits": X, "targets": Y, "weight": W * 0}, {"normalizer": "weight"}, 422, "empty_mean", None),
]


@pytest.mark.parametrize(("tensors", "params", "status", "code", "pointer"), BAD)
def test_bad_parameters(
    base_url: str, tensors: Tensors, params: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    for form in FORMS:
        answer = send(base_url, "bce", form, tensors, params)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        if pointer is not None:
            assert answer.json()["errors"][0]["pointer"] == pointer


def test_an_empty_output_is_named(base_url: str) -> None:
    mask = MASK | True
    mask[3] = False
    answer = send(base_url, "bce", "npy", {"logits": X, "targets": Y, "mask": mask}, {"axis": 1}).json()
    assert (answer["code"], answer["errors"][0]["pointer"]) == ("empty_mean", "/loss/3")
    total = {"axis": 1, "reduction": "sum"}
    kept = send(base_url, "bce", "npy", {"logits": X, "targets": Y, "mask": mask}, total).json()
    assert kept["loss"][3] == 0.0


def test_nan(base_url: str) -> None:
    x = X.copy()
    x[2, 3] = np.nan
    found = send(base_url, "bce", "npy", {"logits": x, "targets": Y}, {}).json()
    assert (found["code"], found["errors"][0]["pointer"]) == ("non_finite_input", "/logits/2/3")
    allowed = send(base_url, "bce", "npy", {"logits": x, "targets": Y}, {"allow_nan": True, "axis": 1}).json()
    assert [value == "NaN" for value in allowed["loss"]] == [i == 2 for i in range(6)]
    mask = np.ones(SHAPE, bool)
    mask[2, 3] = False
    dropped = send(base_url, "bce", "npy", {"logits": x, "targets": Y, "mask": mask}, {}).json()
    assert (dropped["count"], dropped["loss"]) == (
        29,
        pytest.approx(float((BCE * mask).sum() / 29), rel=4e-15),
    )
