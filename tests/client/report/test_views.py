"""What the server's page shows: its figures are numpy's, and nothing that strangers send breaks it."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]

from client.report.pages import NASTY, Page, full
from lossd_client._views import NotJson, ViewError, draw_views
from lossd_client.report import Report
from report_reference import SECTIONS

ROWS, CLASSES = 40, 4
ALONE = tuple(name for name in SECTIONS if name != "paired")
NAMES = ["cat", "dog", "car & van", "<b>bus</b>"]
Json = Any


def random_inputs(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(ROWS, CLASSES)).astype(np.float32)


X, OTHER = random_inputs(1), random_inputs(2)
Y = (np.random.default_rng(3).random((ROWS, CLASSES)) < 0.4).astype(np.float32)
CAMERA = np.array(["front", "left", "rear"])[np.random.default_rng(4).integers(3, size=ROWS)]
IDS = [f"img_{row:04d}.jpg" for row in range(ROWS)]


def focal(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The losses at gamma 1.5 and alpha 0.25, by their textbook formula."""
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    p_t, alpha_t = np.where(Y == 1, p, 1 - p), np.where(Y == 1, 0.25, 0.75)
    return np.asarray(-alpha_t * (1 - p_t) ** 1.5 * np.log(p_t))


def document(inputs: np.ndarray[Any, Any], baseline: np.ndarray[Any, Any] | None, **run: Json) -> Json:
    found = full(
        ROWS,
        CLASSES,
        inputs=inputs,
        targets=Y,
        baseline=baseline,
        groups={"camera": CAMERA.tolist()},
        ids=IDS,
        sections=SECTIONS if baseline is not None else ALONE,
    ).to_dict()
    return {**found, "run": {**found["run"], "class_names": NAMES, **run}}


@pytest.fixture(scope="module")
def documents() -> dict[str, Json]:
    return {"a": document(X, None), "b": document(OTHER, None), "both": document(X, OTHER)}


def drawn(*reports: Json, paired: Json = None, names: Sequence[str] = ("run A", "run B")) -> str:
    request = {
        "reports": [{"name": name, "document": each} for name, each in zip(names, reports, strict=False)]
    }
    return draw_views(json.dumps(request | ({"paired": paired} if paired else {})).encode())


def section(html: str, name: str) -> str:
    [found] = re.findall(rf'<section [^>]*data-section="{name}".*?</section>', html, re.DOTALL)
    return str(found)


def table(html: str, caption: str) -> tuple[list[str], list[list[Any]]]:
    """The head and rows of a table: numbers where a cell has one, else its text."""
    [found] = re.findall(rf"<table[^>]*><caption>{re.escape(caption)}.*?</table>", html, re.DOTALL)
    head, body = found.split("<tbody>")
    names = [unescape(name) for name in re.findall(r'<th scope="col"[^>]*>(.*?)</th>', head)]
    rows = []
    for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
        cells = re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.DOTALL)
        rows.append([value_of(attributes, inside) for attributes, inside in cells])
    return names, rows


def value_of(attributes: str, inside: str) -> Any:  # noqa: ANN401
    found = re.search(r'data-value="(.*?)"', attributes)
    return float(found[1]) if found else unescape(re.sub(r"<.*?>", "", inside))


def column(found: tuple[list[str], list[list[Any]]], name: str) -> list[Any]:
    head, rows = found
    return [row[head.index(name)] for row in rows]


def refused(*reports: Json, **more: Json) -> ViewError:
    with pytest.raises(ViewError) as raised:
        drawn(*reports, **more)
    return raised.value


def test_classes_are_those_of_numpy_the_worst_first(documents: dict[str, Json]) -> None:
    found = table(section(drawn(documents["a"]), "classes"), "Classes")
    losses = focal(X)
    order = np.argsort(-losses.mean(axis=0))
    assert column(found, "class") == [NAMES[place] for place in order]
    assert column(found, "mean") == pytest.approx(losses.mean(axis=0)[order], rel=1e-9)
    assert column(found, "sum") == pytest.approx(losses.sum(axis=0)[order], rel=1e-9)
    assert column(found, "elements") == [ROWS] * CLASSES
    assert column(found, "positives") == Y.sum(axis=0)[order].tolist()
    shares = losses.sum(axis=0)[order] / losses.sum()
    assert column(found, "share of the sum") == pytest.approx(shares, rel=1e-9)
    assert column(found, "times the mean") == pytest.approx(
        losses.mean(axis=0)[order] / losses.mean(), rel=1e-9
    )


def test_groups_and_classes_in_groups_are_those_of_numpy(documents: dict[str, Json]) -> None:
    html = section(drawn(documents["a"]), "groups")
    losses = focal(X)
    means = {name: losses[name == CAMERA].mean() for name in set(CAMERA.tolist())}
    found = table(html, "Groups by camera")
    order = sorted(means, key=means.__getitem__, reverse=True)
    assert column(found, "camera") == order
    assert column(found, "mean") == pytest.approx([means[name] for name in order], rel=1e-9)
    assert column(found, "rows") == [int((name == CAMERA).sum()) for name in order]
    rows = {name: losses[name == CAMERA].sum(axis=1) / CLASSES for name in order}
    stderrs = [rows[name].std(ddof=1) / math.sqrt(len(rows[name])) for name in order]
    lows = column(found, "95 % interval")
    assert all(
        means[name] - 3 * error < low < means[name] - 1.9 * error
        for name, error, low in zip(order, stderrs, lows, strict=True)
    )
    cells = table(html, "Classes by camera")
    expected = {
        (name, NAMES[place]): losses[name == CAMERA, place].mean()
        for name in means
        for place in range(CLASSES)
    }
    worst = sorted(expected, key=expected.__getitem__, reverse=True)
    assert list(zip(column(cells, "camera"), column(cells, "class"), strict=True)) == worst
    assert column(cells, "mean") == pytest.approx([expected[cell] for cell in worst], rel=1e-9)


def test_the_worst_rows_and_elements_are_named(documents: dict[str, Json]) -> None:
    html = section(drawn(documents["a"]), "top")
    losses = focal(X)
    rows = table(html, "Rows of the greatest loss")
    order = np.argsort(-losses.sum(axis=1))[: len(rows[1])]
    assert column(rows, "id") == [IDS[row] for row in order]
    assert column(rows, "loss") == pytest.approx(losses.sum(axis=1)[order], rel=1e-9)
    elements = table(html, "Elements of the greatest loss")
    flat = np.argsort(-losses.ravel())[: len(elements[1])]
    places = [divmod(int(place), CLASSES) for place in flat]
    assert column(elements, "class") == [NAMES[place] for _, place in places]
    assert column(elements, "logit") == [float(X[place]) for place in places]
    assert column(elements, "target") == [float(Y[place]) for place in places]


def test_thresholds_are_those_of_numpy_with_the_best_f1(documents: dict[str, Json]) -> None:
    head, rows = table(section(drawn(documents["a"]), "calibration"), "Some thresholds")
    p = 1 / (1 + np.exp(-X.astype(np.float64)))
    all_f1 = []
    for threshold in np.arange(64) / 64:
        called = p >= threshold
        all_f1.append(2 * (called & (Y == 1)).sum() / max(1, called.sum() + Y.sum()))
    for threshold, precision, recall, f1, true, false in rows:
        called = p >= threshold
        assert (true, false) == ((called & (Y == 1)).sum(), (called & (Y == 0)).sum())
        assert (precision, recall) == pytest.approx((true / called.sum(), true / Y.sum()))
        assert f1 == pytest.approx(2 * true / (called.sum() + Y.sum()))
    assert head[0] == "threshold"
    assert max(row[3] for row in rows) == pytest.approx(max(all_f1))


def test_the_areas_of_a_class_have_their_bounds(documents: dict[str, Json]) -> None:
    html = section(drawn(documents["a"]), "calibration")
    [listed] = re.findall(r"<caption>Calibration by class</caption>.*?</table>", html, re.DOTALL)
    p = 1 / (1 + np.exp(-X.astype(np.float64)))
    bins = np.floor(64 * p)
    found = table(html, "Calibration by class")
    assert found[0] == ["class", "calibration error", "elements", "positives", "AUROC", "average precision"]
    for place, name in enumerate(NAMES):
        y, b = Y[:, place] == 1, bins[:, place]
        above = (b[y][:, None] > b[~y]).mean()
        tied = (b[y][:, None] == b[~y]).mean()
        area, low, high = above + tied / 2, above, above + tied
        shown = f"{area:.4g} ({low:.4g} to {high:.4g})" if tied else f"{area:.4g}"
        [row] = [each for each in listed.split("<tr>") if escape(name) in each]
        assert f">{shown}<" in row
        [precision] = [cells[5] for cells in found[1] if cells[0] == name]
        assert precision == pytest.approx(average_precision_score(y, b), rel=1e-9)
    assert html.count("calibration_bins=exact") == 1
    assert "are from 64 bins" in html
    assert "greatest</th>" not in html


def test_of_one_row_no_interval_is_shown() -> None:
    html = drawn(full(1, 3, sections=SECTIONS).to_dict())
    assert "NaN to NaN" not in html
    assert html.count("needs two rows") == 4


def test_the_first_words_name_the_worst(documents: dict[str, Json]) -> None:
    html = section(drawn(documents["a"]), "totals")
    losses = focal(X)
    said = " ".join("".join(Page(html).texts).split())
    by_row = losses.sum(axis=1)
    assert f"focal: mean {losses.mean():.4g}, 95 % interval " in said
    worst, ratio = IDS[int(by_row.argmax())], by_row.max() / by_row.mean()
    assert (
        f" over {ROWS} rows. No class stands out, no camera stands out and the worst row is {worst} " in said
    )
    assert f"({by_row.max():.3g} over its {CLASSES} elements, {ratio:.2g} times an average row)" in said
    assert {each["href"] for each in Page(html).all("a")} == {"#lossd-classes", "#lossd-groups", "#lossd-top"}


def lead(report: Report) -> str:
    html = section(drawn(report.to_dict()), "totals")
    [found] = re.findall(r'<p class="lossd-lead">(.*?)</p>', html, re.DOTALL)
    return unescape(re.sub(r"<.*?>", "", found))


def test_the_first_words_are_right_where_nothing_is_the_worst() -> None:
    x = np.zeros((6, 3), dtype=np.float32)
    alike = full(
        6, 3, inputs=x, targets=x, baseline=None, sections=ALONE, groups={"g": np.repeat([0, 1, 2], 2)}
    )
    said = lead(alike)
    assert "No class stands out and no g stands out. Row 0 and 5 others have the greatest loss, " in said
    assert "times" not in said
    one = full(
        6, 1, inputs=x[:, :1], targets=x[:, :1], baseline=None, sections=ALONE, groups={"g": np.zeros(6, int)}
    )
    assert "class" not in lead(one)
    assert " g " not in lead(one)
    two = np.zeros((60, 3), dtype=np.float32)
    two[:, 1:] = 3.0
    said = lead(full(60, 3, inputs=two, targets=np.zeros((60, 3)), baseline=None, sections=ALONE))
    assert "The worst classes are class 1 and class 2 (" in said
    assert lead(full(0, 3, baseline=None, sections=ALONE)).startswith("focal: nothing was scored in 0 rows.")


def test_nan_is_the_worst_and_said() -> None:
    x = np.zeros((4, 2))
    x[3, 1] = np.nan
    report = full(
        4,
        2,
        inputs=x,
        targets=np.zeros((4, 2)),
        baseline=None,
        sections=ALONE,
        params={"allow_nan": True},
    )
    said = lead(report)
    assert said.startswith("focal: mean NaN over 4 rows. 1 loss of elements is NaN.")
    assert "The worst class is class 1 (NaN)" in said
    assert "the worst row is row 3 (NaN)" in said


def test_two_runs_are_side_by_side_the_greatest_worsening_first(documents: dict[str, Json]) -> None:
    html = drawn(documents["a"], documents["b"])
    a, b = focal(X), focal(OTHER)
    assert [each["data-section"] for each in Page(html).all("section")] == [
        *("comparison", "totals", "classes", "groups", "calibration"),
    ]
    change = a.mean(axis=0) - b.mean(axis=0)
    order = np.argsort(-change)
    found = table(section(html, "classes"), "Classes")
    assert column(found, "class") == [NAMES[place] for place in order]
    assert column(found, "run A") == pytest.approx(a.mean(axis=0)[order], rel=1e-9)
    assert column(found, "run B") == pytest.approx(b.mean(axis=0)[order], rel=1e-9)
    assert column(found, "difference") == pytest.approx(change[order], rel=1e-6)
    by_camera = {name: a[name == CAMERA].mean() - b[name == CAMERA].mean() for name in set(CAMERA.tolist())}
    found = table(section(html, "groups"), "Groups by camera")
    assert column(found, "camera") == sorted(by_camera, key=by_camera.__getitem__, reverse=True)
    assert column(found, "difference") == pytest.approx(sorted(by_camera.values(), reverse=True), rel=1e-6)
    head, [mean, *_] = table(section(html, "totals"), "All rows")
    assert head == ["figure", "run A", "run B", "difference"]
    assert mean[1:] == pytest.approx([a.mean(), b.mean(), a.mean() - b.mean()], rel=1e-6)
    said = section(html, "comparison")
    assert "not paired" in said
    assert "<h2>In short</h2>" in said
    [interval] = re.findall(r"interval (\S+) to (\S+)\.</p>", said)
    error = math.sqrt(sum(each.mean(axis=1).var(ddof=1) / ROWS for each in (a, b)))
    expected = [a.mean() - b.mean() + sign * 1.99 * error for sign in (-1, 1)]
    assert [float(each) for each in interval] == pytest.approx(expected, abs=0.02 * error)
    for word in ("bound", "baseline=", "undecided", "section paired", "clusters"):
        assert word not in said
    assert "run both on this page, over the same targets, to compare them row by row." in said


def test_the_older_run_in_the_first_place_is_said_as_the_page_can_be_used(documents: dict[str, Json]) -> None:
    times = ("2026-05-01T10:00:00+00:00", "2026-05-02T10:00:00+00:00")
    runs = [
        {**documents[name], "run": {**documents[name]["run"], "started": began}}
        for name, began in zip("ab", times, strict=True)
    ]
    said = section(drawn(*runs), "comparison")
    assert "use Swap if the first one is the older." in said
    assert "NEW" not in said
    assert "Swap" not in section(drawn(*runs[::-1]), "comparison")


def test_two_runs_are_compared_row_by_row_where_they_can_be(documents: dict[str, Json]) -> None:
    html = section(drawn(documents["a"], documents["b"], paired=documents["both"]), "comparison")
    change = (focal(X) - focal(OTHER)).sum(axis=1)
    assert "paired by row" in html
    assert f"rows: {(change < 0).sum()} better, {(change > 0).sum()} worse" in html
    worse = table(html, "Rows that are worse")
    order = [row for row in np.argsort(-change) if change[row] > 0][: len(worse[1])]
    assert column(worse, "id") == [IDS[row] for row in order]
    assert column(worse, "difference") == pytest.approx(change[order], rel=1e-9)
    means = focal(X).sum(axis=1) - focal(OTHER).sum(axis=1)
    low = means.mean() / CLASSES - 2.0227 * means.std(ddof=1) / math.sqrt(ROWS) / CLASSES
    [shown] = re.findall(r"95 % interval ([-+.\de]+) to", html)
    assert float(shown) == pytest.approx(low, rel=1e-3)


def test_a_fragment_keeps_a_strict_policy(documents: dict[str, Json]) -> None:
    for html in (drawn(documents["both"]), drawn(documents["a"], documents["b"], paired=documents["both"])):
        page = Page(html)
        assert html.startswith('<div class="lossd">')
        assert not [tag for tag, _ in page.elements if tag in ("style", "script", "link")]
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
            assert attributes.get("id", "lossd-").startswith("lossd-")
            if attributes.get("role") == "region":
                assert attributes["tabindex"] == "0"
            if tag == "th":
                assert attributes["scope"] in ("row", "col")
        ids = [each["id"] for _, each in page.elements if "id" in each]
        labels = [each["aria-label"] for each in page.all("div") if "aria-label" in each]
        assert len(set(ids)) == len(ids)
        assert len(set(labels)) == len(labels)
        assert [text for text in page.texts_of("h2") if not text.strip()] == []


def test_names_of_strangers_are_text(documents: dict[str, Json]) -> None:
    names = [*NASTY[:3], "\u202e\x07"]
    a = copy.deepcopy(documents["a"]) | {"run": {**documents["a"]["run"], "class_names": names}}
    for html in (drawn(a), drawn(a, documents["b"], names=NASTY[:2])):
        page = Page(html)
        assert NASTY[0] in "".join(page.texts)
        assert "<script" not in html
        assert "<img" not in html
        assert "\x07" not in html


def test_tables_end_and_say_so() -> None:
    report = full(1, 1500, sections=("classes",), baseline=None, groups=None)
    html = section(drawn(report.to_dict()), "classes")
    assert len(table(html, "Classes")[1]) == 1000
    assert "Classes: the worst 1,000 of 1,500 classes" in html
    assert "The 20 greatest of 1,500 classes." in html


@pytest.mark.parametrize(
    ("text", "pointer", "said"),
    [
        (b"[1, 2]", "", "must be a JSON object"),
        (b"{}", "/reports", "a list of one report, or of two"),
        (b'{"reports": []}', "/reports", "a list of one"),
        (b'{"reports": [1]}', "/reports/0", "its name and its document"),
        (b'{"reports": [{"document": {}}]}', "/reports/0/name", "text"),
        (b'{"reports": [{"name": "a"}]}', "/reports/0/document", "no JSON object"),
        (b'{"reports": [{"name": "a", "document": {"schema": 1}}]}', "/reports/0/document/schema", "schema"),
    ],
)
def test_what_is_no_request_is_refused_by_its_place(text: bytes, pointer: str, said: str) -> None:
    with pytest.raises(ViewError, match=said) as raised:
        draw_views(text)
    assert raised.value.pointer == pointer


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"reports": NaN'])
def test_what_is_no_json_is_told_apart(text: bytes) -> None:
    with pytest.raises(NotJson):
        draw_views(text)


@pytest.mark.parametrize(
    ("place", "value", "pointer"),
    [
        ("totals/rows", -1, "totals/rows"),
        ("totals/rows", 10**400, "totals/rows"),
        ("totals/rows", None, "totals/rows"),
        ("totals/params", [], "totals/params"),
        ("totals/params/class_axis", "x", "totals/params"),
        ("totals/params/normalizer", "x", "totals/params/normalizer"),
        ("totals/inputs", "images", "totals/inputs"),
        ("totals/sum_terms", [], "totals/sum_terms"),
        ("totals/sum", "many", "totals/sum"),
        ("classes/count", [1, 2], "classes/sum_terms"),
        ("classes/sum_terms", [[1.0, "x", 2.0, 3.0]], "classes/sum_terms"),
        ("groups/ids", [[1, 2]], "groups/ids/0"),
        ("groups/names", [], "groups/names"),
        ("groups/rows", [1, 2], "groups/rows"),
        ("top/rows", [{}], "top/rows/0"),
        ("top/rows", {}, "top/rows"),
        ("histogram/rows/bins", [1 << 16], "histogram/rows/bins"),
        ("calibration/bins", 10**9, "calibration/bins"),
        ("calibration/count", [1], "calibration/count"),
        ("calibration/positives_terms", [[1e30] * 64], "calibration/positives_terms"),
        ("calibration/classes/positives_terms", [[[-1.0] * 64] * 4], "calibration/classes/positives_terms"),
        ("sweep/gamma", [], "sweep/gamma"),
        ("sweep/gamma", ["1"], "sweep/gamma"),
        ("run", [], "run"),
        ("run/class_names", ["a"], "run/class_names"),
        ("run/class_names", [1, 2, 3, 4], "run/class_names"),
        ("run/inputs", {}, "run/inputs"),
        ("run/top_index", {"rows": [1]}, "run/top_index/rows"),
        ("more", {}, "more"),
    ],
)
def test_a_damaged_document_is_refused_by_its_place(
    documents: dict[str, Json], place: str, value: Json, pointer: str
) -> None:
    error = refused(changed(documents["both"], place, value))
    assert error.pointer == f"/reports/0/document/{pointer}"
    assert "open the file that a report was saved to, unchanged" in str(error)


def changed(document: Json, place: str, value: Json) -> Json:
    found = copy.deepcopy(document)
    *path, name = place.split("/")
    inside = found
    for each in path:
        inside = inside[each]
    inside[name] = value
    return found


def test_runs_that_cannot_be_compared_are_refused_with_a_remedy(documents: dict[str, Json]) -> None:
    other = changed(documents["b"], "totals/params/gamma", 2.0)
    error = refused(documents["a"], other)
    assert error.pointer == "/reports/1/document"
    assert "run A cannot be compared with run B: the parameter gamma is 1.5" in str(error)
    assert "score both with the same" in str(error)
    assert refused(documents["a"], paired=documents["both"]).pointer == "/paired"
    assert refused(documents["a"], documents["b"], paired=documents["a"]).pointer == "/paired"
    assert refused(documents["b"], documents["a"], paired=documents["both"]).pointer == "/paired/totals"


JUNK: Sequence[Json] = (None, True, -1, 1e308, 10**30, "", "NaN", "x" * 300, [], [[]], [1], {}, {"a": 1})


def mutated(document: Json, seed: int) -> Json:
    """A document with something in it that is not what it was: taken away, replaced, or longer."""
    chosen, found = random.Random(seed), copy.deepcopy(document)
    inside: Json = found
    while True:
        keys = list(inside) if isinstance(inside, Mapping) else list(range(len(inside)))
        key = chosen.choice(keys)
        below = inside[key]
        if isinstance(below, Mapping | list) and below and chosen.random() < 0.75:
            inside = below
            continue
        act = chosen.random()
        if act < 0.3:
            del inside[key]
        elif act < 0.4 and isinstance(inside, list):
            inside.append(copy.deepcopy(below))
        else:
            inside[key] = copy.deepcopy(chosen.choice(JUNK))
        return found


@pytest.mark.parametrize("seed", range(300))
def test_whatever_is_damaged_is_drawn_or_refused(documents: dict[str, Json], seed: int) -> None:
    broken = mutated(documents["both"], seed)
    for reports in ((broken,), (broken, documents["b"])):
        try:
            html = drawn(*reports)
        except ViewError as error:
            assert error.pointer.startswith("/reports/")  # noqa: PT017 - it may also be drawn
            assert len(str(error)) < 2000  # noqa: PT017
        else:
            Page(html)
