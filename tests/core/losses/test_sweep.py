"""What a sweep and a calibration add up, element by element, against mpmath."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf  # type: ignore[import-untyped] # it has no types

from lossd.core.losses.elements import Formula, elements
from lossd.core.losses.likelihood import probability
from lossd.core.losses.sweep import summands
from lossd.types import Float64Array

GAMMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 0.7, 4.2)
COUNT = 150


def drawn(*, probabilities: bool, hard: bool) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(4)
    x = rng.normal(0, 6, COUNT)
    x[::7] = rng.normal(0, 200, len(x[::7]))
    y = rng.choice([0.0, 1.0], COUNT) if hard else rng.random(COUNT)
    x = rng.random(COUNT) ** 8 if probabilities else x
    arrays = {"x": x, "y": y, "k": 5 * rng.random(COUNT), "weight": rng.random(COUNT)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def true_brackets(how: Formula, gamma: float, x: float, y: float, weight: float) -> tuple[mpf, mpf, mpf, mpf]:
    e = mpf(how.label_smoothing)
    target, other = y * (1 - e) + e / 2, (1 - mpf(y)) * (1 - e) + e / 2
    if how.probabilities:
        p, q = mpf(x), 1 - mpf(x)
    else:
        p, q = 1 / (1 + mp.exp(-mpf(x))), 1 / (1 + mp.exp(mpf(x)))
    a, b = -mp.log(p), -mp.log(q)
    m = target * q + other * p if how.variant == "sigmoid" else abs(target * q - other * p)
    c = weight * (m**gamma if gamma else 1)
    return c * target * target * a, c * target * other * b, c * other * target * a, c * other * other * b


def units(found: Float64Array, true: list[Any]) -> float:
    """The greatest distance, in units of the last place."""
    return max(
        float(abs(mpf(float(one)) - other)) / math.ulp(float(other))
        for one, other in zip(found, true, strict=True)
    )


@pytest.fixture(autouse=True)
def _digits() -> Any:  # noqa: ANN401
    with mp.workdps(400):  # 1 - p of a logit of 800
        yield


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1e-6])
def test_brackets_of_sigmoid_are_right_to_the_last_digits(
    smoothing: float, *, probabilities: bool, hard: bool
) -> None:
    how = Formula("focal", probabilities, smoothing)
    of = drawn(probabilities=probabilities, hard=hard)
    each = summands(how, GAMMAS, of["x"], of["y"], None, of["weight"])
    columns = [of[name].tolist() for name in ("x", "y", "weight")]
    for gamma, found in zip(GAMMAS, each, strict=True):
        true = [true_brackets(how, gamma, *element) for element in zip(*columns, strict=True)]
        for bracket, values in enumerate(found):
            assert units(values.numpy(), [four[bracket] for four in true]) < 8 + gamma


def test_brackets_of_bce_are_right_to_the_last_digits() -> None:
    how = Formula("bce", probabilities=False, label_smoothing=0.1)
    of = drawn(probabilities=False, hard=False)
    ((positive, negative),) = summands(how, (), of["x"], of["y"], None, of["weight"])
    columns = [of[name].tolist() for name in ("x", "y", "weight")]
    for number, values in enumerate((positive, negative)):
        true = []
        for x, y, weight in zip(*columns, strict=True):
            y = mpf(y) * mpf("0.9") + mpf("0.05")
            sign = (-1, 1)[number]
            true.append(weight * (y, 1 - y)[number] * mp.log1p(mp.exp(sign * mpf(x))))
        assert units(values.numpy(), true) < 5


@pytest.mark.parametrize("variant", ["sigmoid", "quality", "exp"])
@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("hard", [True, False])
def test_other_parameters_losses_follow(
    variant: str, alpha: float | None, smoothing: float, *, hard: bool
) -> None:
    of = drawn(probabilities=False, hard=hard)
    x, y, k, weight = (of[name] for name in ("x", "y", "k", "weight"))
    each = summands(Formula("focal", False, smoothing, variant=variant), GAMMAS, x, y, k, weight)
    for gamma, found in zip(GAMMAS, each, strict=True):
        how = Formula("focal", False, smoothing, gamma, alpha, variant)
        expected = weight * elements(how, x, y, k)
        if variant == "exp":
            got = found[0] * (1.0 if alpha is None else alpha)
        else:
            yy, yz, zy, zz = found
            first, second = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
            got = first * (k * yy + yz) + second * (k * zy + zz)
        assert math.fsum(got) == pytest.approx(math.fsum(expected), rel=1e-14, abs=0.0)
        assert got.numpy() == pytest.approx(expected.numpy(), rel=1e-12, abs=1e-300)


def test_a_probability_is_within_two_units_of_the_last_place() -> None:
    x = torch.from_numpy(np.random.default_rng(5).normal(0, 30, 1000))
    true = [1 / (1 + mp.exp(-mpf(value))) for value in x.tolist()]
    assert units(probability(x).numpy(), true) < 2


def test_certain_inputs_and_nan() -> None:
    x = torch.tensor([math.inf, -math.inf, 0.0, -0.0, 1000.0, -1000.0, math.nan], dtype=torch.float64)
    assert str(probability(x).tolist()) == str([1.0, 0.0, 0.5, 0.5, 1.0, 0.0, math.nan])
    for name, inputs in (("logits", x[[0, 1, 6]]), ("probabilities", torch.tensor([1.0, 0.0, math.nan]))):
        for y in (0.0, 1.0, 0.25):
            for variant in ("sigmoid", "quality"):
                how = Formula("focal", name == "probabilities", variant=variant)
                target = torch.full((3,), y, dtype=torch.float64)
                (found,) = summands(how, (1.7,), inputs.double(), target, None, None)
                sure, wrong, nothing = torch.stack(found).T.tolist()
                z = 1.0 - y
                against = [0.0, y * z, 0.0, z * z]  # of the positive class
                assert [math.isinf(value) for value in sure] == [value > 0.0 for value in against]
                against = [y * y, 0.0, z * y, 0.0]
                assert [math.isinf(value) for value in wrong] == [value > 0.0 for value in against]
                assert all(map(math.isnan, nothing))


def test_nothing_times_infinity_is_nothing() -> None:
    x, y = torch.tensor([-math.inf]).double(), torch.tensor([1.0]).double()
    zero = torch.tensor([0.0]).double()
    for how in (Formula("bce", False), Formula("focal", False), Formula("focal", False, variant="exp")):
        gammas = () if how.loss == "bce" else (1.5, 2.7)
        for found in summands(how, gammas, x, y, None, zero):
            assert torch.stack(found).abs().sum() == 0.0
        first = next(summands(how, gammas, x, y, None, None))
        assert first[0].item() == math.inf


def test_gamma_0_damps_not_even_what_is_quite_right() -> None:
    x, y = torch.tensor([0.0]).double(), torch.tensor([0.5]).double()
    (found,) = summands(Formula("focal", False, variant="quality"), (0.0,), x, y, None, None)
    assert [value.item() for value in found] == [math.log(2.0) / 4.0] * 4
