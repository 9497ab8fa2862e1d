"""Pages and fragments of reports: well formed, escaped, of one file, and right in what they show."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from client.report.pages import NASTY, Page, full, nasty, odd, report_of
from lossd_client import LossClient, LossResult
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_fragment, report_html, report_page, result_html
from lossd_client.testing import FakeTransport

REPORTS: dict[str, Callable[[], Report]] = {
    "full": full,
    "nasty": nasty,
    "totals alone": lambda: full(sections=()),
    "empty": lambda: full(0),
    "one row": lambda: full(1),
    "one element": lambda: full(1, 1),
    "dropped": lambda: full(mask=np.zeros((30, 4), dtype=np.bool_)),
    "NaN": lambda: odd([math.nan, 1.0, math.nan]),
    "infinite": lambda: odd([math.inf, 1.0, -math.inf, 1e308, 1e-320, -800.0]),
    "all NaN": lambda: odd([math.nan]),
    "negatives alone": lambda: full(targets=np.zeros((30, 4), dtype=np.float32)),
    "soft": lambda: full(targets=np.full((30, 4), 0.25, dtype=np.float32)),
    "bce": lambda: full(loss="bce", gammas=()),
    "exp": lambda: full(params={"variant": "exp"}),
    "weighted": lambda: full(weight=np.arange(30.0)[:, None], params={"normalizer": "weight"}),
    "exact": lambda: full(inputs=np.linspace(-9, 9, 120).reshape(30, 4).astype(np.float16), bins="exact"),
    "large": lambda: odd([1e308, 1e308, 1.7e308]),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    return {name: make() for name, make in REPORTS.items()}


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_one_well_formed_file_without_scripts(reports: dict[str, Report], name: str) -> None:
    html = report_page(reports[name])
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in page.all("meta")
    assert page.elements[0][0] == "html"
    refers = ("href", "src", "data", "action", "poster", "style", "formaction", "background")
    links = {each.pop("href") for each in page.all("a")}
    assert links <= {f"#{each['id']}" for each in page.all("section")}
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on") or key.split(":")[-1] in refers]
    for style in page.texts_of("style"):
        assert not re.search(r"url\(|@import|</", style)
    assert not re.search(r"nan|inf", "".join(str(each) for _, each in page.elements if "d" in each), re.I)
    html.encode()


@pytest.mark.parametrize("name", REPORTS)
def test_every_picture_has_a_name_and_a_description(reports: dict[str, Report], name: str) -> None:
    html = report_html(reports[name])
    page = Page(html)
    for picture in page.all("svg"):
        assert picture["role"] == "img"
        assert picture["aria-label"]
    for picture in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        drawn = Page(picture)
        assert [tag for tag, _ in drawn.elements[:3]] == ["svg", "title", "desc"]
        assert len(drawn.texts_of("desc")) == 1
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        assert Page(table).texts_of("caption")


def test_names_are_text_and_nothing_else(reports: dict[str, Report]) -> None:
    html = report_page(reports["nasty"])
    page = Page(html)
    text = "".join(page.texts)
    assert "<script" not in html
    assert "<img" not in html
    assert NASTY[0] in text
    assert NASTY[1] in text
    assert "a & b" in text
    assert not re.search(r"[\x00-\x08\x1b]", html)


def test_the_figures_are_the_reports(reports: dict[str, Report]) -> None:
    report = reports["full"]
    text = " ".join(Page(report_html(report)).texts)
    totals = report.to_dict()["totals"]
    for figure in (f"{totals['sum'] / totals['count']:.9g}", f"{report.stderr:.6g}", "30", "120"):
        assert figure in text
    low, high = report.interval(0.95)
    assert f"{low:.6g} to {high:.6g}" in text
    worst = report.to_dict()["top"]["rows"][0]
    assert f"{worst['loss']:.6g}" in text
    assert f"{report.paired.mean:.9g}" in text
    assert f"{report.calibration.brier:.6g}" in text


def test_a_report_has_a_heading_for_each_section(reports: dict[str, Report]) -> None:
    page = Page(report_page(reports["full"]))
    assert page.texts_of("h1") == ["focal of logits"]
    assert page.texts_of("h2") == [
        "In short",
        "Loss by class",
        "Loss by camera",
        "Worst rows and elements",
        "Against the baseline",
        "How losses are spread",
        "Calibration",
        "Other parameters",
        "Parameters and inputs",
    ]
    names = ["totals", "classes", "groups", "top", "paired", "histogram", "calibration", "sweep", "inputs"]
    sections = page.all("section")
    assert [each["data-section"] for each in sections] == names
    assert [each["id"] for each in sections] == [f"lossd-{name}" for name in names]
    alone = Page(report_html(reports["totals alone"]))
    assert [each["data-section"] for each in alone.all("section")] == ["totals", "inputs"]


def test_bars_are_as_long_as_the_means_and_in_their_order(reports: dict[str, Report]) -> None:
    report = reports["full"]
    [picture] = re.findall(
        r"<svg[^>]*aria-label=\"Mean loss by class\".*?</svg>", report_html(report), re.DOTALL
    )
    found = [
        (float(width), name)
        for name, width in re.findall(r"<title>(class \d): .*?</title>.*?width=\"([\d.]+)\"", picture)
    ]
    means = {f"class {place}": each.mean for place, each in enumerate(report.classes)}
    assert [name for _, name in found] == sorted(means, key=means.__getitem__, reverse=True)
    longest = found[0][0]
    for width, name in found:
        assert width / longest == pytest.approx(means[name] / max(means.values()), abs=0.001)


def test_a_histogram_has_every_loss_once(reports: dict[str, Report]) -> None:
    for name in ("full", "infinite"):
        html = report_html(reports[name])
        [picture] = re.findall(r"<svg[^>]*aria-label=\"Losses of elements\".*?</svg>", html, re.DOTALL)
        drawn = sum(
            int(count.replace(",", "")) for count in re.findall(r"<title>[^<]*: ([\d,]+)</title>", picture)
        )
        section = reports[name].to_dict()["histogram"]["elements"]
        assert drawn == sum(section["counts"])
        for place, word in (("zero", "0"), ("infinite", "Infinity"), ("nan", "NaN")):
            if section[place]:
                assert f" {section[place]} are {word}." in html


def test_quantiles_are_no_greater_than_the_greatest_loss() -> None:
    x = np.full((40, 1), math.log(math.e - 1) + 1e-9)  # a loss of 1, the least of its bin
    report = report_of(inputs=x, targets=np.zeros_like(x), sections=("top", "histogram"), top=5)
    html = report_fragment(report)
    assert report.quantile(0.99) == 1 + 1 / 32
    greatest = f"{report.top_elements[0].loss:.3g}"
    assert re.findall(r">99 %: (\S+)</text>", html) == [greatest, greatest]
    assert html.count("Dashed lines: quantiles. 90 %: nine in ten losses are at most this.") == 2


def test_a_narrow_histogram_has_the_ends_of_its_axis() -> None:
    x = np.linspace(-0.8, -0.6, 30)[:, None]
    html = report_fragment(report_of(inputs=x, targets=np.zeros_like(x), sections=("histogram",)))
    [picture] = re.findall(r"<svg[^>]*aria-label=\"Losses of elements\".*?</svg>", html, re.DOTALL)
    below = [float(label) for label in re.findall(r'y="231"[^>]*>([^<]*)</text>', picture)]
    losses = np.logaddexp(0, x)
    assert len(below) == 2
    assert below[0] <= losses.min() < losses.max() <= below[1]


def test_many_classes_and_groups_stay_readable() -> None:
    rows = 1000
    report = full(rows, 2, groups={"site": np.arange(rows)}, sections=("classes", "groups"), top=1)
    html = report_html(report)
    assert len(html) < 100_000
    assert "The 20 greatest of 1,000 groups" in "".join(Page(html).texts)
    classes = full(4, 80, sections=("classes",))
    text = "".join(Page(report_html(classes)).texts)
    assert "The 20 greatest of 80 classes" in text


def test_hundreds_of_names_of_groups_end_and_say_so() -> None:
    groups = {f"name {place}": np.arange(30) for place in range(40)}
    page = Page(report_html(full(30, 2, groups=groups, sections=("groups",))))
    alone = [name for name in page.texts_of("bdi") if name.startswith("By name ")]
    assert alone == [f"By name {place} alone" for place in range(8)]
    assert "The other 32 names are not shown alone." in page.texts_of("p")


def test_the_worst_are_listed_by_id_with_their_rows(reports: dict[str, Report]) -> None:
    document = full(20, ids=[f"image-{row}.png" for row in range(20)]).to_dict()
    rows = [int(item["id"][6:-4]) for item in document["top"]["rows"]]
    document["run"] = {"top_index": {"rows": rows, "elements": None}}
    text = [data for data in Page(report_html(Report(document))).texts if data.strip()]
    at = text.index("Rows of the greatest loss")
    assert text[at + 1 : at + 4] == ["id", "row", "loss"]
    assert text[at + 4 : at + 7] == [
        f"image-{rows[0]}.png",
        str(rows[0]),
        f"{document['top']['rows'][0]['loss']:.6g}",
    ]


def test_a_report_is_not_changed_by_its_page(reports: dict[str, Report]) -> None:
    before = copy.deepcopy(reports["full"].to_dict())
    report_page(reports["full"])
    assert reports["full"].to_dict() == before


def test_a_notebook_shows_reports_and_results(reports: dict[str, Report]) -> None:
    assert reports["full"]._repr_html_() == report_html(reports["full"])
    x, y = np.array([[1.0, -2.0]]), np.array([[1, 0]])
    with LossClient(transport=FakeTransport) as client:
        result = client.focal(x, y, gamma=2.0)
        losses = client.focal(x, y, reduction="none")
    assert repr(result.loss) in "".join(Page(result_html(result)).texts)
    assert "array of shape [1, 2]" in "".join(Page(result_html(losses)).texts)
    assert result._repr_html_() == result_html(result)
    shown = LossResult(
        **{name: getattr(result, name) for name in result.__dataclass_fields__} | {"notes": (NASTY[0],)}
    )
    page = Page(result_html(shown))
    assert NASTY[0] in page.texts
    assert "gamma" in page.texts
