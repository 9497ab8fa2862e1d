"""Tversky loss against mpmath, by every kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.losses.overlap_reference import (
    HARD,
    SMOOTH,
    SOFT,
    keeps_the_promise,
    rows_of,
    tversky,
    within_a_few_of_nothing,
)
from core.scoring import elements
from reference import mpf

KINDS = ("logits", "probabilities")
FACTORS = st.one_of(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0, 1e6]), st.floats(1e-6, 1e6))


@pytest.mark.parametrize("targets", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40)
def test_rows(kind: str, targets: st.SearchStrategy[float], data: st.DataObject) -> None:
    values, y = data.draw(rows_of(kind, targets))
    params = {"smooth": data.draw(SMOOTH), "alpha": data.draw(FACTORS), "beta": data.draw(FACTORS)}
    losses = elements("tversky", targets=y, **{kind: values}, **params)
    assert losses.shape == (len(values),)
    for row, target, got in zip(values, y, losses, strict=True):
        true = tversky(row, target, probabilities=kind == "probabilities", **params)
        if not params["smooth"] and within_a_few_of_nothing(
            row, target, probabilities=kind == "probabilities"
        ):
            continue
        # Where a product of p and y underflows, one spacing of float64 for each number may be gone.
        assert keeps_the_promise(got, true) or true < len(row) * mpf(2) ** -900, (row, target, params)


def test_halves_make_it_dice_loss() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(7, 33)) * 4, rng.random((7, 33))
    for smooth in (0.0, 1.0, 0.3):
        dice = elements("dice", x, y, smooth=smooth)
        assert elements("tversky", x, y, smooth=smooth).tobytes() == dice.tobytes()


def test_the_factors_belong_to_the_errors_of_their_kind() -> None:
    # One false positive and two false negatives: 1 of alpha, 2 of beta, one true positive.
    x = np.array([[math.inf, math.inf, -math.inf, -math.inf, -math.inf]])
    y = np.array([[1.0, 0.0, 1.0, 1.0, 0.0]])
    for alpha, beta in ((0.3, 0.7), (1.0, 0.0), (0.0, 1.0), (2.0, 5.0)):
        errors = alpha + 2 * beta
        got = elements("tversky", x, y, alpha=alpha, beta=beta, smooth=0)[0]
        assert got == errors / (1 + errors)
    assert elements("tversky", x, y, alpha=0, beta=0, smooth=0)[0] == 0.0


def written_out_with_sums(x: torch.Tensor, y: torch.Tensor, alpha: float, beta: float, smooth: float) -> Any:  # noqa: ANN401 -- a tensor
    """The index as Salehi and others define it, and as MONAI and segmentation_models_pytorch compute it."""
    p = torch.sigmoid(x)
    tp, fp, fn = (p * y).sum(1), (p * (1 - y)).sum(1), ((1 - p) * y).sum(1)
    return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


def test_against_the_form_that_other_libraries_have() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(20, 100)) * 3, (rng.random((20, 100)) < 0.2) * 1.0
    for alpha, beta, smooth in ((0.5, 0.5, 0.0), (0.3, 0.7, 1.0), (1.0, 1.0, 1e-5)):
        theirs = written_out_with_sums(torch.from_numpy(x), torch.from_numpy(y), alpha, beta, smooth)
        ours = elements("tversky", x, y, alpha=alpha, beta=beta, smooth=smooth)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-14)


def test_a_small_loss_keeps_the_digits_that_the_difference_from_1_loses() -> None:
    x, y = np.full((1, 50), 40.0), np.ones((1, 50))
    assert float(written_out_with_sums(torch.from_numpy(x), torch.from_numpy(y), 0.5, 0.5, 1.0)[0]) == 0.0
    got, true = elements("tversky", x, y)[0], tversky(x[0], y[0])
    assert 2e-18 < true < 3e-18
    assert keeps_the_promise(got, true)
