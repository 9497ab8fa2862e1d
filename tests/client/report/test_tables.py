"""Reports as columns, and as data frames of the libraries that are installed."""

import math
import sys
from typing import Any

import numpy as np
import pytest

from client.report.cases import random_case, wide_case
from client.report.documents import document
from lossd_client import Report
from lossd_client.report._tables import columns_of

REPORT = Report(document(wide_case(1)))


def test_classes_and_groups() -> None:
    classes = columns_of(REPORT, "classes")
    assert list(classes) == ["index", "count", "sum", "weight_sum", "positives", "mean"]
    assert classes["index"] == [0, 1, 2]
    assert classes["mean"] == [figures.mean for figures in REPORT.classes]
    groups = columns_of(REPORT, "groups")
    assert list(groups)[:3] == ["camera", "weather", "rows"]
    assert list(zip(groups["camera"], groups["weather"], strict=True)) == REPORT.groups.ids
    np.testing.assert_array_equal(groups["stderr"], [group.stderr for group in REPORT.groups.values()])
    clash = columns_of(Report(document(random_case(2, groups={"count": [1, 2] * 12}))), "groups")
    assert (clash["group.count"], clash["count"]) == ([1, 2], [36, 36])


def test_means_of_all_classes_and_groups() -> None:
    means = columns_of(REPORT, "means")
    assert list(means) == ["kind", "id", "rows", "count", "sum", "mean", "stderr"]
    groups = list(REPORT.groups.values())
    ids: list[Any] = REPORT.groups.ids
    assert means["kind"] == ["all", *["class"] * 3, *["group"] * len(groups)]
    assert means["id"] == [None, "0", "1", "2", *(f"{camera} / {sky}" for camera, sky in ids)]
    assert means["rows"] == [REPORT.rows, None, None, None, *(group.rows for group in groups)]
    every = [REPORT, *REPORT.classes, *groups]
    for name in ("count", "sum", "mean"):
        np.testing.assert_array_equal(means[name], [getattr(each, name) for each in every])
    assert means["stderr"][:4] == [REPORT.stderr, None, None, None]
    np.testing.assert_array_equal(means["stderr"][4:], [group.stderr for group in groups])
    alone = document(random_case(5))
    del alone["classes"]
    assert columns_of(Report(alone), "means")["kind"] == ["all"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_table_of_means_is_the_default(library: str) -> None:
    frames = pytest.importorskip(library)
    frame = getattr(REPORT, f"to_{library}")()
    assert list(frame.columns) == ["kind", "id", "rows", "count", "sum", "mean", "stderr"]
    assert len(frame) == 4 + len(REPORT.groups)
    assert frame["mean"][0] == REPORT.mean
    missing = frames.isna(frame["rows"][1]) if library == "pandas" else frame["rows"][1] is None
    assert missing


def test_top_lists_have_the_columns_that_are_known() -> None:
    rows = columns_of(REPORT, "top_rows")
    assert list(rows) == ["index", "id", "loss"]
    assert rows["loss"] == sorted(rows["loss"], reverse=True)
    elements = columns_of(Report(document(random_case(3))), "top_elements")
    assert list(elements) == ["index", "loss", "logit", "target"]
    assert len(elements["index"][0]) == 2


@pytest.mark.parametrize("section", ["histogram", "row_histogram"])
def test_histograms(section: str) -> None:
    v = np.zeros((4, 1))
    v[1:, 0] = 1.0, math.inf, math.nan
    made = document(random_case(4, 4, 1, v=v, base=None, calibrated=False))
    table = columns_of(Report(made), section)
    end = np.nextafter(1 + 1 / 16, 0)
    np.testing.assert_array_equal(table["least"], [0.0, 1.0, math.inf, math.nan])
    np.testing.assert_array_equal(table["greatest"], [0.0, end, math.inf, math.nan])
    assert table["count"] == [1, 1, 1, 1]


def test_calibration() -> None:
    reliability = columns_of(REPORT, "reliability")
    assert reliability["upper"] == [(b + 1) / 8 for b in range(8)]
    assert reliability["count"] == [each.count for each in REPORT.calibration.reliability()]
    assert columns_of(REPORT, "thresholds")["threshold"] == [b / 8 for b in range(8)]


def test_what_there_is_no_table_of() -> None:
    message = (
        "no table 'top'; there are means, classes, groups, top_rows, top_elements, histogram, row_histogram, "
    )
    with pytest.raises(ValueError, match=message):
        columns_of(REPORT, "top")
    with pytest.raises(LookupError, match="no section groups"):
        columns_of(Report(document(random_case(5))), "groups")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_without_the_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"to_{library}\(\) needs {library}.*pip install {library}"):
        getattr(REPORT, f"to_{library}")("classes")


SECTIONS = (
    "classes",
    "groups",
    "top_rows",
    "top_elements",
    "histogram",
    "row_histogram",
    "reliability",
    "thresholds",
)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_with_the_library(library: str, section: str) -> None:
    pytest.importorskip(library)
    frame = getattr(REPORT, f"to_{library}")(section)
    columns = columns_of(REPORT, section)
    assert list(frame.columns) == list(columns)
    for name, column in columns.items():
        if name != "index":
            assert str(list(frame[name])) == str(column)
