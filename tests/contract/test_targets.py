"""Targets, masks and weights: integers of any dtype, backgrounds, missing labels."""

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

X = np.array([[2, -4, -5], [0.5, -1, 1], [1, -5, -4], [0, 2, -1]], dtype=np.float32)
IDS = np.array([0, 3, 2, 3])
DENSE = np.eye(4)[IDS][:, :3]
INTEGERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")

Array = npt.NDArray[Any]


def send(url: str, loss: str, tensors: dict[str, Array], **params: object) -> httpx.Response:
    file = io.BytesIO()
    for array in tensors.values():
        np.save(file, array)
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    return httpx.post(
        f"{url}/{loss}",
        params={"tensors": ",".join(tensors), **query},
        content=file.getvalue(),
        headers={"content-type": "application/x-npy"},
    )


def true_sum(loss: str, targets: Array, rows: tuple[int, ...] = (0, 1, 2, 3), **own: Any) -> float:  # noqa: ANN401 -- the loss's parameters
    return float(
        sum(
            reference.element(loss, float(X[i, j]), float(targets[i, j]), **own)
            for i in rows
            for j in range(3)
        )
    )


@pytest.mark.parametrize("params", [{"background_index": 3}, {"background_index": 3, "ignore_index": 255}])
@pytest.mark.parametrize("dtype", [*INTEGERS, "f2", "f8"])
def test_a_background_counts_as_no_class(base_url: str, dtype: str, params: dict[str, int]) -> None:
    own: dict[str, Any] = {"gamma": 2.0}
    options = {"reduction": "sum", "targets_format": "index", **params, **own}
    answer = send(base_url, "focal", {"logits": X, "targets": IDS.astype(dtype)}, **options)
    found = answer.json()
    assert found["sum"] == pytest.approx(true_sum("focal", DENSE, **own), rel=1e-14)
    assert (found["count"], found["positives"]) == (12, 2.0)
    assert found["options"]["background_index"] == 3
    assert found["options"]["ignore_index"] == params.get("ignore_index")
    body = {"logits": X.tolist(), "targets": IDS.tolist(), **options}
    assert httpx.post(f"{base_url}/focal", json=body).json()["sum"] == found["sum"]


def test_an_id_out_of_range_suggests_what_it_means(base_url: str) -> None:
    answer = send(base_url, "bce", {"logits": X, "targets": IDS}, targets_format="index")
    found = answer.json()
    assert (answer.status_code, found["code"]) == (422, "target_out_of_range")
    assert found["errors"][0]["pointer"] == "/targets/1"
    for said in ("background_index=3 counts it", "ignore_index=3 leaves it out", "subtract 1"):
        assert said in found["detail"]


def test_a_background_needs_index_targets(base_url: str) -> None:
    for params in ({}, {"targets_format": "index", "ignore_index": 3}):
        answer = send(base_url, "bce", {"logits": X, "targets": DENSE}, background_index=3, **params)
        assert answer.json()["code"] == "invalid_parameter"


@pytest.mark.parametrize("form", ["npy", "json"])
def test_missing_labels_are_dropped(base_url: str, form: str) -> None:
    targets = DENSE.copy()
    targets[1] = math.nan
    expected = true_sum("bce", DENSE, rows=(0, 2, 3))
    if form == "npy":
        answer = send(base_url, "bce", {"logits": X, "targets": targets}, ignore_index="nan")
    else:
        rows = [[None if math.isnan(y) else y for y in row] for row in targets.tolist()]
        body = {"logits": X.tolist(), "targets": rows, "ignore_index": "nan"}
        answer = httpx.post(f"{base_url}/bce", json=body)
    found = answer.json()
    assert found["sum"] == pytest.approx(expected, rel=1e-14)
    assert found["count"] == 9
    assert found["options"]["ignore_index"] == "nan"


@pytest.mark.parametrize("dtype", INTEGERS)
def test_masks_and_weights_of_integers(base_url: str, dtype: str) -> None:
    mask, weight = np.array([[1], [0], [1], [1]]), np.array([[1], [2], [3], [4]])
    tensors = {"logits": X, "targets": DENSE, "mask": mask.astype(dtype), "weight": weight.astype(dtype)}
    found = send(base_url, "bce", tensors, pos_weight=2).json()
    floats = {"logits": X, "targets": DENSE, "mask": mask == 1, "weight": weight * 1.0}
    assert found["loss"] == send(base_url, "bce", floats, pos_weight=2).json()["loss"]
    assert (found["count"], found["weight_sum"]) == (9, 24.0)
    wrong = {**tensors, "mask": (mask * 2).astype(dtype)}
    refused = send(base_url, "bce", wrong)
    assert (refused.status_code, refused.json()["code"]) == (422, "weight_out_of_range")
    assert refused.json()["errors"] == [{"pointer": "/mask/0/0", "detail": "2 is neither 0 nor 1"}]


@pytest.mark.parametrize(
    "k", [np.array([1, 2, 3]).reshape(3, 1), np.arange(12).reshape(3, 4), np.array([[2.5]])]
)
def test_a_pos_weight_in_the_shape_of_torch(base_url: str, k: Array) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4)), np.random.default_rng(1).random((2, 3, 4))
    found = send(base_url, "bce", {"logits": x, "targets": y, "pos_weight": k}, reduction="none").json()
    every = np.broadcast_to(k, x.shape)
    expected = [
        float(reference.bce(float(x[at]), float(y[at]), float(every[at]))) for at in np.ndindex(x.shape)
    ]
    np.testing.assert_allclose(np.ravel(found["loss"]), expected, rtol=1e-14)
    assert found["options"]["pos_weight"] == {"dtype": k.dtype.name, "shape": list(k.shape)}
    refused = send(base_url, "bce", {"logits": x, "targets": y, "pos_weight": np.ones((2, 4))})
    assert refused.json()["code"] == "shape_mismatch"


@pytest.mark.parametrize(
    ("name", "shape", "as_other"),
    [
        ("weight", [3], [3, 1]),
        ("mask", [3], [3, 1]),
        ("pos_weight", [3, 1], [1, 3]),
        ("weight", [1, 3], [3, 1]),
    ],
)
def test_an_ambiguous_shape_has_a_note(
    base_url: str, name: str, shape: list[int], as_other: list[int]
) -> None:
    tensors = {"logits": X[:3], "targets": DENSE[:3], name: np.ones(shape, dtype=np.uint8)}
    [note] = send(base_url, "bce", tensors).json()["notes"]
    assert note.startswith(f"{name} of shape {shape} goes along axis ")
    assert note.endswith(f"send it in the shape {as_other}")
    assert json.loads(
        httpx.post(
            f"{base_url}/bce",
            params={"tensors": ",".join(tensors)},
            content=b"".join(_saved(array) for array in tensors.values()),
            headers={"content-type": "application/x-npy", "accept": "application/x-npy"},
        ).headers["lossd-notes"]
    ) == [note]
    clear = {**tensors, name: np.ones(as_other, dtype=np.uint8)}
    clear_notes = send(base_url, "bce", clear).json()["notes"]
    assert clear_notes == [] or name in ("weight", "mask")


@pytest.mark.parametrize(
    ("dtype", "ignored", "nearest"),
    [("f4", 0.1, "0.10000000149011612"), ("f2", 2049, "2048.0"), ("V2", 257, "256.0")],
)
def test_an_index_that_no_target_can_equal_is_refused(
    base_url: str, dtype: str, ignored: float, nearest: str
) -> None:
    targets = np.zeros(3, dtype="u2").view("V2") if dtype == "V2" else np.zeros(3, dtype=dtype)
    refused = send(base_url, "bce", {"logits": X[0], "targets": targets}, ignore_index=ignored).json()
    assert refused["code"] == "invalid_parameter"
    assert f"(the nearest is {nearest})" in refused["detail"]
    kept = send(base_url, "bce", {"logits": X[0], "targets": np.zeros(3)}, ignore_index=ignored).json()
    assert kept["count"] == 3


@pytest.mark.parametrize(("dtype", "classes"), [("f2", 2050), ("V2", 258)])
def test_ids_that_may_have_been_rounded_are_refused(base_url: str, dtype: str, classes: int) -> None:
    ids = np.zeros(2, dtype="u2").view("V2") if dtype == "V2" else np.zeros(2, dtype=dtype)
    for number, status in ((classes, 415), (classes - 1, 200)):
        tensors = {"logits": np.zeros((2, number), dtype=np.float32), "targets": ids}
        answer = send(base_url, "bce", tensors, targets_format="index")
        assert answer.status_code == status
        assert answer.json().get("code") == ("dtype_not_allowed" if status == 415 else None)


def test_ids_that_could_lie_along_another_axis_have_a_note(base_url: str) -> None:
    rng = np.random.default_rng(1)
    tensors = {"logits": rng.normal(size=(2, 4, 4)), "targets": rng.integers(0, 4, (2, 4))}
    [note] = send(base_url, "bce", tensors, targets_format="index").json()["notes"]
    assert note == (
        "class ids were taken along axis 2 of the inputs, [2, 4, 4]; if the classes lie along axis 1, "
        "class_axis=1 says so"
    )
    for axis in (1, 2, -1):
        assert send(base_url, "bce", tensors, targets_format="index", class_axis=axis).json()["notes"] == []
    for shape in ((4, 4), (2, 3, 4)):
        clear = {"logits": rng.normal(size=shape), "targets": rng.integers(0, 4, shape[:-1])}
        assert send(base_url, "bce", clear, targets_format="index").json()["notes"] == []


def test_ids_of_one_class_have_a_note_unless_a_background_is_named(base_url: str) -> None:
    tensors: dict[str, Array] = {"logits": X[:, :1], "targets": np.zeros(4, dtype=np.uint8)}
    answer = send(base_url, "bce", tensors, targets_format="index").json()
    assert (answer["count"], answer["positives"]) == (4, 4)
    [note] = answer["notes"]
    assert note.startswith("there is one class, whose id is 0, so every target that counts is positive")
    ids = {**tensors, "targets": np.array([0, 1, 0, 1])}
    for background, positives in ((1, 2), (-1, 4)):
        given = tensors if background < 0 else ids
        answer = send(base_url, "bce", given, targets_format="index", background_index=background).json()
        assert (answer["notes"], answer["positives"]) == ([], positives)
    dense = {**tensors, "targets": np.zeros((4, 1))}
    assert send(base_url, "bce", dense).json()["notes"] == []


def _saved(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_an_answer_repeats_parameters_and_options(base_url: str) -> None:
    tensors = {"logits": X, "targets": DENSE}
    options = {
        "axis": 1,
        "normalizer": "positives",
        "class_axis": -1,
        "targets_format": "dense",
        "label_smoothing": 0.125,
        "ignore_index": None,
        "background_index": None,
        "allow_nan": False,
        "pos_weight": [1.0, 2.0, 3.0],
    }
    asked: dict[str, object] = {"axis": 1, "normalizer": "positives", "label_smoothing": 0.125}
    asked |= {"pos_weight": [1, 2, 3], "gamma": 2}
    found = send(base_url, "focal", tensors, **asked).json()
    assert found["options"] == options
    assert found["params"] == {"gamma": 2.0, "alpha": 0.25, "variant": "sigmoid"}
    assert found["notes"] == []
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    headers = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    content = _saved(X) + _saved(DENSE)
    npy = httpx.post(f"{base_url}/focal", params=query, content=content, headers=headers)
    assert json.loads(npy.headers["lossd-params"]) == {"reduction": "mean", **found["params"], **options}
    assert npy.headers["lossd-kernel"] == found["kernel"]
    assert npy.headers["lossd-version"] == found["version"]
    assert "lossd-notes" not in npy.headers


def test_a_header_has_the_digest_of_a_long_list(base_url: str) -> None:
    from hashlib import sha256

    x, k = np.zeros((2, 80), dtype=np.float32), [i / 7 for i in range(80)]
    headers = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    query = {"pos_weight": json.dumps(k), "alpha": json.dumps([0.3] * 80), "reduction": "none"}
    answer = httpx.post(f"{base_url}/focal", params=query, content=_saved(x) * 2, headers=headers)
    said = json.loads(answer.headers["lossd-params"])
    digest = sha256(np.array(k, dtype="<f8").tobytes()).hexdigest()
    assert said["pos_weight"] == {"length": 80, "sha256": digest}
    assert said["alpha"]["length"] == 80
    assert len(answer.headers["lossd-params"]) < 2000
