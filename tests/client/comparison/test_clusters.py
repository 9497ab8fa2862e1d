"""Sums of clusters as integers, and the jackknife at its edges and at its largest."""

import math
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.report.test_figures import jackknife_stderr as by_definition
from lossd_client import Report, compare
from lossd_client.report._figures.integers import integers, least_exponent
from lossd_client.report._figures.stderr import jackknife_stderr

FLOATS = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)


@given(st.lists(st.tuples(FLOATS, FLOATS, st.integers(0, 3)), min_size=1, max_size=12))
def test_integers_are_exact_sums(cells: list[tuple[float, float, int]]) -> None:
    terms = np.array([[first, second] for first, second, _ in cells]).T
    slots = np.array([slot for *_, slot in cells])
    exponent = least_exponent(terms)
    found = integers(terms, slots, 4, exponent)
    for slot, its in enumerate(found):
        numbers = [each for first, second, at in cells if at == slot for each in (first, second)]
        if all(map(math.isfinite, numbers)):
            assert its is not None
            assert its * Fraction(2) ** exponent == sum(map(Fraction, numbers), Fraction(0))
        else:
            assert its is None


CLUSTERS = st.lists(st.tuples(st.integers(0, 2**60), st.integers(1, 2**60)), min_size=2, max_size=9)


@given(CLUSTERS)
def test_the_jackknife_is_its_definition(clusters: list[tuple[int, int]]) -> None:
    totals, divisors = ([pair[i] for pair in clusters] for i in (0, 1))
    found = jackknife_stderr(totals, divisors)
    with_fractions = by_definition(totals, divisors)
    assert found == pytest.approx(with_fractions, rel=1e-14, abs=0)
    assert jackknife_stderr(totals[::-1], divisors[::-1]) == found


def test_nothing_cancels() -> None:
    """Of means that agree in 60 digits of 62, both differences are right."""
    totals = [2**200 + each for each in (0, 1, 2)]
    assert jackknife_stderr(totals, [2**140] * 3) == pytest.approx(2.0**-140 / math.sqrt(3), rel=1e-15)


@pytest.mark.parametrize(
    ("totals", "divisors", "expected"),
    [
        ([], [], math.nan),
        ([1], [1], math.nan),
        ([1, None], [1, 1], math.nan),
        ([1, 1], [1, None], math.nan),
        ([1, 2], [1, 0], math.nan),  # without the first, nothing is left
        ([1, 2], [0, 0], math.nan),
        ([2, 2], [1, 1], 0.0),
        ([1, 1 << 2000], [1, 1], math.inf),
        ([1 << 1020, 0], [1, 1], 2.0**1019),  # squares overflow
        ([1, 0], [1 << 1060, 1 << 1060], 2.0**-1061),  # and underflow
    ],
)
def test_the_jackknifes_edges(totals: list[Any], divisors: list[Any], expected: float) -> None:
    np.testing.assert_equal(jackknife_stderr(totals, divisors), expected)


def test_positives_are_at_least_one_without_a_cluster_too() -> None:
    assert jackknife_stderr([3, 5], [1, 0], least=1) == math.sqrt(
        (5 / 1 - 8) ** 2 + (3 - 8) ** 2
    ) / math.sqrt(2)


def largest(cells: int) -> Report:
    """A report of so many clusters in 512 groups."""
    rng = np.random.default_rng(0)
    base = rng.exponential(size=cells)
    new = base * 1.01 + 0.01 * rng.normal(size=cells)
    ones, none = [1] * cells, [0] * cells
    counts = dict.fromkeys(("rows", "elements", "count"), ones)
    counts |= dict.fromkeys(("rows_dropped", "dropped", "nan", "infinite"), none)
    signs = {"better": none, "worse": ones, "equal": none, "undefined": none}
    sums = {name: [[1.0] * cells] for name in ("weight_sum_terms", "positives_terms")}
    sums["sum_terms"] = [new.tolist(), (new * 2.0**-60).tolist()]
    squares = {"row_squares_terms": new**2, "row_products_terms": new, "divisor_squares_terms": new * 0 + 1}
    d = new - base
    rows = {
        **signs,
        "squares_terms": [(d * d).tolist()],
        "products_terms": [d.tolist()],
        "baseline_squares_terms": [(base * base).tolist()],
        "baseline_products_terms": [(d * base).tolist()],
    }
    groups = {**counts, **sums, **{name: [each.tolist()] for name, each in squares.items()}}
    pairs = {
        **signs,
        "baseline_sum_terms": [base.tolist()],
        "squares_terms": rows["squares_terms"],
        "rows": rows,
    }
    about = {
        "loss": "bce",
        "params": {"normalizer": "count"},
        "inputs": "logits",
        "row_shape": [1],
        "weighted": False,
    }
    number = np.arange(cells)
    return Report(
        {
            "schema": "lossd.report/1",
            "totals": {**about, **added(groups)},
            "groups": {
                "names": ["camera", "scene"],
                "kinds": ["integer", "integer"],
                "ids": [(number % 512).tolist(), (number // 512).tolist()],
                **groups,
                "paired": pairs,
            },
            "paired": added(pairs),
        }
    )


def added(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: added(each)
        if isinstance(each, dict)
        else [math.fsum(plane) for plane in each]
        if name.endswith("_terms")
        else sum(each)
        for name, each in fields.items()
    }


@pytest.mark.slow
@pytest.mark.alone
def test_262144_clusters_take_seconds() -> None:
    report = largest(262_144)
    began = time.process_time()
    found = compare(report, by="camera", clusters="scene", max_regression="1%")
    took = time.process_time() - began
    assert (found.whole.clusters, len(found.groups)) == (512, 512)
    assert {change.clusters for change in found.groups.values()} == {512}
    assert compare(report, clusters=("camera", "scene")).whole.clusters == 262_144
    assert took < 20
