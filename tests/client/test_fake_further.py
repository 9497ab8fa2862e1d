"""The fake's further losses, and what it refuses of them, are the server's."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd_client import InvalidRequest, LossClient
from lossd_client.testing import FakeTransport

Options = dict[str, Any]

RNG = np.random.default_rng(0)
N, C = 9, 5
X = RNG.normal(0, 3, (N, C))
P = RNG.random((N, C))
Y = np.where(RNG.random((N, C)) < 0.5, np.round(P), P)
HARD = np.round(P)
IDS = RNG.integers(0, C, N)
SOFT = RNG.dirichlet(np.ones(C), N)
WEIGHT = RNG.uniform(0, 2, N)
MASK = np.arange(N) % 4 != 1
PIXELS = RNG.normal(0, 3, (2, 4, 3, 3))
PIXEL_IDS = RNG.integers(0, 4, (2, 3, 3))
BOXES = np.concatenate([at := RNG.uniform(0, 9, (N, 2)), at + RNG.uniform(0, 5, (N, 2))], axis=1)
OTHERS = BOXES + np.sort(RNG.normal(0, 1, (N, 4)), axis=1)
MANY = RNG.normal(0, 3, (3, 4096))
EDGES = np.array([[np.inf, 0.0, -np.inf], [np.inf, np.inf, 0.0], [0.0, -np.inf, 800.0], [1.0, 1.0, 1.0]])

CASES: list[tuple[str, Options]] = [
    ("asymmetric", {"logits": X, "targets": Y, "reduction": "none"}),
    ("asymmetric", {"logits": EDGES, "targets": np.round(np.abs(EDGES) > 0.5), "reduction": "none"}),
    ("asymmetric", {"probabilities": P, "targets": HARD, "clip": 0, "gamma_pos": 0, "label_smoothing": 0.1}),
    ("asymmetric", {"logits": X, "targets": IDS, "targets_format": "index", "axis": 0}),
    ("varifocal", {"logits": X, "targets": Y, "reduction": "none", "weight": WEIGHT[:, None]}),
    ("varifocal", {"probabilities": P, "targets": Y, "gamma": 0.5, "normalizer": "positives"}),
    ("squared", {"logits": X, "targets": 3 * X - 1, "axis": 1}),
    ("squared", {"logits": X, "targets": np.where(MASK[:, None], X, np.nan), "ignore_index": "nan"}),
    ("hinge", {"logits": X, "targets": HARD, "normalizer": "positives", "mask": MASK[:, None]}),
    ("hinge", {"logits": EDGES, "targets": np.full((4, 3), 0.5), "reduction": "none"}),
    ("cross_entropy", {"logits": X, "targets": IDS, "reduction": "none"}),
    (
        "cross_entropy",
        {"logits": X, "targets": IDS, "class_weight": [0.5, 1, 2, 0, 3], "normalizer": "weight"},
    ),
    ("cross_entropy", {"logits": MANY[:, :20], "targets": [0, 7, 19], "class_weight": np.arange(20.0)}),
    ("cross_entropy", {"logits": X, "targets": HARD, "reduction": "sum"}),
    ("cross_entropy", {"logits": X[:, :1], "targets": np.zeros(N, int), "reduction": "sum"}),
    ("cross_entropy", {"logits": X[:C], "targets": IDS[:C], "weight": WEIGHT[:C]}),
    ("cross_entropy", {"logits": PIXELS, "targets": PIXELS[:, :, ::-1] > 0}),
    ("cross_entropy", {"logits": X, "targets": IDS, "ignore_index": 2, "label_smoothing": 0.1}),
    (
        "cross_entropy",
        {"logits": X, "targets": SOFT, "weight": WEIGHT, "mask": MASK, "class_weight": [1.5] * C},
    ),
    ("cross_entropy", {"logits": PIXELS, "targets": PIXEL_IDS, "class_axis": 1, "axis": [1, 2]}),
    ("cross_entropy", {"logits": EDGES, "targets": [0, 2, 0, 1], "reduction": "none"}),
    ("cross_entropy", {"logits": np.zeros((0, 3)), "targets": np.zeros(0, int), "reduction": "sum"}),
    ("softmax_focal", {"logits": X, "targets": IDS, "alpha": [0.1, 0.2, 0.3, 0.4, 2], "gamma": 1.5}),
    ("softmax_focal", {"logits": X, "targets": SOFT, "reduction": "none", "label_smoothing": 0.2}),
    ("dice", {"logits": X, "targets": HARD, "reduction": "none"}),
    ("dice", {"probabilities": P, "targets": Y, "smooth": 0, "weight": WEIGHT, "normalizer": "weight"}),
    (
        "dice",
        {"logits": PIXELS, "targets": PIXEL_IDS, "targets_format": "index", "class_axis": 1, "per": "class"},
    ),
    ("dice", {"logits": X, "targets": np.where(MASK[:, None], HARD, -1), "ignore_index": -1, "per": "all"}),
    ("dice", {"logits": X, "targets": np.zeros((N, C)), "smooth": 0, "mask": MASK, "reduction": "none"}),
    ("dice", {"logits": np.zeros((0, 3)), "targets": np.zeros((0, 3)), "reduction": "sum"}),
    (
        "dice",
        {"logits": X, "targets": np.where(MASK[:, None], HARD, np.nan), "ignore_index": "nan"},
    ),
    (
        "tversky",
        {
            "logits": PIXELS,
            "targets": np.stack([PIXEL_IDS[0], np.full((3, 3), 9)]),
            "targets_format": "index",
            "class_axis": 1,
            "ignore_index": 9,
            "reduction": "none",
        },
    ),
    (
        "tversky",
        {"logits": X, "targets": np.where(np.arange(C) == 2, -1, HARD), "per": "class", "ignore_index": -1},
    ),
    ("tversky", {"logits": X, "targets": HARD, "alpha": 0.3, "beta": 0.7, "reduction": "none"}),
    ("tversky", {"logits": X, "targets": Y, "per": "class", "reduction": "none", "weight": np.arange(C)}),
    *(
        ("box", {"boxes": BOXES, "targets": OTHERS, "variant": variant, "format": form, "reduction": "none"})
        for variant in ("iou", "giou", "diou", "ciou")
        for form in ("xyxy", "cxcywh")
    ),
    ("box", {"boxes": BOXES.reshape(3, 3, 4), "targets": OTHERS.reshape(3, 3, 4), "axis": 0}),
    ("box", {"boxes": np.zeros((2, 4)), "targets": [[0, 0, 0, 0], [1, 1, 1, 1]], "reduction": "none"}),
]


@pytest.fixture(scope="module")
def real(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as client:
        yield client


@pytest.fixture
def fake() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as client:
        yield client


@pytest.mark.parametrize(("loss", "given"), CASES)
def test_it_computes_what_the_server_does(
    real: LossClient, fake: LossClient, loss: str, given: Options
) -> None:
    ours, its = getattr(fake, loss)(**given), getattr(real, loss)(**given)
    for name in ("sum", "weight_sum", "positives", "loss"):
        np.testing.assert_allclose(getattr(ours, name), getattr(its, name), rtol=1e-11, atol=1e-14)
    for name in ("count", "shape", "reduction", "loss_name", "params", "options", "notes"):
        assert getattr(ours, name) == getattr(its, name)
    assert (ours.loss_terms is None) == (its.loss_terms is None)


REFUSED: list[tuple[str, Options]] = [
    ("cross_entropy", {"logits": X[0], "targets": 1}),
    ("cross_entropy", {"logits": X, "targets": IDS, "class_axis": 0}),
    ("cross_entropy", {"logits": X, "targets": SOFT, "ignore_index": 1}),
    ("cross_entropy", {"logits": X, "targets": IDS + 1}),
    ("cross_entropy", {"logits": X, "targets": IDS > 1}),
    ("cross_entropy", {"logits": X, "targets": np.full(N, 2), "ignore_index": 2}),
    ("cross_entropy", {"logits": X, "targets": IDS, "class_weight": [1.0, 2.0]}),
    ("cross_entropy", {"logits": X, "targets": IDS, "weight": np.ones((N, C))}),
    ("cross_entropy", {"logits": X, "targets": IDS, "axis": 1}),
    ("cross_entropy", {"logits": np.where(HARD == 1, np.nan, X), "targets": IDS}),
    ("softmax_focal", {"logits": X, "targets": IDS, "gamma": -1}),
    ("dice", {"logits": X[0], "targets": HARD[0]}),
    ("dice", {"logits": X, "targets": HARD, "smooth": -1}),
    ("dice", {"logits": np.zeros((0, 3)), "targets": np.zeros((0, 3))}),
    ("dice", {"logits": X, "targets": np.full((N, C), 255), "ignore_index": 255}),
    ("dice", {"logits": PIXELS, "targets": PIXELS > 0, "per": "class"}),
    ("dice", {"logits": X, "targets": HARD * 2}),
    ("squared", {"logits": X, "targets": np.where(HARD == 1, np.inf, 0)}),
    ("squared", {"logits": X, "targets": np.where(HARD == 1, np.nan, 0)}),
    ("asymmetric", {"logits": X, "targets": HARD, "clip": 2}),
    ("box", {"boxes": BOXES[:, :3], "targets": OTHERS[:, :3]}),
    ("box", {"boxes": BOXES[:, [2, 1, 0, 3]], "targets": OTHERS}),
    ("box", {"boxes": BOXES, "targets": -OTHERS}),
    ("box", {"boxes": np.where(BOXES > 6, np.inf, BOXES), "targets": OTHERS}),
]


@pytest.mark.parametrize(("loss", "given"), REFUSED)
def test_it_refuses_what_the_server_does(
    real: LossClient, fake: LossClient, loss: str, given: Options
) -> None:
    said = []
    for client in (real, fake):
        with pytest.raises(InvalidRequest) as caught:
            getattr(client, loss)(**given)
        error = caught.value
        said.append((error.status, error.code, [item.pointer for item in error.errors]))
    assert said[0] == said[1]


REPORTED: list[tuple[str, Options]] = [
    ("asymmetric", {"logits": X, "targets": HARD}),
    ("varifocal", {"probabilities": P, "targets": Y, "baseline": P[::-1]}),
    ("squared", {"logits": X, "targets": X[::-1], "baseline": X + 1}),
    ("hinge", {"logits": X, "targets": HARD, "weight": WEIGHT[:, None]}),
    ("cross_entropy", {"logits": X, "targets": IDS, "baseline": X[::-1], "class_weight": [1, 2, 3, 4, 5]}),
    ("cross_entropy", {"logits": PIXELS, "targets": PIXEL_IDS, "class_axis": 1, "ignore_index": 3}),
    ("softmax_focal", {"logits": X, "targets": SOFT, "mask": MASK}),
    ("cross_entropy", {"logits": MANY, "targets": [0, 4095, 77]}),
    ("dice", {"logits": X, "targets": HARD, "baseline": X + 1}),
    ("dice", {"logits": X, "targets": np.where(MASK[:, None], HARD, 255), "ignore_index": 255}),
    ("tversky", {"probabilities": P, "targets": Y, "weight": WEIGHT}),
    ("box", {"boxes": BOXES, "targets": OTHERS, "baseline": OTHERS[::-1], "variant": "ciou"}),
]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("loss", "given"), REPORTED)
def test_its_reports_are_the_servers(
    real: LossClient, fake: LossClient, loss: str, given: Options, named: bool
) -> None:
    rows = len(next(iter(given.values())))
    asked = {**given, "groups": np.arange(rows) % 3, "top": 4}
    if named:
        asked["ids"] = [f"row {number}" for number in range(rows)]
    (ours, notes), (its, its_notes) = (report_of(client, loss, asked) for client in (fake, real))
    assert notes == its_notes
    assert set(ours) == set(its)
    for section in set(its) - {"run", "schema"}:
        assert_like(ours[section], its[section], section)


def report_of(client: LossClient, loss: str, asked: Options) -> tuple[Options, list[str]]:
    """Return the report's document, and the answer's notes."""
    call: Any = client.with_raw_response.report
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each note
        raw = call(loss, **asked)
    return raw.result.to_dict(), json.loads(raw.body)["notes"]


def assert_like(ours: object, its: object, path: str) -> None:
    """Hold parts of documents against each other: sums by their first terms, numbers to 1e-11."""
    if isinstance(its, dict):
        assert isinstance(ours, dict), path
        assert set(ours) == set(its), path
        for name in its:
            mine, theirs = ours[name], its[name]
            if name.endswith("_terms"):
                mine, theirs = mine[0], theirs[0]
            assert_like(mine, theirs, f"{path}.{name}")
    elif isinstance(its, list):
        assert isinstance(ours, list), path
        assert len(ours) == len(its), path
        for place, (mine, theirs) in enumerate(zip(ours, its, strict=True)):
            assert_like(mine, theirs, f"{path}[{place}]")
    elif isinstance(its, float) and isinstance(ours, float | int):
        np.testing.assert_allclose(ours, its, rtol=1e-10, atol=1e-12, err_msg=path)
    else:
        assert ours == its, path
