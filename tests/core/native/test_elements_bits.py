"""The two definitions of the elements, in torch and in C: the same 64 bits, however the C is compiled.

LOSSD_ELEMENTS_CASES draws more than a hundred elements of each kind of request, LOSSD_ELEMENTS_SEED others.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lossd.core import native
from lossd.core.catalog import VARIANTS
from lossd.core.losses.elements import Formula, elements
from lossd.core.losses.exp_log import square_root
from lossd.core.native.library import MOST_OWN
from scripts.build_native import FLAGS

pytestmark = pytest.mark.slow

Floats = npt.NDArray[np.float64]

SOURCES = Path(native.__file__).parent
ROOT = Path(__file__).parents[3]
CASES = int(os.environ.get("LOSSD_ELEMENTS_CASES", "100"))
SEED = int(os.environ.get("LOSSD_ELEMENTS_SEED", "0"))
COMPILER = shlex.split(os.environ.get("CC", "cc"))
HARNESS = """
#include "losses.h"
void run(const formula *how, int n, const double *x, const double *y, const double *k, const double *a,
         double *value) { lossd_elements(how, n, x, y, k, a, value); }
"""
GAMMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 0.01, 0.7, 2.5, 5.0, 10.0, 1000.0)
SMALLEST: Final = 5e-324


class _Formula(ctypes.Structure):
    _fields_ = [
        ("loss", ctypes.c_int),
        ("probabilities", ctypes.c_int),
        ("variant", ctypes.c_int),
        ("balanced", ctypes.c_int),
        ("gamma", ctypes.c_double),
        ("alpha", ctypes.c_double),
        ("smoothing", ctypes.c_double),
        ("own", ctypes.c_double * MOST_OWN),
    ]


@pytest.fixture(scope="module", params=["-O0", "-O3"])
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Floats]:
    """The elements in C."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"there is no C compiler {COMPILER[0]!r}")
    folder = tmp_path_factory.mktemp("elements")
    (folder / "harness.c").write_text(HARNESS)
    library = folder / "harness.so"
    flags = [*FLAGS, *request.param.split(), "-I", str(SOURCES), "-fvisibility=default", "-shared"]
    command = [*COMPILER, *flags, str(folder / "harness.c"), "-o", str(library), "-lm"]
    subprocess.run(command, check=True)
    run = ctypes.CDLL(str(library)).run

    def place(array: Floats | None) -> ctypes.c_void_p:
        return ctypes.c_void_p(None if array is None else array.ctypes.data)

    def in_c(how: Formula, x: Floats, y: Floats, k: Floats | None, a: Floats | None) -> Floats:
        value = np.empty_like(x)
        formula = _Formula(
            int(how.loss == "focal"),
            int(how.probabilities),
            VARIANTS.index(how.variant),
            int(how.alpha is not None or a is not None),
            how.gamma,
            how.alpha or 0.0,
            how.label_smoothing,
        )
        run(ctypes.byref(formula), ctypes.c_int(len(x)), place(x), place(y), place(k), place(a), place(value))
        return value

    return in_c


def in_torch(how: Formula, *arrays: Floats | None, hard: bool = False) -> Floats:
    tensors: list[Any] = [None if array is None else torch.from_numpy(array) for array in arrays]
    found: Floats = elements(how, *tensors, hard=hard).numpy()
    return found


def bits(values: Floats) -> npt.NDArray[np.int64]:
    """With one NaN and no -0."""
    return np.where(np.isnan(values), np.nan, values + 0.0).view(np.int64)


def draw_inputs(rng: np.random.Generator, *, probabilities: bool) -> Floats:
    n = CASES
    if probabilities:
        drawn = [rng.random(n), np.exp(-740 * rng.random(n)), 1 - np.exp(-37 * rng.random(n))]
        special = [0.0, -0.0, 1.0, 0.5, SMALLEST, 2.0**-1022, 1 - 2.0**-53, np.nan]
    else:
        drawn = [rng.standard_normal(n) * scale for scale in (1.0, 30.0, 300.0)]
        special = [0.0, -0.0, np.inf, -np.inf, 745.2, -745.2, 1e308, np.nan]
    return np.concatenate([*drawn, np.array(special)])


def draw_targets(rng: np.random.Generator, kind: str, n: int) -> Floats:
    if kind == "hard":
        return rng.integers(0, 2, n).astype(np.float64)
    if kind == "soft":
        return rng.random(n)
    return rng.choice([0, 1, 1e-6, 1 - 1e-6, SMALLEST, 1 - 2.0**-53, 0.5, 0.3, np.nan], n)


def formulas(loss: str, rng: np.random.Generator) -> Iterator[Formula]:
    variants, gammas = (VARIANTS, GAMMAS) if loss == "focal" else (("sigmoid",), (1.5,))
    for probabilities, variant, gamma, smoothed, alpha in itertools.product(
        (False, True), variants, gammas, (False, True), (None, 0.25) if loss == "focal" else (0.25,)
    ):
        smoothing = float(rng.choice([1e-6, 0.1, SMALLEST, 1 - 2.0**-53])) if smoothed else 0.0
        yield Formula(loss, probabilities, smoothing, gamma, alpha, variant)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard", "soft", "any"])
@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_both_definitions_give_the_same_bits(compiled: Callable[..., Floats], loss: str, kind: str) -> None:
    rng = np.random.default_rng(SEED)
    for how in formulas(loss, rng):
        x = draw_inputs(rng, probabilities=how.probabilities)
        y = draw_targets(rng, kind, len(x))
        k = np.exp(5 * rng.standard_normal(len(x))) * rng.choice([1, 1, 1, 0, 1e290], len(x))
        a = rng.choice([0, 1, 0.25, rng.random(), SMALLEST], len(x))
        for operands in ((x, y, None, None), (x, y, k, a)):
            found = in_torch(how, *operands)
            wrong = np.flatnonzero(bits(found) != bits(compiled(how, *operands)))
            assert not len(wrong), (how, [None if given is None else given[wrong[0]] for given in operands])
            if kind == "hard":
                assert np.array_equal(bits(in_torch(how, *operands, hard=True)), bits(found)), how


@pytest.mark.slow
def test_an_element_has_the_same_bits_wherever_it_stands(compiled: Callable[..., Floats]) -> None:
    # alone, at any place of a vector, beside targets that are hard or soft
    rng = np.random.default_rng(SEED)
    for how in (
        Formula("bce", probabilities=False),
        Formula("focal", probabilities=False),
        Formula("focal", True, gamma=2.0),
    ):
        x = draw_inputs(rng, probabilities=how.probabilities)
        y = draw_targets(rng, "hard", len(x))
        whole = bits(compiled(how, x, y, None, None))
        mixed, soft = y.copy(), rng.random(len(x)) < 0.02
        mixed[soft] = 0.5
        assert np.array_equal(bits(compiled(how, x, mixed, None, None))[~soft], whole[~soft])
        assert np.array_equal(bits(compiled(how, x, y, np.ones_like(x), None)), whole)
        for _ in range(50):
            start = int(rng.integers(0, len(x) - 1))
            stop = int(rng.integers(start + 1, len(x)))
            part = bits(compiled(how, x[start:stop].copy(), y[start:stop].copy(), None, None))
            assert np.array_equal(part, whole[start:stop])


def test_nothing_but_a_nan_gives_a_nan(compiled: Callable[..., Floats]) -> None:
    # whatever is infinite, overflows or is multiplied by 0 on the way
    targets, weights = [0.0, 1.0, 0.5, SMALLEST, 1 - 2.0**-53, np.nan], [0.0, 1.0, 3.0, 1e308, np.nan]
    rng = np.random.default_rng(SEED)
    for loss in ("bce", "focal"):
        for how in formulas(loss, rng):
            inputs = draw_inputs(rng, probabilities=how.probabilities)[-8:]
            balances = [0.0, 1.0, 0.25, np.nan] if loss == "focal" else [0.25]
            grid = np.meshgrid(inputs, targets, weights, balances)
            x, y, k, a = (np.ascontiguousarray(given.ravel()) for given in grid)
            found = compiled(how, x, y, k, a)
            assert np.array_equal(np.isnan(found), np.isnan([x, y, k, a]).any(axis=0)), how
            assert not (found < 0.0).any(), how


def test_the_square_root_is_correctly_rounded() -> None:
    rng = np.random.default_rng(SEED)
    values = np.concatenate(
        [rng.random(1001), np.exp(-740 * rng.random(1001)), [0.0, SMALLEST, 1 - 2.0**-53]]
    )
    assert np.array_equal(square_root(torch.from_numpy(values)).numpy(), np.sqrt(values))


def test_the_coefficients_are_those_derived() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "coefficients.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert found.stdout.count("error below 2^-") == 4
