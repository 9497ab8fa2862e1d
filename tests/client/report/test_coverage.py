"""The 95% intervals hold the true mean in 95% of all samples, of elements that vary together."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest

from client.report.arrays import Array, Document
from lossd_client import Report

pytestmark = pytest.mark.slow

COLUMNS = 6
NORMALIZERS: list[str | float] = ["count", "weight", "positives", 30.0]
SAMPLES = 1500
TOLERANCE = 0.02
"""Of 1,500 samples, 95% are hit within 0.017 (three standard deviations); the rest is for so few rows."""


@dataclass(frozen=True)
class Sample:
    """Rows of elements that vary together in loss, mask, weight and target; [rows, columns]."""

    v: Array
    kept: Array
    weight: Array
    positive: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, rows: int, of_group: Array | float = 0.0) -> Self:
        """Draw rows; `of_group`, [rows, 1], is what those of one group have in common."""
        shape = (rows, COLUMNS)
        common = rng.normal(size=(rows, 1)) + of_group
        v = (2.0 + common + 0.5 * rng.normal(size=shape)) ** 2
        kept = rng.random(shape) < 1 / (1 + np.exp(-common - 1))
        weight = rng.random(shape) + (common > 0)
        positive = (rng.random(shape) < 0.4 + 0.2 * (common > 0)).astype(float)
        return cls(v * weight, kept, weight, positive)

    def sums(self, normalizer: str | float, rows: slice | Array = slice(None)) -> Document:
        """What totals says of some rows, in floats."""
        kept = self.kept[rows]
        live = kept.any(axis=1)
        s = (self.v[rows] * kept).sum(axis=1)[live]
        shares: dict[str | float, Array] = {
            "count": kept,
            "weight": self.weight[rows],
            "positives": self.positive[rows],
        }
        share = (shares[normalizer] * kept).sum(axis=1)[live] if normalizer in shares else np.ones(len(s))
        return {
            "rows": len(kept),
            "rows_dropped": int((~live).sum()),
            "count": int(kept.sum()),
            "sum_terms": [float(s.sum())],
            "weight_sum_terms": [float((self.weight[rows] * kept).sum())],
            "positives_terms": [float((self.positive[rows] * kept).sum())],
            "row_squares_terms": [float((s * s).sum())],
            "row_products_terms": [float((s * share).sum())],
            "divisor_squares_terms": [float((share * share).sum())],
            "element_squares_terms": [float((self.v[rows][kept] ** 2).sum())],
        }

    def report(self, normalizer: str | float, groups: int = 0) -> Report:
        """Return the report; of groups of neighbouring rows, if there are any."""
        sums = self.sums(normalizer)
        made: Document = {
            "schema": "lossd.report/1",
            "totals": {"params": {"normalizer": normalizer}, **sums},
        }
        if groups:
            parts = [self.sums(normalizer, rows) for rows in np.array_split(np.arange(len(self.v)), groups)]
            made["groups"] = {"names": ["g"], "kinds": ["integer"], "ids": [list(range(groups))]}
            for name in sums:
                each = [part[name] for part in parts]
                made["groups"][name] = np.transpose(each).tolist() if name.endswith("_terms") else each
        return Report(made)


def true_ratio(normalizer: str | float, rng: np.random.Generator, spread: float = 0.0) -> float:
    """The mean over very many rows; for a number, that of a row's sum."""
    rows = 400_000
    sums = Sample.drawn(rng, rows, spread * rng.normal(size=(rows, 1))).sums(normalizer)
    below = {
        "count": sums["count"],
        "weight": sums["weight_sum_terms"][0],
        "positives": sums["positives_terms"][0],
    }
    per_row = sums["rows"] - sums["rows_dropped"]
    return float(sums["sum_terms"][0] / (below[normalizer] if isinstance(normalizer, str) else per_row))


def truth_of(report: Report, ratio: float, normalizer: str | float) -> float:
    if isinstance(normalizer, str):
        return ratio
    return float(ratio * (report.rows - report.rows_dropped) / normalizer)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_by_row(normalizer: str | float) -> None:
    rng = np.random.default_rng(1)
    ratio = true_ratio(normalizer, rng)
    held = by_element = 0
    for _ in range(SAMPLES):
        report = Sample.drawn(rng, 200).report(normalizer)
        truth = truth_of(report, ratio, normalizer)
        low, high = report.interval(0.95)
        held += low < truth < high
        if normalizer == "count":
            by_element += abs(report.mean - truth) < 1.96 * report.stderr_by_element
    assert held / SAMPLES == pytest.approx(0.95, abs=TOLERANCE)
    if normalizer == "count":
        assert by_element / SAMPLES < 0.75  # as if the elements of a row were independent


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_by_group(normalizer: str | float) -> None:
    rng = np.random.default_rng(2)
    ratio = true_ratio(normalizer, rng, spread=1.0)
    held = by_row = 0
    samples = SAMPLES // 2
    for _ in range(samples):
        of_group = np.repeat(rng.normal(size=(40, 1)), 4, axis=0)
        report = Sample.drawn(rng, 160, of_group).report(normalizer, 40)
        truth = truth_of(report, ratio, normalizer)
        low, high = report.groups.interval(0.95)
        held += low < truth < high
        low, high = report.interval(0.95)
        by_row += low < truth < high
    assert held / samples == pytest.approx(0.95, abs=TOLERANCE + 0.01)
    assert by_row / samples < 0.88
