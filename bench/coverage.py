"""How often the intervals of comparisons hold the truth: ``python -m bench.coverage``.

Losses are drawn of which the true change is known, and `compare` judges each sample. For tails that are not
heavy, tests hold the coverage of 95 % intervals between 93 and 97 %; here are heavier ones too, of which
samples of this size say less than their intervals claim, whatever the method.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd_client import Comparison, Report, compare

Floats = npt.NDArray[np.floating[Any]]
Normalizer = str | float

TAILS: Final[Mapping[str, Callable[[np.random.Generator, int], Floats]]] = {
    "gamma": lambda rng, n: rng.gamma(2.0, 0.5, n),
    "exponential": lambda rng, n: rng.exponential(1.0, n),
    "lognormal": lambda rng, n: rng.lognormal(-0.5, 1.0, n),
    "lognormal, sigma 2": lambda rng, n: rng.lognormal(-2.0, 2.0, n),
    "Student's t, 3": lambda rng, n: np.abs(rng.standard_t(3, n)) * (np.pi / (2 * np.sqrt(3))),
    "Pareto, 2.1": lambda rng, n: (rng.pareto(2.1, n) + 1) * (1.1 / 2.1),
}
"""Rows' losses by their distribution, each of mean 1."""

UNLIKE: Final = {
    "10 clusters of 10 rows": (10,) * 10,
    "10 clusters of 10 rows, one of 300": (300, *(10,) * 9),
    "30 clusters of 10 rows, one of 300": (300, *(10,) * 29),
}
"""The rows of clusters that are few, or of unlike sizes."""


@dataclass(frozen=True)
class Population:
    """Rows whose losses, elements and weights depend on each other, and of which the true change is known.

    Attributes:
        tail: The distribution of rows' losses.
        clusters: How many clusters a sample has, whose sizes differ at most fourfold; 0 for independent rows.
        sizes: The rows of each cluster, where these are given.
        rows: How many rows a sample has; of clusters, some three times the least cluster's.
        paired: Whether both models score the same rows.
        change: The true relative change.
        normalizer: What means divide by.
        noise: How much the differences of the rows vary.
    """

    tail: str = "gamma"
    clusters: int = 0
    sizes: tuple[int, ...] = ()
    rows: int = 400
    paired: bool = True
    change: float = 0.02
    normalizer: Normalizer = "count"
    noise: float = 0.1

    @property
    def truth(self) -> float:
        """The true difference of the means."""
        each = np.linspace(0.5, 1.5, 20_001)  # what the rows of a cluster have in common, evenly distributed
        if not isinstance(self.normalizer, str):
            return float(self.change * np.mean(_elements(each) * each) * self.rows / self.normalizer)
        share = _share(self.normalizer)
        return float(self.change * np.mean(_elements(each) * each) / np.mean(_elements(each)) / share)

    def compared(self, rng: np.random.Generator, **asked: Any) -> Comparison:  # noqa: ANN401 - of `compare`
        """Draw a sample of each model, and compare them."""
        clusters: dict[str, Any] = {"clusters": "scene"} if self.clusters else {}
        first = self._drawn(rng)
        if self.paired:
            return compare(_report(first, self.normalizer, paired=True), **clusters, **asked)
        second = self._drawn(rng)
        baseline = _report(replace(second, new=second.baseline), self.normalizer, sample="second")
        return compare(_report(first, self.normalizer, sample="first"), baseline, **clusters, **asked)

    def _drawn(self, rng: np.random.Generator) -> _Rows:
        sizes = np.ones(self.rows, np.int64)
        if self.clusters:
            sizes = np.array(self.sizes) if self.sizes else rng.integers(10, 41, self.clusters)
        number = np.repeat(np.arange(len(sizes)), sizes)
        common = rng.uniform(0.5, 1.5, len(sizes))[number]
        n = len(number)
        elements = 1.0 + rng.binomial(4, common / 2)
        baseline = elements * common * TAILS[self.tail](rng, n)
        shift = rng.normal(size=len(sizes))[number] + TAILS[self.tail](rng, n) - 1.0
        new = baseline * (1 + self.change) + self.noise * elements * shift
        weight = elements * rng.uniform(0.5, 1.5, n)
        positives = rng.binomial(elements.astype(np.int64), 0.4).astype(float)
        return _Rows(new, baseline, elements, weight, positives, number if self.clusters else None)


def _elements(common: Floats) -> Floats:
    """Return the mean number of a row's elements."""
    return 1.0 + 2.0 * common


def _share(normalizer: str) -> float:
    """Return the mean share of an element in the divisor."""
    return {"count": 1.0, "weight": 1.0, "positives": 0.4}[normalizer]


@dataclass(frozen=True)
class _Rows:
    new: Floats
    baseline: Floats
    elements: Floats
    weight: Floats
    positives: Floats
    clusters: npt.NDArray[np.int64] | None


def _report(
    rows: _Rows, normalizer: Normalizer, *, paired: bool = False, sample: str | None = None
) -> Report:
    """Return the report of some rows; its sums are floats, not exact ones, which is near enough.

    Args:
        rows: The rows.
        normalizer: What means divide by.
        paired: Whether the baseline's losses are in the report, too.
        sample: What stands for the digest of the targets' file: other samples are other data.
    """
    whole = np.zeros(1, np.int64)
    document: dict[str, Any] = {
        "schema": "lossd.report/1",
        "totals": {
            "loss": "focal",
            "params": {"normalizer": normalizer, "row": "sum"},
            "inputs": "logits",
            "row_shape": None,
            "weighted": True,
            **_plain(_figures(rows, normalizer, whole)),
        },
    }
    if sample is not None:
        document["run"] = {"inputs": [{"targets": {"sha256": sample}}]}
    if paired:
        document["paired"] = _plain(_differences(rows, normalizer, whole))
    if rows.clusters is not None:
        starts = np.flatnonzero(np.diff(rows.clusters, prepend=-1))
        document["groups"] = {
            "names": ["scene"],
            "kinds": ["integer"],
            "ids": [list(range(len(starts)))],
            **_figures(rows, normalizer, starts),
        }
        if paired:
            document["groups"]["paired"] = _differences(rows, normalizer, starts)
    return Report(document)


def _figures(rows: _Rows, normalizer: Normalizer, starts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return what totals says, in floats, of groups of neighbouring rows that start at `starts`."""
    share = _shares(rows, normalizer)
    ones, none = np.ones(len(share)), np.zeros(len(share))
    counts: dict[str, Floats] = dict.fromkeys(("rows_dropped", "dropped", "nan", "infinite"), none)
    counts |= {"rows": ones, "elements": rows.elements, "count": rows.elements}
    terms = {
        "sum": rows.new,
        "weight_sum": rows.weight,
        "positives": rows.positives,
        "row_squares": rows.new**2,
        "row_products": rows.new * share,
        "divisor_squares": share**2,
    }
    return _added(counts, terms, starts)


def _differences(rows: _Rows, normalizer: Normalizer, starts: npt.NDArray[np.int64]) -> dict[str, Any]:
    d, b = rows.new - rows.baseline, rows.baseline
    signs = {"better": d < 0, "worse": d > 0, "equal": d == 0, "undefined": np.isnan(d)}
    terms = {
        "squares": d * d,
        "products": d * _shares(rows, normalizer),
        "baseline_squares": b * b,
        "baseline_products": d * b,
    }
    return {
        **_added({}, {"baseline_sum": b}, starts),
        "rows": _added(signs, terms, starts),
    }


def _shares(rows: _Rows, normalizer: Normalizer) -> Floats:
    of = {"count": rows.elements, "weight": rows.weight, "positives": rows.positives}
    return of[normalizer] if isinstance(normalizer, str) else np.ones(len(rows.new))


def _added(counts: Mapping[str, Any], terms: Mapping[str, Floats], starts: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return counts and terms of each group."""
    return {
        **{name: np.add.reduceat(each.astype(np.int64), starts).tolist() for name, each in counts.items()},
        **{f"{name}_terms": [np.add.reduceat(each, starts).tolist()] for name, each in terms.items()},
    }


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of one group as those of all rows."""
    return {
        name: _plain(each) if isinstance(each, dict) else [each[0][0]] if name.endswith("_terms") else each[0]
        for name, each in fields.items()
    }


class Coverage(NamedTuple):
    """Shares of samples.

    Attributes:
        absolute: Those whose interval of the difference holds the true one.
        relative: The same of the relative change.
        regressed: Those that are judged to have regressed.
    """

    absolute: float
    relative: float
    regressed: float


Given = Literal["absolute", "relative"]


def covered(
    population: Population, seed: int, samples: int, *, bound: float = 1.0, confidence: float = 0.95
) -> Coverage:
    """Draw samples, and compare each.

    Args:
        population: What they are drawn from.
        seed: The seed.
        samples: How many.
        bound: The bound, as a part of the true change. Of every second sample it is a relative one.
        confidence: The confidence of the intervals.
    """
    rng = np.random.default_rng(seed)
    truth, held = population.truth, np.zeros(3)
    bounds: Sequence[float | str] = (bound * truth, f"{100 * bound * population.change!r}%")
    for sample in range(samples):
        found = population.compared(rng, max_regression=bounds[sample % 2], confidence=confidence)
        change = found.whole
        held += (
            change.interval[0] <= truth <= change.interval[1],
            change.relative_interval[0] <= population.change <= change.relative_interval[1],
            found.regressed,
        )
    return Coverage(*(held / samples).tolist())


def main() -> None:
    """Print the coverage for each distribution, by row and by cluster, paired and not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=2000, help="how many samples of each")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print("| losses | compared | 95 % interval of the difference | relative | called at the bound |")
    print("|---|---|--:|--:|--:|")
    for name, sizes in UNLIKE.items():
        found = covered(Population(clusters=len(sizes), sizes=sizes), chosen.seed, chosen.samples)
        print(
            f"| gamma | paired, {name} | {' | '.join(f'{100 * each:.1f} %' for each in found)} |", flush=True
        )
    for tail in TAILS:
        for clusters in (0, 30):
            for paired in (True, False):
                population = Population(tail, clusters=clusters, paired=paired)
                found = covered(population, chosen.seed, chosen.samples)
                how = f"{'paired' if paired else 'unpaired'}, {'30 clusters' if clusters else '400 rows'}"
                print(
                    f"| {tail} | {how} | {' | '.join(f'{100 * each:.1f} %' for each in found)} |", flush=True
                )


if __name__ == "__main__":
    main()
