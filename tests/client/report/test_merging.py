"""Reports of parts merge into the report of all, byte for byte."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.report.arrays import Case, Document
from client.report.cases import random_case, wide_case
from client.report.documents import document
from lossd_client import Report
from lossd_client.report import ReportMerger


def parsed(case: Case) -> Document:
    """A document as it comes over the wire."""
    found: Document = json.loads(json.dumps(document(case), allow_nan=False))
    return found


def text(made: Document) -> dict[str, str]:
    """The bytes of each section."""
    return {name: json.dumps(section) for name, section in made.items() if name != "run"}


def cut_up(case: Case, rng: np.random.Generator, *, shuffled: bool) -> list[Document]:
    rows = len(case.x)
    cuts = sorted({0, rows, *rng.integers(1, rows, rng.integers(1, 7)).tolist()})
    order = rng.permutation(rows).tolist() if shuffled else list(range(rows))
    return [parsed(case.cut(order[a:b])) for a, b in itertools.pairwise(cuts)]


def merged(documents: Sequence[Document]) -> Document:
    return Report.merge(map(Report, documents)).to_dict()


def extreme(seed: int) -> Case:
    case = wide_case(seed)
    v = case.v.copy()
    v[3] *= 1e300
    v[5] *= 1e-310
    v[7, 1], v[11, 0] = np.inf, np.nan
    v[13] = 0.0
    return replace(case, v=v, base=None, base_x=None)


CASES: dict[str, Callable[[int], Case]] = {
    "plain": random_case,
    "everything": wide_case,
    "row means": lambda seed: wide_case(seed, row="mean", params={"normalizer": "weight"}),
    "exact bins": lambda seed: wide_case(seed, bins="exact", ids=None, params={"normalizer": "positives"}),
    "a number": lambda seed: wide_case(seed, params={"normalizer": 7.0}, ids=None, by_class=False),
    "names": lambda seed: wide_case(seed, ids=[f"é{i * 7 % 30}" for i in range(30)]),
    "extreme": extreme,
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_partition_in_any_order_gives_the_bytes_of_the_whole(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = CASES[name](seed)
    parts = cut_up(case, rng, shuffled=case.ids is not None)  # without ids, indexes tell rows apart
    rng.shuffle(parts)
    whole = parsed(case)
    found = merged(parts)
    assert text(found) == text(whole)
    assert list(found) == list(whole)
    half = len(parts) // 2
    if half:
        assert text(merged([merged(parts[:half]), merged(parts[half:])])) == text(whole)


def test_a_part_without_rows_changes_nothing() -> None:
    case = wide_case(1, ids=None, groups={"camera": [1, 2, 3] * 10})
    empty = parsed(case.cut([]))
    for parts in ([empty, parsed(case)], [parsed(case), empty], [empty, parsed(case), empty]):
        assert text(merged(parts)) == text(parsed(case))
    assert text(merged([empty, empty])) == text(empty)


def test_one_report_is_itself() -> None:
    made = parsed(wide_case(2))
    assert merged([made]) == made
    with pytest.raises(ValueError, match="no reports to merge"):
        Report.merge([])


def test_the_run_keeps_what_is_the_same() -> None:
    case = wide_case(3)
    parts = [parsed(case.cut(range(a, a + 10))) for a in (20, 0, 10)]
    parts[0]["run"]["inputs"] = [{"path": "a.npy", "sha256": "0"}]
    parts[1]["run"]["inputs"] = [{"path": "b.npy", "sha256": "1"}]
    run = merged(parts)["run"]
    assert (run["version"], run["first_row"], run["request_id"]) == ("0.1.0", 0, None)
    assert [each["path"] for each in run["inputs"]] == ["a.npy", "b.npy"]
    assert run["top_index"] == document(case)["run"]["top_index"]


def test_rows_of_different_shapes_merge_without_their_shape() -> None:
    """As of images of different sizes."""
    a, b = random_case(1, 4, 3, by_class=False), random_case(2, 4, 5, by_class=False)
    first, second, third = parsed(a), parsed(b), parsed(a)
    second["run"] |= {"first_row": 4, "request_id": "r4"}
    third["run"] |= {"first_row": 8, "request_id": "r8"}
    totals = merged([first, second])["totals"]
    assert totals["row_shape"] is None
    assert totals["elements"] == 4 * 3 + 4 * 5
    assert merged([merged([first, second]), third])["totals"]["row_shape"] is None


def test_a_report_that_is_there_twice_is_refused() -> None:
    case = random_case(4)
    first, second = (Report(parsed(case.cut(range(a, a + 12)))) for a in (0, 12))
    message = (
        r"report 3 is the same as report 1, by its request id, r0: its rows would count twice; leave one"
    )
    with pytest.raises(ValueError, match=message):
        Report.merge([first, second, first])
    merger = ReportMerger()
    merger.add(first)
    with pytest.raises(ValueError, match="report 2 is the same as report 1"):
        merger.add(first)
    merger.add(second)  # what was refused is left out
    assert text(merger.result().to_dict()) == text(parsed(case))
    assert merger.result().rows == 24
    other = parsed(random_case(5))
    other["run"] |= {"first_row": 24, "request_id": "r24"}
    Report.merge([merger.result(), Report(other)])


def numbered(seed: int, first_row: int, request_id: str | None) -> Report:
    """Return a report of 24 rows numbered from the given one on."""
    document = parsed(random_case(seed))
    document["run"] |= {"first_row": first_row, "request_id": request_id}
    return Report(document)


@pytest.mark.parametrize(
    ("first_rows", "request_id", "note"),
    [
        ((0, 24), "r", None),
        ((24, 0), "r", None),
        ((48, 0, 24), "r", None),
        ((0, 0), "r", "report 1 and report 2 both number their rows from 0"),
        ((0, 0), None, "report 1 and report 2 both number their rows from 0"),
        ((0, 23), "r", "report 1 and report 2 both have a row of number 23"),
        ((100, 50, 77), "r", "report 1 and report 3 both have a row of number 100"),
        ((50, 100, 73), "r", "report 1 and report 3 both have a row of number 73"),
        ((0, 23), None, None),  # rows of a merged report may have gaps
    ],
)
def test_row_numbers_that_two_reports_share_are_noted(
    first_rows: tuple[int, ...], request_id: str | None, note: str | None
) -> None:
    reports = [
        numbered(seed, row, request_id and f"{request_id}{seed}") for seed, row in enumerate(first_rows)
    ]
    merger = ReportMerger()
    for each in reports:
        merger.add(each)
    remedy = "make reports with first_row= or ids= for lists that tell rows apart"
    assert merger.notes == (() if note is None else (f"{note}: {remedy}",))
    if note is None:
        assert Report.merge(reports) == merger.result()
    else:
        with pytest.warns(UserWarning, match=note):
            assert Report.merge(reports) == merger.result()


@pytest.mark.parametrize("sections", ["ids", "no lists"])
def test_rows_with_ids_or_without_lists_need_no_numbers(sections: str) -> None:
    def document(seed: int) -> dict[str, Any]:
        if sections == "ids":
            return parsed(random_case(seed, ids=[f"{seed}-{row}" for row in range(24)]))
        found = parsed(random_case(seed))
        del found["top"], found["paired"]["top"]
        return found

    merged([document(1), document(2)])


def test_a_shard_that_is_there_twice_is_refused() -> None:
    parts = [parsed(random_case(4).cut(range(a, a + 8))) for a in (0, 8, 16)]
    for made, digest in zip(parts, ("1", "2", "1"), strict=True):
        made["run"]["inputs"] = [
            {"path": "empty.npy", "sha256": "0", "rows": 0},
            {"path": f"{digest}.npy", "sha256": digest, "rows": 8, "targets": {"path": "y", "sha256": "3"}},
        ]
    a, b, c = map(Report, parts)
    assert Report.merge([Report.merge([a]), b]).rows == 16
    message = (
        r"1\.npy with y of report 2 is the same as 1\.npy with y of report 1, by its SHA-256: .* leave out"
    )
    with pytest.raises(ValueError, match=message):
        Report.merge([Report.merge([a, b]), c])
    parts[2]["run"]["inputs"][1]["targets"]["sha256"] = "4"
    assert Report.merge([a, b, Report(parts[2])]).rows == 24


def run_of(number: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a run
    """Return a run of one request, ten minutes after that of the number before, and a minute long."""
    return {
        "version": "1.0",
        "request_id": f"r{number}",
        "request_ids": [f"r{number}"],
        "client_version": "2.0",
        "started": f"2026-03-29T{number:02d}:50:00.000Z",
        "ended": f"2026-03-29T{number:02d}:51:00.500Z",
        "first_row": 8 * number,
        **more,
    }


def runs(*numbers: int, **more: Any) -> list[Report]:  # noqa: ANN401 - fields of a run
    case = random_case(4)
    cuts = [(number, parsed(case.cut(range(8 * number, 8 * number + 8)))) for number in numbers]
    return [Report({**made, "run": run_of(number, **more)}) for number, made in cuts]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_merged_run_lasts_from_the_first_start_to_the_last_end(order: tuple[int, ...]) -> None:
    a, b, c = runs(*order)
    for whole in (Report.merge([a, b, c]), Report.merge([Report.merge([a, b]), c])):
        run = whole.run
        assert (run["started"], run["ended"]) == ("2026-03-29T00:50:00.000Z", "2026-03-29T02:51:00.500Z")
        assert run["request_ids"] == [f"r{number}" for number in order]
        assert (run["version"], run["client_version"], run["request_id"]) == ("1.0", "2.0", None)
        assert run["first_row"] == 0
        assert whole == Report.merge(runs(0, 1, 2))


def test_times_are_compared_as_times() -> None:
    [a], [b] = runs(0, started="2026-03-29T02:30:00+02:00"), runs(1)  # 00:30 in UTC
    assert Report.merge([b, a]).run["started"] == "2026-03-29T02:30:00+02:00"
    merger = ReportMerger()
    merger.add(b)
    with pytest.raises(ValueError, match="yesterday"):
        merger.add(runs(0, started="yesterday")[0])
    merger.add(a)
    assert merger.result().rows == 16


def test_of_runs_without_times_none_are_made_up() -> None:
    older = {"version": "1.0", "request_id": "old", "first_row": 0}
    [a], [b] = runs(0), runs(1)
    for parts in ([Report({**a.to_dict(), "run": older}), b], [b, Report({**a.to_dict(), "run": older})]):
        run = Report.merge(parts).run
        assert (run["started"], run["ended"], run["client_version"]) == (None, None, None)
        assert sorted(run["request_ids"]) == ["old", "r1"]
    run = Report.merge([Report({**each.to_dict(), "run": older | {"request_id": "x"}}) for each in (a,)]).run
    assert run == older | {"request_id": "x"}


def test_a_request_that_is_there_twice_is_refused_in_merged_runs_too() -> None:
    a, b, c = runs(0, 1, 2)
    first, second = Report.merge([a, b]), Report.merge([b, c])
    said = r"report 2 and report 1 both have the rows of request r1, which would count twice"
    for parts in ([first, second], [first, b], [b, first], [second, first], [b, second]):
        with pytest.raises(ValueError, match=said):
            Report.merge(parts)
    assert Report.merge([first, c]) == Report.merge([a, second]) == Report.merge([a, b, c])


def test_reports_of_requests_under_one_id_merge_from_their_own_reports() -> None:
    a, b, c = runs(0, 1, 2, request_id="mine", request_ids=["mine"])
    whole = Report.merge([a, b, c])
    assert (whole.rows, whole.run["request_ids"], whole.run["request_id"]) == (24, ["mine"], None)
    with pytest.raises(ValueError, match="report 2 is the same as report 1, by its request id, mine"):
        Report.merge([a, a])
    with pytest.raises(ValueError, match="both have the rows of request mine"):
        Report.merge([Report.merge([a, b]), a])


def test_requests_without_rows_count_for_nothing() -> None:
    case = random_case(4)
    empty = Report({**parsed(case.cut(range(0))), "run": run_of(0)})
    [a], [b] = runs(1), runs(2)
    whole = Report.merge([Report.merge([empty, a]), empty, b])
    assert (whole.rows, whole.run["request_ids"]) == (16, ["r1", "r2"])


def test_many_documents_need_no_more_memory_than_one() -> None:
    merger = ReportMerger()
    made = parsed(random_case(4))
    made["run"]["request_id"] = None  # else it would be refused the second time
    one = Report(made)
    for _ in range(200):
        merger.add(one)
    assert merger.result().rows == 200 * one.rows
    assert merger.result().sum == pytest.approx(200 * one.sum, rel=1e-15)
    assert len(merger.result().top_rows) == len(one.top_rows)


def changed(change: Callable[[Document], Any]) -> Document:
    made = parsed(wide_case(5))
    change(made)
    return made


UNLIKE: dict[str, tuple[Callable[[Document], Any], str]] = {
    "loss": (lambda d: d["totals"].update(loss="bce"), r"totals\.loss cannot be merged: 'focal' and 'bce'"),
    "a parameter": (
        lambda d: d["totals"]["params"].update(gamma=2.0),
        r"totals\.params cannot be merged: {'gamma': 1\.0} and {'gamma': 2\.0}",
    ),
    "a long list": (
        lambda d: d["totals"]["params"].update(gamma=[2.0] * 20_000),
        r"cannot be merged: {'gamma': 1\.0} and {'gamma': \[2\.0, 2\.0, … 20,000 in all\]}$",
    ),
    "inputs": (lambda d: d["totals"].update(inputs="probabilities"), r"totals\.inputs"),
    "weights": (lambda d: d["totals"].update(weighted=False), r"totals\.weighted"),
    "a section": (lambda d: d.pop("calibration"), r"only one has calibration$"),
    "a part of a section": (lambda d: d["groups"].pop("paired"), r"only one has groups\.paired$"),
    "an older version": (
        lambda d: d["paired"]["rows"].pop("baseline_squares_terms"),
        r"only one report has paired\.rows\.baseline_squares_terms: an older version of lossd made the other",
    ),
    "names of groups": (lambda d: d["groups"].update(names=["a", "b"]), r"groups\.names"),
    "kinds of groups": (lambda d: d["groups"].update(kinds=["string"] * 2), r"groups\.kinds"),
    "the length of lists": (lambda d: d["top"].update(k=3), r"top\.k cannot be merged: 5 and 3"),
    "kinds of ids": (lambda d: d["top"].update(ids="string"), r"top\.ids"),
    "bins": (lambda d: d["calibration"].update(bins=9), r"calibration\.bins"),
    "gammas": (lambda d: d["sweep"].update(gamma=[0.0, 1.0]), r"sweep\.gamma"),
    "classes": (
        lambda d: d["classes"].update(count=[1, 2]),
        r"classes\.count\.shape cannot be merged: \[3\] and \[2\]",
    ),
    "a newer field": (lambda d: d["totals"].update(median=1.0), r"does not know the field 'totals\.median'"),
    "text": (
        lambda d: d["totals"].update(sum="x", sum_terms=["x"]),
        r"totals\.sum_terms is no array of numbers",
    ),
    "lists": (lambda d: d["groups"]["rows"].append(0), r"groups\.rows has the shape"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_reports_are_refused_by_name_and_leave_no_trace(name: str) -> None:
    change, message = UNLIKE[name]
    merger = ReportMerger()
    merger.add(Report(parsed(wide_case(5))))
    with pytest.raises(ValueError, match=message):
        merger.add(Report(changed(change)))
    merger.add(Report(parsed(wide_case(6))))
    assert merger.result() == Report(merged([parsed(wide_case(5)), parsed(wide_case(6))]))


def test_dtypes_of_exact_bins_do_not_mix() -> None:
    case = wide_case(7, bins="exact")
    other = parsed(case)
    other["calibration"]["dtype"] = "bfloat16"
    with pytest.raises(ValueError, match=r"calibration\.dtype cannot be merged: 'float16' and 'bfloat16'"):
        merged([parsed(case), other])


def older(document: Document) -> Document:
    """The report without what versions before did not write."""
    for section in (document["paired"], document["groups"]["paired"]):
        for name in ("baseline_squares_terms", "baseline_products_terms"):
            del section["rows"][name]
    return document


def test_reports_of_an_older_version_load_and_merge(tmp_path: Path) -> None:
    parts = [older(parsed(wide_case(seed))) for seed in (5, 6)]
    path = tmp_path / "older.json"
    path.write_text(json.dumps(parts[0]))
    assert Report.load(path).paired.mean == Report(parsed(wide_case(5))).paired.mean
    assert merged(parts) == older(merged([parsed(wide_case(seed)) for seed in (5, 6)]))
