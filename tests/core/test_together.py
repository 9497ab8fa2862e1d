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
from lossd.core.together import Sums, most_together
from lossd.core.work import Work

RNG = np.random.default_rng(4)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=needs_compiler)])
def kernel(request: pytest.FixtureRequest) -> EagerKernel:
    return EAGER if request.param == "eager" else CompiledKernel()


FORMS = ("<f4", ">f4", "<f8", "unaligned", "column-major", "bfloat16")


def requests(count: int, n: int, form: str) -> list[tuple[Any, Any]]:
    """Logits in a form, [n] or [n / 7, 7], and bool targets of their shape."""
    shape = (n // 7, 7) if n % 7 == 0 else (n,)
    found = []
    for x, y in zip(RNG.normal(0, 5, (count, *shape)), RNG.integers(0, 2, (count, *shape)), strict=True):
        if form == "bfloat16":
            bits = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            found.append((bits, y.astype(bool)))
        elif form == "unaligned":
            room = np.zeros(4 * n + 1, dtype=np.uint8)
            logits = room[1:].view("<f4").reshape(shape)
            logits[...] = x
            found.append((logits, y.astype(bool)))
        elif form == "column-major":
            found.append((np.asfortranarray(x.astype(np.float32)), np.asfortranarray(y.astype(bool))))
        else:
            found.append((x.astype(form), y.astype(bool)))
    return found


def works(loss: str, pairs: list[tuple[Any, Any]], form: str = "", **params: Any) -> list[Work]:  # noqa: ANN401 -- as `work` takes them
    bfloat16 = frozenset({"logits"} if form == "bfloat16" else ())
    return [work(loss, {"logits": x, "targets": y}, bfloat16, **params) for x, y in pairs]


def figures(score: Score | Sums) -> tuple[Any, ...]:
    if isinstance(score, Sums):
        return (repr(score.loss), repr(score.positives), score.elements)
    assert score.weight_sum is None
    return (repr(score.sum.value), repr(score.positives.value), score.count)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 77, 512, 2560, 3584])
@pytest.mark.parametrize(
    ("loss", "params"),
    [("bce", {}), ("focal", {}), ("focal", {"gamma": 2.3}), ("bce", {"label_smoothing": 0.1})],
)
def test_the_bits_are_those_alone(
    kernel: EagerKernel, loss: str, params: dict[str, Any], n: int, form: str
) -> None:
    pairs = requests(12, n, form)
    all_works = works(loss, pairs, form, **params)
    alone = [figures(kernel.score(one, 0, 1)) for one in all_works]
    likenesses = {kernel.likeness(one) for one in all_works}
    assert len(likenesses) == 1
    if None in likenesses:
        assert kernel.name != "eager"  # the compiled kernel pads one at a time
        assert n % 512
        return
    for count in (1, 2, 5, 8):
        for first in range(0, 12 - count + 1, count):
            found = kernel.score_together(all_works[0], pairs[first : first + count])
            assert found is not None
            assert [figures(one) for one in found] == alone[first : first + count]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    ("name", "value"), [("logits", math.nan), ("logits", math.inf), ("targets", 1.5), ("targets", math.nan)]
)
def test_none_is_given_where_something_is_wrong_with_one(
    kernel: EagerKernel, name: str, value: float, count: int
) -> None:
    pairs = [(RNG.normal(0, 5, 1024), RNG.random(1024)) for _ in range(count)]
    template = works("bce", pairs)[0]
    assert kernel.score_together(template, pairs) is not None
    pairs[count // 2][name == "targets"][700] = value
    assert kernel.score_together(template, pairs) is None


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
    assert most_together(work("focal", tensors)) == 8
    long = {"logits": np.zeros(BLOCK // 3), "targets": np.zeros(BLOCK // 3)}
    assert most_together(work("focal", long)) == 3
