"""Numbers at the edges of what the native kernel does in shorter ways: exact sums, and the same bits."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core.scoring import NATIVE, elements, figures, work
from lossd.types import Float64Array

pytestmark = pytest.mark.skipif(NATIVE is None, reason="no native kernel")

COUNT = 5000
EDGES = [15, -34, -35, -36, -37, -38, -86, -87, -88, -140, -1022, -1074]
"""Powers of two where sums of whole numbers end, or lose a digit."""


def edges(rng: np.random.Generator, power: int) -> Float64Array:
    """Numbers about a power of two, among numbers of usual size."""
    values = rng.random(COUNT) * 10.0
    near = np.ldexp(1.0, power) * rng.choice([1.0, 1 - 2**-53, 1 + 2**-52, 1.5, 0.5, 3.0], COUNT)
    return np.where(rng.random(COUNT) < 0.01, near, values)


@pytest.mark.parametrize("power", EDGES)
def test_sums_are_exact_at_every_edge(power: int) -> None:
    rng = np.random.default_rng(abs(power))
    weight = edges(rng, power)
    loss = rng.choice([-1.0, 1.0], COUNT) * np.sqrt(edges(rng, power))
    targets = np.zeros(COUNT)
    found = figures(work("squared", {"logits": loss, "targets": targets, "weight": weight}))
    assert found.weight_sum is not None
    assert found.weight_sum.value == float(sum(map(Fraction, weight.tolist()), Fraction(0)))
    squares = (loss * loss * weight).tolist()  # each rounded as the loss is
    assert found.sum.value == float(sum(map(Fraction, squares), Fraction(0)))


@pytest.mark.parametrize("loss", ["bce", "focal", "squared", "hinge", "dice"])
@pytest.mark.parametrize("kind", ["hard", "soft", "one soft", "-0"])
def test_targets_add_up_whatever_they_are(loss: str, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    targets = (rng.random((4, 700)) < 0.2).astype(np.float32)
    if kind == "soft":
        targets = rng.random((4, 700)).astype(np.float32)
    elif kind == "one soft":
        targets[2, 17] = 0.3
    elif kind == "-0":
        targets[targets == 0] = -0.0
    logits = rng.normal(0, 3, (4, 700)).astype(np.float32)
    found = figures(work(loss, {"logits": logits, "targets": targets}))
    assert found.positives.value == float(sum(map(Fraction, targets.ravel().tolist()), Fraction(0)))


@pytest.mark.parametrize("value", [2.0**-15, 2.0**-16, 2.0**-149, 2.0**14 - 2**-10, 2.0**14, 3e38, np.inf])
@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal"])
def test_logits_of_any_size_give_the_bits_of_float64(loss: str, value: float) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 3, (40, 50)).astype(np.float32)
    at = rng.random(logits.shape) < 0.02
    logits[at] = (rng.choice([-1.0, 1.0], at.sum()) * value * (1 - 2.0**-24)).astype(np.float32)
    targets = rng.integers(0, 50, 40)
    wide: Any = logits.astype(np.float64)
    assert (
        elements(loss, logits, targets).tobytes() == elements(loss, wide, targets).tobytes()
    )  # which is read otherwise


@pytest.mark.parametrize("value", [1e-9, -1e-9, 2.0**-15, 2e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal"])
def test_the_greatest_logit_of_a_long_row_may_be_far_away(loss: str, smoothing: float, value: float) -> None:
    """A row of more than a block is read in pieces; the greatest logit is in the last one."""
    rng = np.random.default_rng(11)
    logits = -np.abs(rng.normal(3, 1, (20, 4096))).astype(np.float32) - np.float32(0.01)
    logits[:, 4000] = value * rng.uniform(1, 2, 20)
    targets = rng.integers(0, 4096, 20)
    wide: Any = logits.astype(np.float64)
    found, expected = (elements(loss, x, targets, label_smoothing=smoothing) for x in (logits, wide))
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("far", [2.0**17, 1e20, -(2.0**17), -1e20])
def test_targets_of_a_regression_add_up_at_any_size(far: float) -> None:
    targets = np.where(np.arange(700) % 50 == 0, far, 1.0)
    found = figures(work("squared", {"logits": targets, "targets": targets}))
    assert sum(map(Fraction, found.positives.terms)) == sum(map(Fraction, targets.tolist()))


@pytest.mark.parametrize("least", [1.0, 2.0**-20, 2.0**-29, 2.0**-31, 2.0**-149])
def test_differences_that_need_more_digits_are_seen(least: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, 900).astype(np.float32)
    targets = (rng.normal(0, 3, 900) * np.where(rng.random(900) < 0.01, least, 1.0)).astype(np.float32)
    found = elements("squared", logits, targets)
    exact = [(Fraction(x) - Fraction(y)) ** 2 for x, y in zip(logits.tolist(), targets.tolist(), strict=True)]
    assert found == pytest.approx([float(each) for each in exact], rel=2**-52, abs=0)
