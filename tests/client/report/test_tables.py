"""Reports as columns, and as data frames of the libraries that are installed."""

import math
import sys

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
    np.testing.assert_array_equal(groups["stderr"], [group.stderr for group in REPORT.groups])
    clash = columns_of(Report(document(random_case(2, groups={"count": [1, 2] * 12}))), "groups")
    assert (clash["group.count"], clash["count"]) == ([1, 2], [36, 36])


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
        "no table 'top'; there are classes, groups, top_rows, top_elements, histogram, row_histogram, reli"
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
