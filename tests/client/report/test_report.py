"""A report as an object: what it is of, its lists, its files and its tables."""

import copy
import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.report.arrays import Case, Document
from client.report.cases import random_case, wide_case
from client.report.documents import document
from lossd_client import Report


def report_of(case: Case) -> Report:
    return Report(json.loads(json.dumps(document(case))))


def test_what_it_is_of() -> None:
    report = report_of(random_case(1))
    assert report.loss_name == "focal"
    assert report.params == {"gamma": 1.0, "alpha": 0.25, "variant": "sigmoid", "row": "sum"}
    assert (report.version, report.kernel, report.device, report.request_id) == (
        "0.1.0",
        "native",
        "cpu",
        "r0",
    )
    assert report.sections == ("totals", "classes", "top", "histogram", "calibration", "sweep", "paired")
    assert repr(report).startswith(f"<Report focal: mean={report.mean!r}, 95% from ")
    made = document(random_case(1))
    del made["run"]
    assert Report(made).version is None


@pytest.mark.parametrize("ids", [None, list(range(100, 124)), [f"row {i}" for i in range(24)]])
def test_top_lists(ids: list[int] | list[str] | None) -> None:
    case = random_case(2, ids=ids, k=4, first=1000, v=np.random.default_rng(0).exponential(size=(24, 3)))
    report = report_of(case)
    for element, place in zip(report.top_elements, np.argsort(-case.v, axis=None)[:4], strict=True):
        row, column = divmod(int(place), 3)
        assert (element.index, element.position) == ((1000 + row, column), (column,))
        assert element.id == (None if ids is None else ids[row])
        assert element.loss == case.v[row, column]
        assert (element.logit, element.probability) == (case.x[row, column], None)
        assert element.target == case.y[row, column]
        assert element.difference is element.baseline is None
    sums = case.by_row(case.v)
    for entry, place in zip(report.top_rows, np.argsort(-sums)[:4], strict=True):
        assert (entry.index, entry.loss) == (1000 + place, sums[place])
        assert entry.id == (None if ids is None else ids[place])


def test_entries_whose_index_is_not_known() -> None:
    made = document(random_case(3, ids=list(range(24))))
    del made["run"]["top_index"]
    report = Report(made)
    assert report.top_rows[0].index is None
    assert report.top_elements[0].index is None
    assert len(report.top_elements[0].position) == 1
    other = Report({**made, "run": {**made["run"], "request_id": "another"}})
    assert Report.merge([report, other]).top_rows[0].index is None


def test_probabilities_are_called_so() -> None:
    made = document(random_case(4))
    for entry in made["top"]["elements"]:
        entry["probability"] = entry.pop("logit")
    found = Report(made).top_elements[0]
    assert (found.logit, found.probability) == (None, made["top"]["elements"][0]["probability"])


@pytest.mark.parametrize("name", ["report.json", "report.json.gz"])
def test_a_file_holds_the_whole_report(tmp_path: Path, name: str) -> None:
    report = report_of(wide_case(5, ids=[f"é{i}" for i in range(30)]))
    report.save(tmp_path / name)
    again = Report.load(tmp_path / name)
    assert again == report
    assert json.dumps(again.to_dict()) == json.dumps(report.to_dict())
    assert again.run == report.run
    raw = (tmp_path / name).read_bytes()
    assert (
        (gzip.decompress(raw) if name.endswith(".gz") else raw)
        .decode()
        .startswith('{"schema":"lossd.report/1"')
    )
    report.save(str(tmp_path / "again.json.gz"))
    report.save(str(tmp_path / "once more.json.gz"))
    assert (tmp_path / "again.json.gz").read_bytes() == (tmp_path / "once more.json.gz").read_bytes()


def damaged(change: Callable[[Document], object]) -> bytes:
    made = document(wide_case(5))
    change(made)
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (damaged(lambda made: None)[:-90], "Expecting|Unterminated"),
        (gzip.compress(damaged(lambda made: None), mtime=0)[:-20], "ended before"),
        (gzip.compress(b"{}", mtime=0)[:9] + b"junk" * 9, "decompressing"),
        (b"\xff\xfe\xfa", "decode"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "it is no JSON object"),
        (b"{}", "no report: its schema is None"),
        (damaged(lambda made: made.pop("totals")), "it has no section totals"),
        (damaged(lambda made: made["totals"].pop("params")), r"it has no totals\.params"),
        (damaged(lambda made: made["histogram"]["rows"].pop("bins")), r"it has no histogram\.rows\.bins"),
        (damaged(lambda made: made["groups"].pop("ids")), r"it has no groups\.ids"),
        (damaged(lambda made: made.update(classes=3)), "classes is no JSON object"),
    ],
)
@pytest.mark.parametrize("name", ["report.json", "report.json.gz"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} is no report, or damaged: .*({message})"):
        Report.load(tmp_path / name)


def test_equal_are_reports_of_equal_sections() -> None:
    one, other = report_of(random_case(6)), document(random_case(6))
    other["run"]["request_id"] = "another"
    assert one == Report(other)
    other["totals"]["rows"] += 1
    assert one != Report(other)
    assert one != other
    assert Report(pickle.loads(pickle.dumps(other))) == copy.deepcopy(Report(other))
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_changes_to_the_dict_do_not_change_the_report() -> None:
    report = report_of(random_case(7))
    report.to_dict()["totals"]["rows"] = 0
    assert report.rows == 24


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({}, "its schema is None, and not 'lossd.report/1'"),
        ({"schema": "lossd.report/2", "totals": {}}, "its schema is 'lossd.report/2'"),
        ({"schema": "lossd.report/1"}, "it has no section totals"),
    ],
)
def test_what_is_no_report(made: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Report(made)


@pytest.mark.parametrize(
    ("name", "section", "remedy"),
    [
        ("classes", "classes", r"sections=\['classes'\], with class_axis .*dice, tversky and box have none"),
        ("groups", "groups", "the tensor groups"),
        ("stderr_by_group", "groups", "the tensor groups"),
        ("top_rows", "top", "top="),
        ("top_elements", "top", "top="),
        ("calibration", "calibration", r"sections=\['calibration'\] .*hinge.* have none"),
        ("sweep", "sweep", r"sweep=\{'gamma'"),
        ("paired", "paired", "the tensor baseline"),
        ("element_histogram", "histogram", r"sections=\['histogram'\]"),
    ],
)
def test_a_section_that_is_not_there(name: str, section: str, remedy: str) -> None:
    made = document(random_case(8))
    report = Report({"schema": made["schema"], "totals": made["totals"]})
    with pytest.raises(LookupError, match=f"the report has no section {section}; ask for it with .*{remedy}"):
        getattr(report, name)
    for read in (report.quantile, report.row_quantile):
        with pytest.raises(LookupError, match="no section histogram"):
            read(0.5)
    with pytest.raises(LookupError, match="no section sweep"):
        report.at()
    assert report.sections == ("totals",)


def test_a_part_of_a_section_that_is_not_there() -> None:
    report = report_of(random_case(9, by_class=False, base=None, groups={"camera": [1, 2] * 12}))
    with pytest.raises(LookupError, match="no classes by group; ask for both"):
        _ = report.groups[1].classes
    with pytest.raises(LookupError, match="no paired by group; ask for both"):
        _ = report.groups[1].paired
    with pytest.raises(LookupError, match=r"no classes in calibration; ask for both.*bins at most 262,144"):
        _ = report.calibration.classes
