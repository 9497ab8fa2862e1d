"""Intervals hold the true change in 95% of all samples, and the gate is wrong as rarely as it says."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.coverage import TAILS, Population, covered

pytestmark = pytest.mark.slow

SAMPLES = 2000


def populations() -> Iterator[Population]:
    """Of each kind, by several normalizers."""
    for clusters in (0, 30):
        for paired in (True, False):
            for normalizer in ("count", "weight") if paired else ("count",):
                yield Population(clusters=clusters, paired=paired, normalizer=normalizer)
    yield Population(clusters=30, normalizer="positives")
    yield Population(normalizer=300.0)


def named(population: Population) -> str:
    paired = "paired" if population.paired else "unpaired"
    return f"{paired}-{population.clusters or 'no'}-clusters-{population.normalizer}"


@pytest.mark.parametrize("population", list(populations()), ids=named)
def test_95_percent_intervals_hold_the_truth(population: Population) -> None:
    """And at the bound at most 5 % are called regressions."""
    found = covered(population, 1, SAMPLES)
    assert 0.93 <= found.absolute <= 0.97
    assert 0.93 <= found.relative <= 0.97
    assert 0.0 < found.regressed <= 0.05


def test_other_confidences() -> None:
    found = covered(Population(clusters=30), 2, SAMPLES, confidence=0.8)
    assert found.absolute == pytest.approx(0.8, abs=0.03)
    assert found.relative == pytest.approx(0.8, abs=0.03)
    assert found.regressed == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("clusters", [0, 30])
def test_a_regression_of_twice_the_bound_is_found(clusters: int) -> None:
    """Where the standard error is small against the bound; else most are undecided, and few are wrong."""
    sure = Population(clusters=clusters, change=0.1, noise=0.04)
    assert covered(sure, 3, 400, bound=0.5).regressed > 0.95
    unsure = replace(sure, noise=2.0)
    assert 0.0 < covered(unsure, 4, 400, bound=0.5).regressed < 0.2


def test_the_tails_have_the_mean_that_the_truth_takes() -> None:
    import numpy as np

    for tail, drawn in TAILS.items():
        numbers = drawn(np.random.default_rng(5), 4_000_000)
        assert numbers.mean() == pytest.approx(1.0, abs=0.05 if tail.startswith(("log", "Pareto")) else 0.01)
