"""Small requests scored together have the bits that they have alone."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest

from core.scoring import KERNEL as EAGER
from core.scoring import work
from lossd.core.compiled import CompiledKernel
from lossd.core.grid import BLOCK
from lossd.core.kernel import EagerKernel, Score
from lossd.core.together import most_together
from lossd.core.work import Work
from lossd.request import Fault

RNG = np.random.default_rng(4)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=needs_compiler)])
def kernel(request: pytest.FixtureRequest) -> EagerKernel:
    return EAGER if request.param == "eager" else CompiledKernel()


def requests(loss: str, count: int, n: int, **params: Any) -> list[Work]:  # noqa: ANN401 -- as `work` takes them
    kinds = {"logits": RNG.normal(0, 5, (count, n)), "targets": RNG.integers(0, 2, (count, n))}
    return [
        work(loss, {"logits": x.astype(np.float32), "targets": y.astype(bool)}, **params)
        for x, y in zip(kinds["logits"], kinds["targets"], strict=True)
    ]


def figures(score: Score | Fault) -> tuple[Any, ...]:
    if isinstance(score, Fault):
        return (score.code, score.detail, score.errors)
    assert score.weight_sum is None
    return (repr(score.sum.terms), repr(score.positives.terms), score.count)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("n", [1, 77, 512, 2560])
@pytest.mark.parametrize(
    ("loss", "params"),
    [("bce", {}), ("focal", {}), ("focal", {"gamma": 2.3}), ("bce", {"label_smoothing": 0.1})],
)
def test_the_bits_are_those_alone(kernel: EagerKernel, loss: str, params: dict[str, Any], n: int) -> None:
    works = requests(loss, 12, n, **params)
    alone = [figures(kernel.score(one, 0, 1)) for one in works]
    likenesses = {kernel.likeness(one) for one in works}
    assert len(likenesses) == 1
    if None in likenesses:
        assert kernel.name != "eager"  # the compiled kernel pads one at a time
        assert n % 512
        return
    for count in (1, 2, 5, 12):
        for first in range(0, 12 - count + 1, count):
            found = kernel.score_together(works[first : first + count])
            assert [figures(one) for one in found] == alone[first : first + count]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "value"), [("logits", math.nan), ("logits", math.inf), ("targets", 1.5), ("targets", math.nan)]
)
def test_what_is_wrong_with_one_is_not_the_others(kernel: EagerKernel, name: str, value: float) -> None:
    tensors = [{"logits": RNG.normal(0, 5, 1024), "targets": RNG.random(1024)} for _ in range(4)]
    expected = [figures(kernel.score(work("bce", one), 0, 1)) for one in tensors]
    tensors[2][name][700] = value
    works = [work("bce", one) for one in tensors]
    found = kernel.score_together(works)
    assert [figures(found[i]) for i in (0, 1, 3)] == [expected[i] for i in (0, 1, 3)]
    if math.isinf(value):
        assert isinstance(found[2], Score)
        assert found[2].sum.value == math.inf
    else:
        assert isinstance(found[2], Fault)
        assert found[2].errors[0][0] == f"/{name}/700"


def test_only_what_is_alike_goes_together() -> None:
    x, y = RNG.normal(0, 5, (32, 80)), RNG.integers(0, 2, (32, 80))
    tensors = {"logits": x, "targets": y}
    like = EAGER.likeness(work("focal", tensors))
    assert like is not None
    assert EAGER.likeness(work("focal", {"logits": x + 1.0, "targets": 1 - y})) == like
    different: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("bce", tensors, {}),
        ("focal", tensors, {"alpha": 0.5}),
        ("focal", tensors, {"label_smoothing": 0.1}),
        ("focal", tensors, {"allow_nan": True}),
        ("focal", {**tensors, "targets": y.astype(np.uint8)}, {}),
        ("focal", {"probabilities": RNG.random((32, 80)), "targets": y}, {}),
        ("focal", {"logits": x[:16], "targets": y[:16]}, {}),
    ]
    for loss, changed, params in different:
        assert EAGER.likeness(work(loss, changed, **params)) not in (None, like)
    never: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({**tensors, "weight": np.ones(80)}, {}),
        ({**tensors, "mask": np.ones(80, dtype=bool)}, {}),
        (tensors, {"reduction": "none"}),
        (tensors, {"axis": 0}),
        (tensors, {"ignore_index": -1}),
        ({"logits": np.zeros(BLOCK + 1), "targets": np.zeros(BLOCK + 1)}, {}),
    ]
    for changed, params in never:
        assert EAGER.likeness(work("focal", changed, **params)) is None
    assert most_together(work("focal", tensors)) == BLOCK // 2560
