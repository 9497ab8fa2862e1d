"""Cross entropy of classes against mpmath, torch and scikit-learn."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, log1p, mpf  # type: ignore[import-untyped] # it has none
from sklearn.metrics import log_loss  # type: ignore[import-untyped] # it has none

from core.losses import softmax_reference as truth
from core.scoring import elements, figures, work

ULPS = 4
"""What is promised is 16."""
LOGITS = st.one_of(
    st.floats(-300, 300),
    st.floats(-5, 5),
    st.integers(-3, 3).map(float),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 1e308, -1e308, 1e-17]),
)
FACTORS = st.one_of(st.sampled_from([0.0, 1.0, 1e-200]), st.floats(1e-3, 1e3))
TARGETS = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-6, 1))
SMOOTHING = st.sampled_from([0.0, 0.1, 1e-9, 0.7, 1 - 2.0**-53])


def by_id(x: Any, ids: Any, **given: Any) -> list[float]:  # noqa: ANN401 -- arrays, parameters
    found: list[float] = elements("cross_entropy", x, ids, targets_format="index", **given).tolist()
    return found


def by_classes(x: Any, y: Any, **given: Any) -> list[float]:  # noqa: ANN401 -- the same
    found: list[float] = elements("cross_entropy", x, y, targets_format="dense", **given).tolist()
    return found


def one_hot(place: int, classes: int) -> list[float]:
    return [1.0 if c == place else 0.0 for c in range(classes)]


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[list[float]], list[float]]:
    """Logits, ids, targets of all classes, and a factor of each class."""
    classes, n = draw(st.integers(1, 18)), draw(st.integers(1, 3))
    x = [draw(st.lists(LOGITS, min_size=classes, max_size=classes)) for _ in range(n)]
    ids = [draw(st.integers(0, classes - 1)) for _ in range(n)]
    y = [draw(st.lists(TARGETS, min_size=classes, max_size=classes)) for _ in range(n)]
    return x, ids, y, draw(st.lists(FACTORS, min_size=classes, max_size=classes))


@given(rows())
def test_ids(drawn: Any) -> None:  # noqa: ANN401 -- of rows
    x, ids, _, _ = drawn
    for row, place, got in zip(x, ids, by_id(x, ids), strict=True):
        true = truth.loss(row, one_hot(place, len(row)))
        assert truth.reference.is_within(got, true, ULPS), (row, place)


@given(rows(), SMOOTHING, st.booleans())
def test_ids_with_every_parameter(drawn: Any, smoothing: float, weighted: bool) -> None:  # noqa: ANN401
    x, ids, _, factors = drawn
    given: dict[str, Any] = {"class_weight": np.array(factors)} if weighted else {}
    losses = by_id(x, ids, label_smoothing=smoothing, **given)
    for row, place, got in zip(x, ids, losses, strict=True):
        true = truth.loss(row, one_hot(place, len(row)), factors if weighted else None, smoothing)
        assert truth.reference.is_within(got, true, ULPS), (row, place)


@given(rows(), SMOOTHING, st.booleans())
def test_targets_of_all_classes(drawn: Any, smoothing: float, weighted: bool) -> None:  # noqa: ANN401
    x, _, y, factors = drawn
    given: dict[str, Any] = {"class_weight": np.array(factors)} if weighted else {}
    losses = by_classes(x, y, label_smoothing=smoothing, **given)
    for row, targets, got in zip(x, y, losses, strict=True):
        true = truth.loss(row, targets, factors if weighted else None, smoothing)
        assert truth.reference.is_within(got, true, ULPS), (row, targets)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("classes", [10, 80, 1000])
def test_many_classes(classes: int, scale: float) -> None:
    random = np.random.default_rng(classes)
    x = random.standard_normal((6, classes)) * scale
    ids = [*x[:3].argmax(1).tolist(), *random.integers(0, classes, 3).tolist()]
    for row, place, got in zip(x.tolist(), ids, by_id(x, ids), strict=True):
        assert truth.reference.is_within(got, truth.loss(row, one_hot(place, classes)), ULPS)


@pytest.mark.parametrize("gap", [40.0, 100.0, 690.8, 700.0, 707.5, 730.0, 745.0])
def test_no_tail_is_lost(gap: float) -> None:
    """A row that is nearly right costs about exp(-gap), where naive forms say 0."""
    for x in ([gap, 0.0], [gap - 3.0, -3.0, -4.0], [0.0, *[-gap] * 999]):
        others = [mpf(value) - mpf(x[0]) for value in x[1:]]
        (got,) = by_id([x], [0])
        assert got > 0.0
        # where exp(-gap) is subnormal, a spacing each
        true = log1p(sum(map(exp, others)))
        assert truth.reference.is_within(got, true, ULPS, [exp(others[0])], scale=len(others)), (gap, x)


def test_certain_logits() -> None:
    far, big = math.inf, 1e308
    assert by_id([[far, 0.0, 1.0], [far, 0.0, 1.0]], [0, 1]) == [0.0, far]
    assert by_id([[far, far, 1.0]], [1]) == [math.log(2.0)]  # they share
    assert by_id([[-far, -far]], [0]) == [math.log(2.0)]  # all alike
    assert by_id([[-far, 3.0], [-far, 3.0]], [1, 0]) == [0.0, far]
    assert by_id([[big, -big]], [1]) == [far]  # beyond float64, whatever factor comes later:
    assert by_id([[big, -big]], [1], class_weight=np.array([1.0, 0.25])) == [far]
    assert by_id([[big, -big]], [0], label_smoothing=0.5) == [far]
    assert by_id([[far], [-far], [3.0]], [0, 0, 0]) == [0.0, 0.0, 0.0]  # one class
    # a target, or weight, of 0 makes 0 of infinity
    assert by_classes([[-far, 3.0]], [[0.0, 1.0]]) == [0.0]
    assert by_id([[-far, 3.0]], [0], class_weight=np.array([0.0, 1.0])) == [0.0]
    assert by_classes([[-far, 3.0]], [[1e-9, 1.0]]) == [far]
    assert by_id([[-far, 3.0]], [1], label_smoothing=0.1) == [far]


def test_nan() -> None:
    x = [[math.nan, 1.0, 2.0], [0.0, 1.0, 2.0]]
    losses = by_id(x, [2, 2], allow_nan=True)
    assert math.isnan(losses[0])
    assert losses[1] == by_id(x[1:], [2])[0]
    assert math.isnan(by_classes(x, [[0.0, 0.0, 1.0]] * 2, allow_nan=True)[0])


@given(rows())
def test_one_hot_targets_have_the_bits_of_ids(drawn: Any) -> None:  # noqa: ANN401 -- of rows
    x, ids, _, factors = drawn
    y = [one_hot(place, len(x[0])) for place in ids]
    assert by_classes(x, y) == by_id(x, ids)
    assert by_classes(x, y, class_weight=np.array(factors)) == by_id(x, ids, class_weight=np.array(factors))


@pytest.mark.parametrize("classes", [7, 80, 1500])
def test_the_order_of_other_classes_leaves_the_bits(classes: int) -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((1, classes)) * 20
    y = random.dirichlet(np.ones(classes), 1)
    order = random.permutation(classes)
    place = int(np.flatnonzero(order == 2)[0])
    assert by_id(x, [2]) == by_id(x[:, order], [place])
    assert by_classes(x, y) == by_classes(x[:, order], y[:, order])


def test_a_million_classes() -> None:
    classes, random = 1 << 20, np.random.default_rng(5)
    values = random.standard_normal(16) * 8
    x = values[np.arange(classes) % 16][None]
    best = int(values.argmax())
    for place in (best, (best + 5) % 16):
        sums = sum(exp(mpf(value) - mpf(values[best])) for value in values) * (classes // 16) - 1
        true = mpf(values[best]) - mpf(values[place]) + log1p(sums)
        (got,) = by_id(x, [place])
        assert truth.reference.is_within(got, true, ULPS)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_torch(*, weighted: bool, smoothing: float) -> None:
    random = np.random.default_rng(7)
    x, ids = random.standard_normal((50, 11)) * 4, random.integers(0, 11, 50)
    y, w = random.dirichlet(np.ones(11), 50), random.random(11) * 3
    ids[::7] = -100
    loss = torch.nn.functional.cross_entropy
    its: dict[str, Any] = {"label_smoothing": smoothing}
    ours: dict[str, Any] = {"label_smoothing": smoothing}
    if weighted:
        its["weight"], ours["class_weight"] = torch.tensor(w), w
    each = loss(torch.tensor(x), torch.tensor(ids), reduction="none", **its).numpy()
    np.testing.assert_allclose(by_id(x, ids, ignore_index=-100, **ours), each, rtol=1e-13)
    soft = loss(torch.tensor(x), torch.tensor(y), reduction="none", **its).numpy()
    np.testing.assert_allclose(by_classes(x, y, **ours), soft, rtol=1e-13)
    tensors = {"logits": x, "targets": ids, **({"class_weight": w} if weighted else {})}
    found = figures(
        work("cross_entropy", tensors, targets_format="index", ignore_index=-100, label_smoothing=smoothing)
    )
    divisor = found.weight_sum.value if found.weight_sum is not None else found.count
    mean = loss(torch.tensor(x), torch.tensor(ids), **its).item()
    assert found.sum.value / divisor == pytest.approx(mean, rel=1e-13)


def test_scikit_learn() -> None:
    random = np.random.default_rng(8)
    x, ids = random.standard_normal((40, 5)) * 2, random.integers(0, 5, 40)
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    mean = log_loss(ids, p, labels=range(5))
    assert np.mean(by_id(x, ids)) == pytest.approx(mean, rel=1e-12)


def test_images() -> None:
    random = np.random.default_rng(9)
    x, ids = random.standard_normal((2, 5, 3, 4)), random.integers(0, 5, (2, 3, 4))
    losses = elements("cross_entropy", x, ids, targets_format="index", class_axis=1)
    assert losses.shape == (2, 3, 4)
    assert losses.ravel().tolist() == by_id(np.moveaxis(x, 1, -1).reshape(-1, 5), ids.ravel())
    each = torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(ids), reduction="none").numpy()
    np.testing.assert_allclose(losses, each, rtol=1e-13)


@pytest.mark.parametrize("classes", [6, 40, 1200])
def test_sums_of_targets_and_weights_are_exact(classes: int) -> None:
    """Each row adds its exact sum, rounded once."""
    random = np.random.default_rng(classes)
    x = random.standard_normal((5, classes))
    y = random.random((5, classes)) * 10.0 ** random.integers(-30, 1, (5, classes))
    w = random.random(classes)
    tensors = {"logits": x, "targets": y, "class_weight": w}
    found = figures(work("cross_entropy", tensors, targets_format="dense"))
    targets = sum(Fraction(float(sum(map(Fraction, row)))) for row in y.tolist())
    weights = sum(Fraction(float(sum(map(Fraction, row)))) for row in (y * w).tolist())
    assert found.positives.value == float(targets)
    assert found.weight_sum is not None
    assert found.weight_sum.value == float(weights)
