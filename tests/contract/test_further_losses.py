"""Losses beside BCE and focal loss: every format gives the same bits, near a plain float64 formula in numpy.

How exact they are is shown by the tests of the core, against mpmath.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.http import (  # type: ignore[import-untyped]  # it has no types
    InferenceServerClient,
    InferInput,
)
from tritonclient.utils import np_to_triton_dtype  # type: ignore[import-untyped]

from arrow_stream import stream
from live_server import LiveServer, live_server
from lossd.core.catalog import LOSSES

Array = npt.NDArray[Any]
Tensors = dict[str, Array]
Params = dict[str, Any]

RNG = np.random.default_rng(23)
N, C = 9, 7
X = RNG.normal(0, 4, (N, C)).astype(np.float32)
SOFT = np.where(RNG.random((N, C)) < 0.5, RNG.random((N, C)), RNG.integers(0, 2, (N, C))).astype(np.float32)
HARD = (RNG.random((N, C)) < 0.4).astype(np.uint8)
IDS = RNG.integers(0, C, N)
SHARES = RNG.dirichlet(np.ones(C), N)
ROW_WEIGHT = RNG.random(N) + 0.25
ROW_MASK = np.arange(N) % 4 != 2
BOXES = np.concatenate([corner := RNG.random((N, 2)) * 50, corner + RNG.random((N, 2)) * 40 + 1], axis=1)
TRUE_BOXES = BOXES + np.repeat(RNG.normal(0, 3, (N, 2)), 2, axis=0).reshape(N, 4)
FACTORS = (RNG.random(C) + 0.5).tolist()


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def asymmetric(x: Array, y: Array, gamma_pos: float = 1, gamma_neg: float = 4, clip: float = 0.05) -> Array:
    p = sigmoid(x)
    m = np.maximum(p - clip, 0)
    return y * (1 - p) ** gamma_pos * softplus(-x) + (1 - y) * m**gamma_neg * -np.log1p(-m)


def varifocal(x: Array, q: Array, alpha: float = 0.75, gamma: float = 2) -> Array:
    scored = q * (q * softplus(-x) + (1 - q) * softplus(x))
    return np.where(q > 0, scored, alpha * sigmoid(x) ** gamma * softplus(x))


def logs(x: Array) -> Array:
    """The logarithms of a softmax along the last axis."""
    m = x.max(axis=-1, keepdims=True)
    return np.asarray(x - m - np.log(np.exp(x - m).sum(axis=-1, keepdims=True)))


def dense(x: Array, y: Array, smoothing: float = 0.0) -> Array:
    classes = x.shape[-1]
    one_hot = np.eye(classes)[y] if y.ndim < x.ndim else y
    return np.asarray(one_hot * (1 - smoothing) + smoothing / classes)


def cross_entropy(
    x: Array,
    y: Array,
    class_weight: float | list[float] = 1.0,
    label_smoothing: float = 0.0,
) -> Array:
    return np.asarray(-(np.asarray(class_weight) * dense(x, y, label_smoothing) * logs(x)).sum(axis=-1))


def softmax_focal(x: Array, y: Array, gamma: float = 2, alpha: float | list[float] = 1.0) -> Array:
    away = (1 - np.exp(logs(x))) ** gamma
    return np.asarray(-(np.asarray(alpha) * dense(x, y) * away * logs(x)).sum(axis=-1))


def tversky(
    x: Array,
    y: Array,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    axes: int | tuple[int, ...] = 1,
) -> Array:
    p = sigmoid(x)
    both, false, missed = (part.sum(axis=axes) for part in (p * y, p * (1 - y), (1 - p) * y))
    wrong = alpha * false + beta * missed
    return np.atleast_1d(wrong / (both + wrong + smooth))


def box(a: Array, b: Array, variant: str = "iou") -> Array:
    def area(box: Array) -> Array:
        return np.asarray(np.prod(box[..., 2:] - box[..., :2], axis=-1))

    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    union = area(a) + area(b) - both
    around = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
    iou = both / union
    if variant == "iou":
        return np.asarray(1 - iou)
    if variant == "giou":
        return np.asarray(1 - (iou - (np.prod(around, axis=-1) - union) / np.prod(around, axis=-1)))
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    apart = (centres**2).sum(axis=-1) / (around**2).sum(axis=-1)
    if variant == "diou":
        return np.asarray(1 - (iou - apart))
    sizes = [box[..., 2:] - box[..., :2] for box in (a, b)]
    angle, true = (np.arctan2(size[..., 0], size[..., 1]) for size in sizes)
    v = 4 / np.pi**2 * (true - angle) ** 2
    return np.asarray(1 - (iou - apart - v * v / (1 - iou + v)))


def centred(boxes: Array) -> Array:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


@dataclass(frozen=True)
class Case:
    """A request, and its losses by formula.

    Attributes:
        loss: The loss.
        tensors: Its tensors.
        losses: The losses, without weights, of the losses' shape.
        params: Its parameters.
        factor: What `class_weight` multiplies the rows' weights by.
        streams: Whether rows may be streamed.
    """

    loss: str
    tensors: Tensors
    losses: Array
    params: Params = field(default_factory=dict)
    factor: Array | float = 1.0
    streams: bool = True


def wide(array: Array) -> Array:
    return array.astype(np.float64)


LOGITS = {"logits": X}
IMAGES = RNG.normal(0, 3, (4, 3, 2, 5))
IMAGE_IDS = RNG.integers(0, 3, (4, 2, 5)).astype(np.uint8)
MASKS = (RNG.random((4, 3, 2, 5)) < 0.3).astype(np.uint8)
INDEX: Final[Params] = {"targets_format": "index", "class_axis": 1}

CASES: Final[dict[str, Case]] = {
    "asymmetric": Case("asymmetric", {**LOGITS, "targets": HARD}, asymmetric(wide(X), HARD)),
    "asymmetric, soft": Case(
        "asymmetric",
        {**LOGITS, "targets": SOFT},
        asymmetric(wide(X), wide(SOFT), 0.5, 2, 0.125),
        {"gamma_pos": 0.5, "gamma_neg": 2, "clip": 0.125},
    ),
    "asymmetric, ids": Case(
        "asymmetric", {**LOGITS, "targets": IDS}, asymmetric(wide(X), np.eye(C)[IDS]), INDEX
    ),
    "varifocal": Case(
        "varifocal",
        {**LOGITS, "targets": SOFT},
        varifocal(wide(X), wide(SOFT), 0.5, 1.5),
        {"alpha": 0.5, "gamma": 1.5},
    ),
    "cross_entropy": Case("cross_entropy", {**LOGITS, "targets": IDS}, cross_entropy(wide(X), IDS)),
    "cross_entropy, dense": Case(
        "cross_entropy",
        {**LOGITS, "targets": SHARES},
        cross_entropy(wide(X), SHARES, 1.0, 0.125),
        {"label_smoothing": 0.125},
    ),
    "cross_entropy, weighted classes": Case(
        "cross_entropy",
        {**LOGITS, "targets": IDS},
        cross_entropy(wide(X), IDS, FACTORS),
        {"class_weight": FACTORS},
        factor=np.array(FACTORS)[IDS],
    ),
    "cross_entropy, images": Case(
        "cross_entropy",
        {"logits": IMAGES, "targets": IMAGE_IDS},
        cross_entropy(np.moveaxis(IMAGES, 1, -1), IMAGE_IDS),
        {"class_axis": 1},
        streams=False,
    ),
    "softmax_focal": Case(
        "softmax_focal",
        {**LOGITS, "targets": IDS},
        softmax_focal(wide(X), IDS, 1.5, FACTORS),
        {"gamma": 1.5, "alpha": FACTORS},
    ),
    "softmax_focal, dense": Case(
        "softmax_focal", {**LOGITS, "targets": SHARES}, softmax_focal(wide(X), SHARES)
    ),
    "dice": Case("dice", {**LOGITS, "targets": HARD}, tversky(wide(X), HARD)),
    "dice of probabilities": Case(
        "dice",
        {"probabilities": sigmoid(wide(X)), "targets": SOFT},
        tversky(wide(X), wide(SOFT), smooth=0.5),
        {"smooth": 0.5},
    ),
    "dice, ids": Case("dice", {**LOGITS, "targets": IDS}, tversky(wide(X), np.eye(C)[IDS]), INDEX),
    "dice, images": Case(
        "dice", {"logits": IMAGES, "targets": MASKS}, tversky(IMAGES, MASKS, axes=(1, 2, 3)), streams=False
    ),
    "dice per class": Case(
        "dice",
        {"logits": IMAGES, "targets": MASKS},
        tversky(IMAGES, MASKS, axes=(0, 2, 3)),
        {"per": "class", "class_axis": 1},
        streams=False,
    ),
    "dice per class, ids": Case(
        "dice",
        {"logits": IMAGES, "targets": IMAGE_IDS},
        tversky(IMAGES, np.moveaxis(np.eye(3)[IMAGE_IDS], -1, 1), axes=(0, 2, 3)),
        {"per": "class", **INDEX},
        streams=False,
    ),
    "tversky": Case(
        "tversky",
        {**LOGITS, "targets": HARD},
        tversky(wide(X), HARD, 0.25, 0.75, 2.0),
        {"alpha": 0.25, "beta": 0.75, "smooth": 2},
    ),
    "tversky of all": Case(
        "tversky",
        {"logits": IMAGES, "targets": MASKS},
        tversky(IMAGES, MASKS, axes=(0, 1, 2, 3)),
        {"per": "all"},
        streams=False,
    ),
    "squared": Case(
        "squared", {**LOGITS, "targets": 3 * X[::-1] - 2}, (wide(X) - wide(3 * X[::-1] - 2)) ** 2
    ),
    "hinge": Case("hinge", {**LOGITS, "targets": HARD}, np.maximum(0, 1 - (2 * wide(HARD) - 1) * wide(X))),
    **{
        f"box, {variant}": Case(
            "box",
            {"boxes": BOXES, "targets": TRUE_BOXES},
            box(BOXES, TRUE_BOXES, variant),
            {"variant": variant},
        )
        for variant in ("iou", "giou", "diou", "ciou")
    },
    "box, centres": Case(
        "box",
        {"boxes": centred(BOXES), "targets": centred(TRUE_BOXES)},
        box(BOXES, TRUE_BOXES),
        {"format": "cxcywh"},
    ),
}

FORMS = ["json", "npy", "npz", "multipart", "arrow", "v2", "v2 binary"]


def test_there_is_a_case_of_each_loss() -> None:
    native = {name for name, loss in LOSSES.items() if loss.is_native}
    assert {case.loss for case in CASES.values()} | {"bce", "focal"} == native


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def in_query(params: Params) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}


def send(url: str, loss: str, form: str, tensors: Tensors, params: Params, rows: int = 4) -> httpx.Response:
    """Ask for a loss in one of the formats."""
    address, query = f"{url}/{loss}", in_query(params)
    if form == "json":
        body = {name: array.astype(np.float64).tolist() for name, array in tensors.items()}
        return httpx.post(address, json={**body, **params}, timeout=60)
    if form == "multipart":
        files = {name: (f"{name}.npy", npy(array)) for name, array in tensors.items()}
        return httpx.post(address, params=query, files=files, timeout=60)
    if form == "npy":
        content, media = b"".join(map(npy, tensors.values())), "x-npy"
        if list(tensors) != [LOSSES[loss].inputs[0], "targets"]:  # which are the default
            query["tensors"] = ",".join(tensors)
    elif form == "npz":
        file = io.BytesIO()
        save: Callable[..., None] = np.savez
        save(file, **tensors)
        content, media = file.getvalue(), "x-npz"
    else:
        content, media = stream(tensors, rows), "vnd.apache.arrow.stream"
    headers = {"content-type": f"application/{media}"}
    return httpx.post(address, params=query, content=content, headers=headers, timeout=60)


SUMS = ("sum", "weight_sum", "positives")


def answered(url: str, case: Case, form: str, tensors: Tensors, params: Params) -> dict[str, Any]:
    """The figures of an answer, which all formats have."""
    if form.startswith("v2"):
        return inferred(url, case.loss, tensors, params, binary=form == "v2 binary")
    answer = send(url, case.loss, form, tensors, params)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return {name: np.array(found[name], np.float64) for name in ("loss", *terms_of(SUMS), "count")}


def terms_of(names: tuple[str, ...]) -> list[str]:
    return [f"{name}_terms" for name in names]


def inferred(url: str, loss: str, tensors: Tensors, params: Params, *, binary: bool) -> dict[str, Any]:
    inputs = []
    for name, array in tensors.items():
        made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(made.set_data_from_numpy(np.ascontiguousarray(array), binary_data=binary))
    with InferenceServerClient(url.removeprefix("http://")) as client:
        result = client.infer(loss, inputs, parameters=in_query(params))
    return {name: result.as_numpy(name) for name in ("loss", *terms_of(SUMS), "count")}


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, array in expected.items():
        mine = np.asarray(found[name], np.float64)
        assert mine.tobytes() == np.asarray(array, np.float64).tobytes(), name  # -0 and NaN, too


def weighted(case: Case) -> tuple[Tensors, Array, Array]:
    """The tensors with a weight and a mask, and these as arrays of the losses' shape."""
    shape = case.losses.shape
    weight = np.random.default_rng(1).random((shape[0], *[1] * (len(shape) - 1))) + 0.5
    mask = np.arange(shape[0]) % 3 != 1
    mask = np.broadcast_to(mask.reshape(weight.shape), shape).copy()
    return {**case.tensors, "weight": weight, "mask": mask}, np.broadcast_to(weight, shape), mask


@pytest.mark.parametrize("name", CASES)
def test_values_and_sums(base_url: str, name: str) -> None:
    case = CASES[name]
    each = answered(base_url, case, "npy", case.tensors, {**case.params, "reduction": "none"})
    assert each["loss"].shape == case.losses.shape
    np.testing.assert_allclose(each["loss"], case.losses, rtol=1e-12, atol=1e-13)
    losses = np.ravel(each["loss"]).tolist()
    assert each["sum_terms"].flat[0] == math.fsum(losses)
    mean = answered(base_url, case, "npy", case.tensors, case.params)
    assert float(mean["loss"]) == math.fsum(losses) / len(losses)
    assert mean["count"] == len(losses)

    tensors, weight, mask = weighted(case)
    scale = weight * mask * case.factor
    found = answered(base_url, case, "npy", tensors, {**case.params, "reduction": "none"})
    kept = np.where(mask, weight, 0) * np.asarray(each["loss"])
    np.testing.assert_array_equal(found["loss"], kept)
    assert found["count"] == mask.sum()
    assert found["weight_sum_terms"].flat[0] == math.fsum(scale.ravel())
    by_weight = answered(base_url, case, "npy", tensors, {**case.params, "normalizer": "weight"})
    assert float(by_weight["loss"]) == math.fsum(kept.ravel()) / math.fsum(scale.ravel())


@pytest.mark.parametrize("name", CASES)
def test_every_format_gives_the_same_bits(base_url: str, name: str) -> None:
    case = CASES[name]
    tensors, _, _ = weighted(case)
    choices: list[Params] = [{}, {"reduction": "none"}, {"axis": 0, "reduction": "sum"}]
    for given in (case.tensors, tensors):
        for params in ({**case.params, **choice} for choice in choices):
            expected = answered(base_url, case, "npy", given, params)
            for form in FORMS:
                if form == "arrow" and not case.streams:
                    continue
                found = answered(base_url, case, form, given, params)
                if form.startswith("v2"):
                    found["loss"] = found["loss"].reshape(expected["loss"].shape)  # [1] for a number
                same(found, expected)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that cuts requests into many slices, for two workers, and scores none itself."""
    path: Path = tmp_path_factory.mktemp("other")
    with live_server(path, device="cpu:0,cpu:1", threads=1, slice_elements=1024, inline_ms=0) as running:
        yield running


def long(loss: str) -> Tensors:
    """A long request of a loss: many times a slice."""
    rng = np.random.default_rng(5)
    if LOSSES[loss].row == "box":
        at = rng.random((60_000, 2)) * 99
        made = [np.concatenate([at, at + rng.random((60_000, 2)) * 9], axis=1) for _ in range(2)]
        return {"boxes": made[0], "targets": made[1]}
    x = rng.normal(0, 4, (3000, 80)).astype(np.float32)
    if LOSSES[loss].row == "classes":
        return {"logits": x, "targets": rng.integers(0, 80, 3000)}
    return {"logits": x, "targets": (rng.random(x.shape) < 0.2).astype(np.uint8)}


@pytest.mark.parametrize("loss", LOSSES)
def test_slices_and_workers_change_no_bit(base_url: str, other: LiveServer, loss: str) -> None:
    """Nor does a body that is scored while it arrives, nor a stream."""
    tensors = long(loss)
    case = Case(loss, tensors, np.zeros(()))
    for params in ({}, {"reduction": "none"}, {"axis": 0}):
        expected = answered(base_url, case, "npy", tensors, params)
        same(answered(other.url, case, "npy", tensors, params), expected)
        turned = dict(reversed(tensors.items()))
        same(answered(other.url, case, "npy", turned, params), expected)
        for rows in (77, 100_000):
            answer = send(other.url, loss, "arrow", tensors, params, rows)
            assert answer.status_code == 200, answer.text
            same({name: answer.json()[name] for name in expected}, expected)


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.row == "classes"])
def test_a_row_of_a_million_classes(base_url: str, other: LiveServer, loss: str) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "logits": rng.normal(0, 2, (3, 1 << 20)).astype(np.float32),
        "targets": np.array([0, 7, 1 << 19]),
    }
    case = Case(loss, tensors, np.zeros(()))
    found = answered(base_url, case, "npy", tensors, {"reduction": "none"})
    formula = {"cross_entropy": cross_entropy, "softmax_focal": softmax_focal}
    x = tensors["logits"].astype(np.float64)
    if loss in formula:
        away = logs(x)[np.arange(3), tensors["targets"]]
        factor = 1.0 if loss == "cross_entropy" else (1 - np.exp(away)) ** 2
        np.testing.assert_allclose(found["loss"], -away * factor, rtol=1e-11)
    same(answered(other.url, case, "npy", tensors, {"reduction": "none"}), found)


AS_TENSOR = [form for form in FORMS if form != "arrow"]
WHOLE = np.array([3, 0, 1, 2, 5, 1, 4])


def test_a_mean_that_is_not_torchs_says_so(base_url: str) -> None:
    request = {"logits": X.tolist(), "targets": IDS.tolist(), "class_weight": WHOLE.tolist()}
    soft = {"targets": np.full(X.shape, 1 / X.shape[1]).tolist()}  # of which torch's mean is by count, too
    others: list[dict[str, Any]] = [{"normalizer": "weight"}, {"reduction": "sum"}, soft]
    for more, noted in (({}, True), *((other, False) for other in others)):
        answer = httpx.post(f"{base_url}/cross_entropy", json={**request, **more}).raise_for_status().json()
        assert any("normalizer=weight" in note for note in answer["notes"]) is noted
    del request["class_weight"]
    assert not httpx.post(f"{base_url}/cross_entropy", json=request).raise_for_status().json()["notes"]


@pytest.mark.parametrize("form", AS_TENSOR)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int64"])
def test_class_weights_as_a_tensor(base_url: str, form: str, dtype: str) -> None:
    tensors: Tensors = {**LOGITS, "targets": IDS}
    for params in ({}, {"normalizer": "weight"}, {"reduction": "none"}):
        case = Case("cross_entropy", tensors, X)
        expected = answered(base_url, case, "npy", tensors, {**params, "class_weight": WHOLE.tolist()})
        given = {**tensors, "class_weight": WHOLE.astype(dtype)}
        found = answered(base_url, case, form, given, params)
        found["loss"] = found["loss"].reshape(expected["loss"].shape)
        same(found, expected)


def refused(url: str, form: str, tensors: Tensors, params: Params) -> tuple[str, str, str]:
    answer = send(url, "cross_entropy", form, {**LOGITS, "targets": IDS, **tensors}, params)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    return problem["code"], problem["errors"][0]["pointer"], problem["detail"]


@pytest.mark.parametrize("form", ["npy", "npz", "multipart", "json"])
def test_what_is_wrong_with_class_weights_is_named(base_url: str, form: str) -> None:
    for value in (-1.0,) if form == "json" else (-1.0, np.inf):
        weights = np.where(np.arange(C) == 4, value, 1.0)
        found = refused(base_url, form, {"class_weight": weights}, {})
        assert found[:2] == ("weight_out_of_range", "/class_weight/4")
    for shape in ((C + 1,), (1,), (C, 1)):
        found = refused(base_url, form, {"class_weight": np.ones(shape)}, {})
        assert found[:2] == ("shape_mismatch", "/class_weight")
        assert f"one for each of the {C} classes" in found[2]
    if form != "json":  # where it is one name
        twice = refused(base_url, form, {"class_weight": np.ones(C)}, {"class_weight": [1] * C})
        assert twice[:2] == ("invalid_parameter", "/class_weight")
        assert "both as a tensor and as a parameter" in twice[2]


def test_a_column_of_class_weights_is_refused(base_url: str) -> None:
    code, place, said = refused(base_url, "arrow", {"class_weight": np.ones(N)}, {})
    assert (code, place) == ("invalid_parameter", "/class_weight")
    assert "a number for each class, not for each row; send it as a parameter" in said


def test_an_answer_describes_a_tensor_of_class_weights(base_url: str) -> None:
    tensors: Tensors = {**LOGITS, "targets": IDS, "class_weight": WHOLE.astype(np.int16)}
    answer = send(base_url, "cross_entropy", "npz", tensors, {}).json()
    assert answer["params"] == {"class_weight": {"dtype": "int16", "shape": [C]}}
    report = send(base_url, "cross_entropy", "npz", tensors, {"report": "top"}).json()["report"]
    assert report["totals"]["params"]["class_weight"] == WHOLE.tolist()


def test_a_million_class_weights(base_url: str) -> None:
    rng = np.random.default_rng(2)
    classes = 1 << 20
    weights = rng.random(classes).astype(np.float32)
    tensors = {
        "logits": rng.normal(size=(2, classes)).astype(np.float32),
        "targets": np.array([5, classes - 1]),
    }
    plain, given = (
        answered(base_url, Case("cross_entropy", tensors, X), "npy", more, {"reduction": "none"})
        for more in (tensors, {**tensors, "class_weight": weights})
    )
    picked = weights[tensors["targets"]].astype(np.float64)
    np.testing.assert_allclose(given["loss"], picked * plain["loss"], rtol=1e-15)
    assert given["weight_sum_terms"].flat[0] == picked.sum()


def test_a_row_has_a_greatest_length(tmp_path: Path) -> None:
    """A worker scores a row without a pause: in a body of any length, and in a stream."""
    with live_server(tmp_path, device="cpu", max_row_elements=50) as running:
        tensors = long("cross_entropy")
        for form in ("npy", "arrow"):
            answer = send(running.url, "cross_entropy", form, tensors, {})
            assert (answer.status_code, answer.json()["code"]) == (422, "bad_shape"), answer.text
            assert "each row of classes has 80 numbers, and at most 50" in answer.json()["detail"]


def test_ignored_ids_drop_rows(base_url: str) -> None:
    ids = np.where(np.arange(N) % 3 == 0, -100, IDS)
    for loss in ("cross_entropy", "softmax_focal"):
        case = Case(loss, {**LOGITS, "targets": ids}, np.zeros(()))
        found = answered(base_url, case, "npy", case.tensors, {"ignore_index": -100})
        kept = {"logits": X[ids >= 0], "targets": ids[ids >= 0]}
        same(found, answered(base_url, case, "npy", kept, {}))


def test_ignored_elements_add_to_no_sum_of_their_row(base_url: str) -> None:
    marked = np.where(RNG.random((N, C)) < 0.3, 255, HARD)
    for loss in ("dice", "tversky"):
        case = Case(loss, {**LOGITS, "targets": marked}, np.zeros(()))
        found = answered(base_url, case, "json", case.tensors, {"ignore_index": 255, "reduction": "none"})
        assert found["count"] == N
        for row, (x, y) in enumerate(zip(X, marked, strict=True)):
            alone = {"logits": x[None, y != 255], "targets": y[None, y != 255]}
            if alone["logits"].size:
                one = answered(base_url, case, "npy", alone, {"reduction": "none"})
                assert one["loss"][0] == found["loss"][row]


def changed(array: Array, row: int, column: int, value: float) -> Array:
    """An array with another number at a place."""
    made = array.astype(np.float64)
    made[row, column] = value
    return made


VALUES: list[tuple[str, Tensors, str, str]] = [
    ("squared", {**LOGITS, "targets": changed(X, 1, 2, np.inf)}, "target_out_of_range", "/targets/1/2"),
    ("hinge", {**LOGITS, "targets": changed(HARD, 1, 3, -1)}, "target_out_of_range", "/targets/1/3"),
    ("cross_entropy", {**LOGITS, "targets": np.full(N, C)}, "target_out_of_range", "/targets/0"),
    ("cross_entropy", {**LOGITS, "targets": changed(SHARES, 2, 3, 2)}, "target_out_of_range", "/targets/2/3"),
    (
        "softmax_focal",
        {"logits": changed(X, 3, 4, np.nan), "targets": IDS},
        "non_finite_input",
        "/logits/3/4",
    ),
    ("dice", {**LOGITS, "targets": changed(HARD, 4, 5, 1.5)}, "target_out_of_range", "/targets/4/5"),
    ("box", {"boxes": BOXES, "targets": changed(TRUE_BOXES, 5, 3, -99)}, "inverted_box", "/targets/5/3"),
    ("box", {"boxes": changed(BOXES, 6, 2, np.inf), "targets": TRUE_BOXES}, "non_finite_input", "/boxes/6/2"),
]


@pytest.mark.parametrize(("loss", "tensors", "code", "place"), VALUES)
@pytest.mark.parametrize("form", ["npy", "arrow", "json"])
def test_values_that_are_refused_are_named(
    base_url: str, other: LiveServer, loss: str, tensors: Tensors, code: str, place: str, form: str
) -> None:
    if form == "json" and not all(np.isfinite(array).all() for array in tensors.values()):
        return  # which are words there
    for url in (base_url, other.url):
        answer = send(url, loss, form, tensors, {})
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, code), problem
        assert problem["errors"][0]["pointer"].startswith(place), problem


def test_figures_count_numbers(server: LiveServer) -> None:
    """Quotas and the metric of elements count numbers of the inputs, not losses."""
    metric = 'lossd_elements_total{loss="dice",team="default"}'

    def scored() -> float:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))

    before = scored()
    assert send(server.url, "dice", "npy", {"logits": X, "targets": HARD}, {}).json()["count"] == N
    assert scored() - before == X.size
