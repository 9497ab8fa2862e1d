"""Figures as they stand on the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page
from scipy import stats  # type: ignore[import-untyped]

from browser.arrays import Arrays


def section(page: Page, name: str) -> Locator:
    """A section of a report that is drawn."""
    return page.locator(f'[data-section="{name}"]')


def table(where: Locator) -> list[list[str]]:
    """The texts of a table's cells, its head first, in the order shown."""
    script = "(table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    found: list[list[str]] = where.evaluate(script)
    return found


def values(where: Locator) -> list[list[float]]:
    """The numbers behind a table's cells, row by row, as they are in double precision."""
    found: list[list[Any]] = where.evaluate(
        "(table) => [...table.tBodies[0].rows].map((row) =>"
        " [...row.cells].map((cell) => cell.dataset.value).filter((value) => value !== undefined))"
    )
    return [[float(value) for value in row] for row in found]


def mean_interval(arrays: Arrays, losses: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean, and its interval of 95 % by rows, by numpy and scipy."""
    rows = losses.mean(axis=1)
    error = stats.t.ppf(0.975, len(rows) - 1) * rows.std(ddof=1) / np.sqrt(len(rows))
    return float(losses.mean()), float(losses.mean() - error), float(losses.mean() + error)
