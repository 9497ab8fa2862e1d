"""Runs `lossd compare`, and what it should find, by numpy and scipy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from typer.testing import CliRunner, Result

from command import app

Losses = NDArray[np.float64]


def run(*args: object, url: str | None = None, given: bytes | None = None) -> Result:
    """Run it; `given` is its standard input."""
    where = [] if url is None else ["--url", url]
    return CliRunner().invoke(app, ["compare", *map(str, args), *where], input=given)


def compared(
    *args: object, url: str | None = None, code: int = 0, given: bytes | None = None
) -> dict[str, Any]:
    """Give the object of one that ends with this code."""
    done = run(*args, "--json", url=url, given=given)
    assert (done.exit_code, done.stderr) == (code, ""), done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*args: object, url: str | None = None, code: int = 2) -> str:
    """Give the message of one that is refused, on one line."""
    done = run(*args, url=url)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    return " ".join(done.stderr.replace("│", " ").split())


class Figures(NamedTuple):
    """A change of a mean over rows, and the t-intervals of the difference and of the relative change."""

    new: float
    baseline: float
    interval: tuple[float, float]
    relative_interval: tuple[float, float]


def by_row(new: Losses, baseline: Losses, elements: int, confidence: float = 0.95) -> Figures:
    """Give the figures of rows' losses, of as many elements each."""
    n, d = len(new), new - baseline
    ratio = d.sum() / baseline.sum()
    stderrs = d.std(ddof=1) * np.sqrt(n), np.sqrt(n / (n - 1) * np.sum((d - ratio * baseline) ** 2))
    return _figures(new, baseline, elements, (stderrs[0], stderrs[1] / baseline.sum()), n, confidence)


def by_cluster(
    new: Losses, baseline: Losses, clusters: NDArray[Any], elements: int, confidence: float = 0.95
) -> Figures:
    """Give the figures with a delete-one-cluster jackknife, about the whole (Wolter 2007, 4.2.2)."""
    names = np.unique(clusters)
    size = float(elements)

    def jackknife(statistic: Callable[[NDArray[np.bool_]], float]) -> float:
        left = np.array([statistic(clusters != name) for name in names])
        return float(
            np.sqrt((len(names) - 1) / len(names) * np.sum((left - statistic(np.full(len(new), True))) ** 2))
        )

    mean = jackknife(lambda rows: float((new - baseline)[rows].sum() / (rows.sum() * size)))
    relative = jackknife(lambda rows: float(new[rows].sum() / baseline[rows].sum() - 1))
    return _figures(new, baseline, elements, (mean * len(new) * size, relative), len(names), confidence)


def _figures(
    new: Losses,
    baseline: Losses,
    elements: int,
    stderrs: tuple[float, float],
    units: int,
    confidence: float,
) -> Figures:
    size = len(new) * elements
    t = float(stats.t.ppf((1 + confidence) / 2, units - 1))
    d, r = (new - baseline).sum() / size, new.sum() / baseline.sum() - 1
    a, b = t * stderrs[0] / size, t * stderrs[1]
    return Figures(new.sum() / size, baseline.sum() / size, (d - a, d + a), (r - b, r + b))
