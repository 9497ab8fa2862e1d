"""Two models, one after the other: side by side, with their paired difference."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from scipy import stats  # type: ignore[import-untyped]

from browser.arrays import BAD_CLASS, CLASSES, Arrays
from browser.reading import section, table, values
from browser.visitor import choose, give, show_loss
from browser.visits import Watch


def test_two_runs_are_compared_row_by_row(page: Page, arrays: Arrays, watch: Watch) -> None:
    give(page, *map(arrays.path, ["logits.npy", "targets.npy", "classes.txt", "names.txt"]))
    show_loss(page)
    page.get_by_role("button", name="Remove logits.npy", exact=True).click()
    give(page, arrays.path("better.npy"))
    choose(page, "better.npy", "logits")
    page.get_by_role("button", name="Show the loss").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    comparison = section(page, "comparison").first
    expect(comparison).to_be_visible()
    assert (
        sum(request.startswith("POST /bce") for request in watch.requests) == 3
    )  # the third is of the pairs
    difference = arrays.losses(arrays.better) - arrays.losses()
    rows = difference.mean(axis=1)
    error = stats.t.ppf(0.975, len(rows) - 1) * rows.std(ddof=1) / np.sqrt(len(rows))
    text = comparison.inner_text()
    numbers = [float(found) for found in re.findall(r"-?\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]
    for figure in (difference.mean(), difference.mean() - error, difference.mean() + error):
        assert any(number == pytest.approx(figure, rel=1e-4) for number in numbers), (figure, text[:2000])
    by_class = dict(zip(CLASSES, difference.mean(axis=0), strict=True))
    shown = [
        (row[0], numbers)
        for each in page.locator("#results table.lossd-sortable").all()
        for row, numbers in zip(table(each)[1:], values(each), strict=True)
        if row[0] in by_class
    ]
    for name, expected in by_class.items():
        found = [numbers for shown_name, numbers in shown if shown_name == name]
        assert any(value == pytest.approx(expected, rel=1e-9) for numbers in found for value in numbers), name
    assert CLASSES[BAD_CLASS] in text
