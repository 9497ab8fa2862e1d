"""Dice loss against mpmath, by every kernel: rows of any length, and what makes a row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
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
from core.scoring import elements, figures, work

KINDS = ("logits", "probabilities")
Floats = npt.NDArray[np.float64]


@pytest.mark.parametrize("targets", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40)
def test_rows(kind: str, targets: st.SearchStrategy[float], data: st.DataObject) -> None:
    values, y = data.draw(rows_of(kind, targets))
    smooth = data.draw(SMOOTH)
    losses = elements("dice", targets=y, smooth=smooth, **{kind: values})
    for row, target, got in zip(values, y, losses, strict=True):
        true = tversky(row, target, probabilities=kind == "probabilities", smooth=smooth)
        if smooth or not within_a_few_of_nothing(row, target, probabilities=kind == "probabilities"):
            assert keeps_the_promise(got, true), (row, target, smooth)


def drawn(*shape: int, seed: int = 1, scale: float = 3.0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * scale, (rng.random(shape) < 0.3).astype(np.float64)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 31, 80, 333, 1000, 1024, 1025, 5000])
def test_lengths(size: int) -> None:
    x, y = drawn(3, size, seed=size)
    soft = np.random.default_rng(size).random((3, size))
    for targets in (y, soft):
        losses = elements("dice", x, targets)
        for row, target, got in zip(x, targets, losses, strict=True):
            assert keeps_the_promise(got, tversky(row, target))


@pytest.mark.parametrize("scale", [20.0, 60.0, 200.0])
def test_confident_models(scale: float) -> None:
    for shape in ((12, 80), (1, 3000)):
        x, y = drawn(*shape, scale=scale)
        for row, target, got in zip(x, y, elements("dice", x, y), strict=True):
            assert keeps_the_promise(got, tversky(row, target))


def rows_per(values: Floats, per: str, axis: int) -> Floats:
    if per == "sample":
        return values.reshape(len(values), -1)
    if per == "class":
        return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    return values.reshape(1, -1)


@pytest.mark.parametrize("per", ["sample", "class", "all"])
@pytest.mark.parametrize("axis", [1, -1])
def test_what_makes_a_row(per: str, axis: int) -> None:
    x, y = drawn(4, 3, 5, 7)
    losses = elements("dice", x, y, per=per, class_axis=axis)
    rows = zip(rows_per(x, per, axis), rows_per(y, per, axis), losses, strict=True)
    for row, target, got in rows:
        assert keeps_the_promise(got, tversky(row, target))


def test_class_ids_open_out_within_their_rows() -> None:
    rng = np.random.default_rng(2)
    x, ids = rng.normal(size=(4, 3, 6)), rng.integers(0, 3, (4, 6))
    y = np.moveaxis(np.eye(3)[ids], 2, 1)
    for per in ("sample", "class", "all"):
        given = {"per": per, "class_axis": 1}
        dense = elements("dice", x, y, **given)
        assert elements("dice", x, ids, targets_format="index", **given).tobytes() == dense.tobytes()


def test_a_background_is_of_no_class_and_counts() -> None:
    rng = np.random.default_rng(3)
    x, ids = rng.normal(size=(2, 3, 40)), rng.integers(0, 4, (2, 40))
    y = np.moveaxis(np.eye(4)[ids][..., :3], 2, 1)
    given: dict[str, Any] = {"class_axis": 1, "targets_format": "index", "background_index": 3}
    assert elements("dice", x, ids, **given).tobytes() == elements("dice", x, y, class_axis=1).tobytes()


@pytest.mark.parametrize("size", [50, 2500])
def test_an_ignored_element_adds_to_no_sum(size: int) -> None:
    x, y = drawn(3, size)
    y[:, ::5] = 255.0
    losses = elements("dice", x, y, ignore_index=255)
    kept = y[0] != 255.0
    assert losses.tobytes() == elements("dice", x[:, kept], y[:, kept]).tobytes()


def test_a_row_of_ignored_elements_costs_nothing() -> None:
    for smooth in (0.0, 1.0):
        losses = elements("dice", [[3.0, -1.0]], [[-1.0, -1.0]], ignore_index=-1, smooth=smooth)
        assert losses.tolist() == [0.0]


def test_targets_are_summed_exactly() -> None:
    x, y = drawn(3, 2100)
    job = work("dice", {"logits": x, "targets": y})
    found = figures(job)
    assert found.positives.value == y.sum()
    assert found.count == 3


@pytest.mark.parametrize("shape", [(6, 100), (2, 3000)])
def test_order_leaves_the_bits(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    for scale in (3.0, 50.0):
        x, y = rng.normal(size=shape) * scale, rng.random(shape)
        losses = elements("dice", x, y)
        within, rows = rng.permutation(shape[1]), rng.permutation(shape[0])
        assert elements("dice", x[:, within], y[:, within]).tobytes() == losses.tobytes()
        assert elements("dice", x[rows], y[rows]).tobytes() == losses[rows].tobytes()


@pytest.mark.parametrize("size", [3, 40, 2000])
def test_empty_masks(size: int) -> None:
    none = np.zeros((1, size))
    # nothing is predicted, and nothing is there
    assert elements("dice", np.full((1, size), -math.inf), none, smooth=0).tolist() == [0.0]
    assert elements("dice", np.full((1, size), -math.inf), none).tolist() == [0.0]
    # something is predicted, and nothing is there
    assert elements("dice", np.full((1, size), math.inf), none, smooth=0).tolist() == [1.0]
    assert elements("dice", np.full((1, size), math.inf), none).tolist() == [size / 2 / (size / 2 + 1)]
    # everything is there: nothing of it, and all of it, is predicted
    assert elements("dice", np.full((1, size), -math.inf), 1 - none, smooth=0).tolist() == [1.0]
    assert elements("dice", np.full((1, size), math.inf), 1 - none, smooth=0).tolist() == [0.0]


@pytest.mark.parametrize("size", [4, 30, 3000])
def test_nan_makes_its_row_nan_and_no_other(size: int) -> None:
    x, y = drawn(3, size)
    for place in (0, size - 1):
        for values in ("x", "y"):
            changed = {"x": x.copy(), "y": y.copy()}
            changed[values][1, place] = math.nan
            losses = elements("dice", changed["x"], changed["y"], allow_nan=True)
            assert np.isnan(losses).tolist() == [False, True, False]


def smp_dice(p: torch.Tensor, y: torch.Tensor, smooth: float) -> torch.Tensor:
    """segmentation_models_pytorch's soft dice score, of a class over the whole batch, less 1.

    There smooth is added to both sums of twice the size, so it is twice this one.
    """
    intersection, cardinality = (p * y).sum(), (p + y).sum()
    return 1.0 - (2.0 * intersection + smooth) / (cardinality + smooth)


def test_against_segmentation_models_pytorch() -> None:
    x, y = drawn(4, 2, 9, 9)
    p, target = torch.sigmoid(torch.from_numpy(x)), torch.from_numpy(y)
    for smooth in (0.0, 1.0, 0.25):
        ours = elements("dice", x, y, per="class", class_axis=1, smooth=smooth)
        theirs = [float(smp_dice(p[:, c], target[:, c], 2 * smooth)) for c in range(2)]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


def monai_dice(p: torch.Tensor, y: torch.Tensor, numerator: float, denominator: float) -> torch.Tensor:
    """MONAI's DiceLoss(sigmoid=True, reduction="none"), of each class of each sample."""
    axes = tuple(range(2, p.dim()))
    intersection, ground, predicted = (p * y).sum(axes), y.sum(axes), p.sum(axes)
    return 1.0 - (2.0 * intersection + numerator) / (ground + predicted + denominator)


def test_against_monai() -> None:
    x, y = drawn(3, 2, 8, 8)
    theirs = monai_dice(torch.sigmoid(torch.from_numpy(x)), torch.from_numpy(y), 1e-5, 1e-5)
    # MONAI has a loss for each class of a sample, which here are rows of their own
    ours = elements("dice", x.reshape(6, 64), y.reshape(6, 64), smooth=0.5e-5)
    np.testing.assert_allclose(ours, theirs.reshape(-1).numpy(), rtol=0, atol=1e-14)
