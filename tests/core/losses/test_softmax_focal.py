"""Focal loss of classes against mpmath, and against the formula of its paper in float64 torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import exp, log1p, mpf  # type: ignore[import-untyped] # it has none

from core.losses import softmax_reference as truth
from core.losses.test_cross_entropy import by_id as cross_entropy
from core.losses.test_cross_entropy import one_hot, rows
from core.scoring import elements, figures, work

ULPS = 8
"""For gamma up to 10; what is promised is 16."""
GAMMAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0]), st.floats(0, 10))
SMOOTHING = st.sampled_from([0.0, 0.1, 0.7])
LEAST = mpf(2) ** -1000
"""Below, factors are subnormal."""


def by_id(x: Any, ids: Any, **given: Any) -> list[float]:  # noqa: ANN401 -- arrays, parameters
    found: list[float] = elements("softmax_focal", x, ids, targets_format="index", **given).tolist()
    return found


def by_classes(x: Any, y: Any, **given: Any) -> list[float]:  # noqa: ANN401 -- the same
    found: list[float] = elements("softmax_focal", x, y, targets_format="dense", **given).tolist()
    return found


def is_far_from_subnormal(x: list[list[float]], gamma: float) -> bool:
    return all(
        miss == 0 or (miss > LEAST and miss ** mpf(gamma) * miss > LEAST)
        for row in x
        for _, miss in truth.costs(row)
    )


@given(rows(), GAMMAS, SMOOTHING, st.booleans())
def test_ids(drawn: Any, gamma: float, smoothing: float, balanced: bool) -> None:  # noqa: ANN401
    x, ids, _, factors = drawn
    assume(is_far_from_subnormal(x, gamma))
    alpha = factors if balanced else None
    given: dict[str, Any] = {"alpha": np.array(factors)} if balanced else {}
    losses = by_id(x, ids, gamma=gamma, label_smoothing=smoothing, **given)
    for row, place, got in zip(x, ids, losses, strict=True):
        true = truth.loss(row, one_hot(place, len(row)), alpha, smoothing, gamma)
        assert truth.reference.is_within(got, true, ULPS), (row, place)


@given(rows(), GAMMAS, SMOOTHING, st.booleans())
def test_targets_of_all_classes(
    drawn: Any,  # noqa: ANN401 -- of rows
    gamma: float,
    smoothing: float,
    balanced: bool,
) -> None:
    x, _, y, factors = drawn
    assume(is_far_from_subnormal(x, gamma))
    alpha = factors if balanced else None
    given: dict[str, Any] = {"alpha": np.array(factors)} if balanced else {}
    losses = by_classes(x, y, gamma=gamma, label_smoothing=smoothing, **given)
    for row, targets, got in zip(x, y, losses, strict=True):
        assert truth.reference.is_within(got, truth.loss(row, targets, alpha, smoothing, gamma), ULPS)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0, 4.5, 10.0])
@pytest.mark.parametrize("classes", [10, 80, 1000])
def test_many_classes(classes: int, gamma: float) -> None:
    random = np.random.default_rng(classes)
    x = random.standard_normal((6, classes)) * 5
    ids = [*x[:3].argmax(1).tolist(), *random.integers(0, classes, 3).tolist()]
    for row, place, got in zip(x.tolist(), ids, by_id(x, ids, gamma=gamma), strict=True):
        true = truth.loss(row, one_hot(place, classes), gamma=gamma)
        assert truth.reference.is_within(got, true, ULPS)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("gap", [17.0, 40.0, 100.0, 190.0])
def test_no_tail_is_lost(gap: float, gamma: float) -> None:
    """1 - p of a row that is nearly right is about exp(-gap), where float32 forms say 0."""
    e = exp(-mpf(gap))
    true = (e / (1 + e)) ** mpf(gamma) * log1p(e)
    (got,) = by_id([[gap, 0.0]], [0], gamma=gamma)
    assert truth.reference.is_within(got, true, ULPS)


@given(rows())
def test_gamma_of_0_is_the_cross_entropy(drawn: Any) -> None:  # noqa: ANN401 -- of rows
    x, ids, _, factors = drawn
    assert by_id(x, ids, gamma=0.0) == cross_entropy(x, ids)
    assert by_id(x, ids, gamma=0.0, alpha=np.array(factors)) == cross_entropy(
        x, ids, class_weight=np.array(factors)
    )


def test_certain_logits() -> None:
    far = math.inf
    assert by_id([[far, 0.0], [far, 0.0]], [0, 1]) == [0.0, far]
    assert by_id([[far], [-far], [3.0]], [0, 0, 0]) == [0.0, 0.0, 0.0]
    assert by_id([[far, far]], [1]) == [math.log(2.0) / 4.0]
    assert by_id([[far, 0.0]], [1], alpha=np.array([1.0, 0.0])) == [0.0]
    assert by_classes([[far, 0.0]], [[1.0, 0.0]]) == [0.0]
    assert math.isnan(by_id([[math.nan, 0.0]], [1], allow_nan=True)[0])


def test_the_paper() -> None:
    """``-alpha_t (1 - p_t)^gamma log p_t``, as Lin et al. write it."""
    random = np.random.default_rng(4)
    x, ids, alpha = random.standard_normal((60, 9)), random.integers(0, 9, 60), random.random(9)
    log_p = torch.nn.functional.log_softmax(torch.tensor(x), 1)[torch.arange(60), torch.tensor(ids)]
    each = -torch.tensor(alpha)[torch.tensor(ids)] * (1.0 - log_p.exp()) ** 2.0 * log_p
    np.testing.assert_allclose(by_id(x, ids, alpha=alpha), each.numpy(), rtol=1e-12)


def test_alpha_is_no_weight() -> None:
    tensors = {
        "logits": np.array([[1.0, 2.0], [0.0, 3.0]]),
        "targets": np.array([0, 1]),
        "alpha": np.array([0.25, 0.5]),
    }
    found = figures(work("softmax_focal", tensors, targets_format="index"))
    assert found.weight_sum is None
    assert found.count == 2
    assert found.positives.value == 2.0


@pytest.mark.parametrize("gamma", [2.0, 2.5])
def test_the_order_of_other_classes_leaves_the_bits(gamma: float) -> None:
    random = np.random.default_rng(3)
    for classes in (5, 90, 1100):
        x = random.standard_normal((1, classes)) * 9
        order = random.permutation(classes)
        place = int(np.flatnonzero(order == 2)[0])
        assert by_id(x, [2], gamma=gamma) == by_id(x[:, order], [place], gamma=gamma)
