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
@pytest.mark.parametrize("name", ["logits", "probabilities"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_layouts_and_shapes_meet_in_one_pass(kernel: EagerKernel, name: str, dtype: type) -> None:
    all_works, pairs = [], []
    layouts: Any = (((16, 80), "C"), ((80, 16), "F"), ((1280,), ">"), ((4, 320), "C"), ((1280,), "C"))
    for shape, order in layouts:
        x: Any = RNG.uniform(0.1, 0.9, shape).astype(dtype)
        x = x.astype(x.dtype.newbyteorder(">")) if order == ">" else np.asarray(x, order=order)
        y = np.asarray(RNG.integers(0, 2, shape).astype(np.int64), order="F" if order == "F" else "C")
        pairs.append((x, y))
        all_works.append(work("focal", {name: x, "targets": y}))
    assert len({kernel.likeness(one) for one in all_works}) == 1
    if kernel.likeness(all_works[0]) is None:
        assert 1280 % 512
        return
    found = kernel.score_together(all_works[2], pairs)
    assert found is not None
    assert [figures(one) for one in found] == [figures(kernel.score(one, 0, 1)) for one in all_works]


@needs_compiler
@pytest.mark.timeout(300)
def test_nothing_is_compiled_for_unusual_dtypes_of_short_requests() -> None:
    kernel = CompiledKernel()
    kinds = [(np.float16, np.int8), (np.float32, np.int16), (np.float64, np.int64), (np.float16, np.float16)]
    for x, y in kinds:
        pairs = [(RNG.normal(0, 1, 512).astype(x), RNG.integers(0, 2, 512).astype(y)) for _ in range(3)]
        for count in (1, 3):
            assert kernel.score_together(works("bce", pairs)[0], pairs[:count]) is not None
    assert len(kernel._passes) == 2  # float64 with float64, and float32 with float64


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
