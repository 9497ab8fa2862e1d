"""Dice and Tversky losses by mpmath at 50 digits, sharing nothing with the core."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

from reference import exp, is_within, mpf

ULPS: Final = 8.0
"""The bound of the error that docs/explanations/numerics.md promises, in units of the last place."""

LOGITS: Final = st.one_of(
    st.floats(-800, 800),
    st.floats(-40, 40),
    st.floats(-1, 1),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 700.0, -700.0, -37.5, 36.9]),
)
PROBABILITIES: Final = st.one_of(
    st.floats(0, 1),
    st.floats(1 - 1e-6, 1),
    st.sampled_from([0.0, 1.0, 1e-300, 2.0**-53, 0.5, 1 - 2.0**-53]),
)
HARD: Final = st.sampled_from([0.0, 1.0])
SOFT: Final = st.one_of(HARD, st.floats(0, 1), st.sampled_from([1e-200, 1 - 2.0**-53]))
SMOOTH: Final = st.one_of(st.sampled_from([0.0, 1.0, 1e-5]), st.floats(0, 1e6))


@st.composite
def rows_of(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[float]) -> tuple[Any, Any]:
    """Rows of inputs and their targets, [n, size] each: short ones, or one of more than a block."""
    size = draw(st.one_of(st.integers(1, 40), st.sampled_from([1023, 1025, 2100])))
    n = draw(st.integers(1, 6)) if size <= 40 else 1
    values = LOGITS if kind == "logits" else PROBABILITIES
    # a few numbers drawn, and others of the same kinds about them
    drawn = draw(st.lists(st.tuples(values, targets), min_size=1, max_size=24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = rng.integers(0, len(drawn), (n, size))
    return np.array([case[0] for case in drawn])[places], np.array([case[1] for case in drawn])[places]


def parts_of(value: float, y: float, *, probabilities: bool) -> tuple[mpf, mpf, mpf]:
    """What an element adds to TP, FP and FN."""
    if probabilities:
        p, q = mpf(value), 1 - mpf(value)
    elif math.isinf(value):
        p, q = mpf(int(value > 0)), mpf(int(value < 0))
    else:
        p, q = 1 / (1 + exp(-mpf(value))), 1 / (1 + exp(mpf(value)))
    return p * mpf(y), p * (1 - mpf(y)), q * mpf(y)


def within_a_few_of_nothing(values: Iterable[float], y: Iterable[float], *, probabilities: bool) -> bool:
    """Whether all three sums are so near to the least number that their ratio has no digits."""
    parts = (parts_of(*map(float, case), probabilities=probabilities) for case in zip(values, y, strict=True))
    sums = [sum(each, mpf(0)) for each in zip(*parts, strict=True)]
    return bool(max(sums) < mpf(2) ** -1000)


def tversky(
    values: Iterable[float],
    y: Iterable[float],
    *,
    probabilities: bool = False,
    smooth: float = 1.0,
    alpha: float = 0.5,
    beta: float = 0.5,
) -> mpf:
    """The Tversky loss of a row; by default its dice loss."""
    known: dict[tuple[float, float], tuple[mpf, mpf, mpf]] = {}
    sums = [mpf(0), mpf(0), mpf(0)]
    for case in zip(map(float, values), map(float, y), strict=True):
        if case not in known:
            known[case] = parts_of(*case, probabilities=probabilities)
        sums = [total + part for total, part in zip(sums, known[case], strict=True)]
    errors = mpf(alpha) * sums[1] + mpf(beta) * sums[2]
    return mpf(0) if errors == 0 else errors / (sums[0] + errors + mpf(smooth))


def keeps_the_promise(got: float, true: mpf) -> bool:
    """Whether a loss is within the bound."""
    return is_within(float(got), true, ULPS, factors=[true])
