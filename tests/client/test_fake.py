"""The stand-in for the server says what the server says."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from client.test_splits import CASES, GAPS, MASK, STEP, C, N, X, Y
from lossd_client import AsyncLossClient, InvalidRequest, LossClient, NotFound, StatusError
from lossd_client.testing import AsyncFakeTransport, FakeTransport

Options = dict[str, Any]


@pytest.fixture(scope="module")
def real(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as client:
        yield client


@pytest.fixture
def fake() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as client:
        yield client


HARD = (Y > 0.5).astype(np.float32)
EDGES = np.array([[-np.inf, np.inf, 0.0, -800.0, 800.0]] * N)
MORE: list[tuple[str, Options]] = [
    ("bce", {"logits": EDGES, "targets": np.round(Y)}),
    ("focal", {"logits": EDGES, "targets": HARD, "reduction": "none", "gamma": 0.0}),
    ("focal", {"logits": EDGES, "targets": Y, "reduction": "none", "alpha": [0.0, 1.0, 0.5, 0.5, 0.5]}),
    ("bce", {"probabilities": np.round(Y, 1), "targets": HARD, "label_smoothing": 1e-6, "reduction": "none"}),
    ("focal", {"probabilities": Y.astype(np.float16), "targets": HARD, "gamma": 0.5, "pos_weight": 2}),
    ("focal", {"logits": X, "targets": HARD, "variant": "exp", "pos_weight": 2, "label_smoothing": 0.2}),
    ("focal", {"logits": X, "targets": HARD, "variant": "quality", "weight": np.zeros(C)}),
    ("bce", {"logits": np.ones((N, C), dtype="V2"), "targets": HARD}),
    ("bce", {"logits": X[:C], "targets": HARD[:C], "weight": np.arange(C), "mask": np.ones(C, bool)}),
    ("bce", {"logits": X[:C], "targets": HARD[:C], "weight": np.arange(C), "reduction": "none"}),
    ("focal", {"logits": X, "targets": HARD, "alpha": np.linspace(0, 1, C), "reduction": "none"}),
    (
        "bce",
        {"logits": np.zeros((2, 20)), "targets": np.zeros((2, 20)), "pos_weight": np.ones(20), "axis": 1},
    ),
    ("focal", {"logits": np.zeros((2, 20)), "targets": np.zeros((2, 20)), "alpha": [0.5] * 20, "axis": [1]}),
    ("bce", {"logits": X, "targets": HARD, "pos_weight": np.where(MASK, 2.0, np.nan), "mask": MASK}),
    ("bce", {"logits": X, "targets": HARD, "pos_weight": [2]}),
    ("bce", {"logits": X, "targets": HARD, "pos_weight": [1, 1, -1, 1, 1], "mask": np.arange(C) != 2}),
    ("bce", {"logits": X, "targets": HARD, "pos_weight": [np.inf], "mask": GAPS & False, "reduction": "sum"}),
    ("bce", {"logits": X, "targets": HARD, "ignore_index": 0.5}),
    ("bce", {"logits": X, "targets": HARD.astype(np.int8), "ignore_index": 0.1}),
    ("bce", {"logits": np.zeros((1, 257)), "targets": np.zeros(1, dtype="V2"), "targets_format": "index"}),
    ("bce", {"logits": [1.0, 2.0], "targets": 1, "targets_format": "index", "reduction": "none"}),
    ("bce", {"logits": np.zeros((4, 3, 3)), "targets": np.zeros((4, 3), int), "targets_format": "index"}),
    ("bce", {"logits": np.zeros((4, 1)), "targets": np.zeros(4, int), "targets_format": "index"}),
    ("bce", {"logits": X[:, :1], "targets": HARD[:, 0], "targets_format": "index", "background_index": 1}),
    ("bce", {"logits": np.round(Y), "targets": Y}),
    ("bce", {"logits": X, "targets": np.where(MASK, HARD, np.nan), "allow_nan": True, "axis": 1}),
    ("bce", {"logits": np.zeros((0, 3)), "targets": np.zeros((0, 3)), "reduction": "none"}),
    ("bce", {"logits": np.zeros((0, 3)), "targets": np.zeros((0, 3)), "reduction": "sum"}),
    ("bce", {"logits": np.full((3, 2), 1e308), "targets": np.zeros((3, 2))}),
]


@pytest.mark.parametrize(("loss", "given"), [*CASES, *MORE])
def test_it_computes_what_the_server_does(
    real: LossClient, fake: LossClient, loss: str, given: Options
) -> None:
    ours, its = getattr(fake, loss)(**given), getattr(real, loss)(**given)
    for name in ("sum", "weight_sum", "positives", "loss"):
        np.testing.assert_allclose(getattr(ours, name), getattr(its, name), rtol=1e-12, atol=0)
    for name in ("count", "shape", "reduction", "loss_name", "params", "options", "notes"):
        assert getattr(ours, name) == getattr(its, name)
    for name in ("sum", "weight_sum", "positives"):
        terms = getattr(ours, f"{name}_terms")
        np.testing.assert_equal(getattr(ours, name), terms[0])
        np.testing.assert_equal(math.fsum(terms), terms[0])
    for name in ("loss_terms", "divisor_terms"):
        planes, others = getattr(ours, name), getattr(its, name)
        assert (planes is None) == (others is None)
        if planes is not None:
            np.testing.assert_allclose(planes[0], others[0], rtol=1e-12, atol=0)
    assert (ours.kernel, ours.version) == ("fake", "fake")
    assert type(ours.loss) is type(its.loss)


@pytest.mark.parametrize(
    "given",
    [
        {"targets": Y[:, :3]},
        {"targets": Y + 1},
        {"probabilities": Y * 2, "logits": None},
        {"logits": np.where(MASK, X, np.nan)},
        {"logits": np.array(1.0), "targets": np.array(1.0)},
        {"weight": -Y},
        {"weight": np.ones(3)},
        {"mask": np.ones((2, C), dtype=bool)},
        {"pos_weight": [1.0, 2.0]},
        {"pos_weight": -1.0},
        {"gamma": -1},
        {"gamma": 1001},
        {"alpha": 1.5},
        {"alpha": [0.5, 0.5]},
        {"alpha": []},
        {"label_smoothing": 1.0},
        {"normalizer": 0.0},
        {"variant": "tanh"},
        {"reduction": "median"},
        {"reduction": "none", "axis": 0},
        {"axis": 2},
        {"axis": (0, 0)},
        {"axis": []},
        {"reduction": "none", "normalizer": "weight"},
        {"class_axis": 2, "pos_weight": [1.0]},
        {"pos_weight": np.array(-1.0)},
        {"pos_weight": np.where(np.arange(C) == 1, -1, 1), "mask": np.arange(C) != 2},
        {"ignore_index": 0.1, "targets": Y.astype(np.float32)},
        {"ignore_index": 1e6, "targets": Y.astype(np.float16)},
        {"ignore_index": 257, "targets": np.zeros((N, C), dtype="V2")},
        {"background_index": 2049, "targets": np.zeros(N, dtype=np.float16), "targets_format": "index"},
        {"logits": np.zeros((1, 2050)), "targets": np.zeros(1, np.float16), "targets_format": "index"},
        {"logits": np.zeros((1, 258)), "targets": np.zeros(1, dtype="V2"), "targets_format": "index"},
        {"logits": [1.0, 2.0], "targets": 2, "targets_format": "index"},
        {"logits": [1.0, 2.0], "targets": 0.5, "targets_format": "index"},
        {"pos_weight": np.ones((N, 2))},
        {"pos_weight": np.ones((1, N, C))},
        {"pos_weight": np.where(MASK, 1.0, -1.0)},
        {"pos_weight": np.where(MASK, 1.0, np.nan)},
        {"pos_weight": np.full((N, C), np.inf)},
        {"mask": np.full((N, C), 2)},
        {"mask": np.where(np.arange(C) == 3, -1, 1)},
        {"mask": np.where(np.arange(N) == 3, 255, 1)[:, None].astype(np.uint8)},
        {"mask": np.array(7)},
        {"weight": np.full(C, -1)},
        {"targets": np.where(MASK, Y, np.nan)},
        {"targets": np.where(MASK, Y, np.nan), "ignore_index": -1},
        {"background_index": 3},
        {"background_index": 3, "ignore_index": 3, "targets": np.full(N, 0), "targets_format": "index"},
        {"background_index": 3, "targets": np.full(N, C), "targets_format": "index"},
        {"background_index": 2**53, "targets": np.full(N, 0), "targets_format": "index"},
        {"targets": np.full(N, 0.5), "targets_format": "index"},
        {"targets": np.full(N, -0.5), "targets_format": "index"},
        {"targets": np.full(N, C + 0.5), "targets_format": "index"},
        {"targets": np.full(N, np.nan), "targets_format": "index"},
        {"targets": np.full(N, np.nan), "targets_format": "index", "allow_nan": True},
        {"targets": np.full(N, np.inf), "targets_format": "index"},
        {"targets": np.full(N, 2**63, np.uint64), "targets_format": "index"},
        {"ignore_index": "nan", "mask": np.full((N, C), 2), "targets": np.full((N, C), np.nan)},
        {"mask": np.zeros((N, C), dtype=bool)},
        {"mask": np.arange(C) != 2, "axis": 0},
        {"targets": np.full(N, C), "targets_format": "index"},
        {"targets": np.full(N - 1, 0), "targets_format": "index"},
    ],
)
def test_it_refuses_what_the_server_does(real: LossClient, fake: LossClient, given: Options) -> None:
    said = []
    for client in (real, fake):
        with pytest.raises(InvalidRequest) as caught:
            client.focal(**{"logits": X, "targets": Y, **given})
        error = caught.value
        said.append((error.status, error.code, [item.pointer for item in error.errors]))
    assert said[0] == said[1]


def test_large_inputs_and_batches_are_what_they_are_elsewhere(fake: LossClient) -> None:
    whole = fake.bce(X, Y)
    assert float(fake.with_options(**STEP).bce(X, Y)) == float(whole)
    batches = [(X[:4], Y[:4]), (X[4:], Y[4:])]
    assert fake.score_batches("bce", batches).loss == float(whole)


def test_it_is_ready_and_says_that_it_is_a_fake(fake: LossClient) -> None:
    assert fake.ready()
    assert fake.info()["version"] == "fake"


def test_it_says_what_it_does_not_do(fake: LossClient) -> None:
    with pytest.raises(StatusError, match="takes no streams"):
        fake.score_stream("bce", [(X, Y)])
    with pytest.raises(NotFound, match="/usage"):
        fake.usage()


def test_there_is_one_for_asyncio() -> None:
    async def ask() -> float:
        async with AsyncLossClient(transport=AsyncFakeTransport) as client:
            return float(await client.bce(X, Y))

    with LossClient(transport=FakeTransport) as client:
        assert asyncio.run(ask()) == float(client.bce(X, Y))
