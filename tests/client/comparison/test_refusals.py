"""What cannot be compared, and what is said of what differs."""

from collections.abc import Callable
from typing import Any

import pytest

from client.comparison.reports import apart, light, paired
from client.report.arrays import Document, Value
from client.report.cases import wide_case
from client.report.documents import document
from lossd_client import NotComparable, Report, compare

Change = Callable[[Document], Any]


def two(change: Change, seed: int = 1) -> tuple[Report, Report]:
    """Two reports, the second one changed."""
    new, baseline = (each.to_dict() for each in apart(wide_case(seed)))
    change(baseline)
    return Report(new), Report(baseline)


UNLIKE: dict[str, tuple[Change, str]] = {
    "loss": (
        lambda d: d["totals"].update(loss="bce"),
        "of the loss 'focal', and the baseline of 'bce': score both with the same loss",
    ),
    "parameter": (
        lambda d: d["totals"]["params"].update(gamma=2.0),
        r"gamma is 1\.0 in the new report, and 2\.0 in the baseline: score both with the same",
    ),
    "normalizer": (
        lambda d: d["totals"]["params"].update(normalizer="weight"),
        "normalizer is not there in the new report, and 'weight' in the baseline",
    ),
    "kind of rows": (lambda d: d["totals"]["params"].update(row="mean"), "row is 'sum' .* and 'mean'"),
    "a list": (
        lambda d: d["totals"]["params"].update(alpha=[0.1, 0.2, 0.3]),
        r"alpha is 0\.25 in the new report, and \[0\.1, 0\.2, 0\.3\]",
    ),
    "weights": (
        lambda d: d["totals"].update(weighted=False),
        "the new report has weights, and the baseline has none: score both with the same tensor weight",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_reports_of_other_losses(name: str) -> None:
    change, message = UNLIKE[name]
    new, baseline = two(change)
    with pytest.raises(NotComparable, match=message):
        compare(new, baseline)
    with pytest.raises(NotComparable):
        compare(baseline, new)
    assert issubclass(NotComparable, ValueError)


def test_a_whole_number_is_the_same_as_a_float() -> None:
    new, baseline = two(lambda d: d["totals"]["params"].update(gamma=1))
    assert compare(new, baseline).params["gamma"] == 1.0


def test_groups_that_are_not_there() -> None:
    report = paired(wide_case(2))
    with pytest.raises(NotComparable, match="no groups by 'camra'; there are camera, weather"):
        compare(report, by="camra")
    with pytest.raises(NotComparable, match="no groups by 'night'"):
        compare(report, clusters=["night"])
    with pytest.raises(NotComparable, match="the new report has no groups, and by camera is asked for"):
        compare(paired(wide_case(2, groups={})), clusters="camera")
    new, _ = apart(wide_case(2))
    _, baseline = apart(wide_case(2, groups={"weather": ["sun"] * 30}))
    with pytest.raises(NotComparable, match="the baseline has no groups by 'camera'; there are weather"):
        compare(new, baseline, by=("weather", "camera"))
    with pytest.raises(ValueError, match="by names a group twice: camera, camera"):
        compare(report, by=["camera", "camera"])


def test_ids_of_unlike_kinds() -> None:
    new, _ = apart(wide_case(3))
    _, baseline = apart(wide_case(3, groups={"camera": ["1"] * 30, "weather": ["sun"] * 30}))
    with pytest.raises(NotComparable, match="of camera are of kind integer in the new report, and string"):
        compare(new, baseline, by="camera")
    assert set(compare(new, baseline, by="weather").groups) == {"rain", "sun", "é"}


def test_one_report_without_a_baseline() -> None:
    new, _ = apart(wide_case(4))
    with pytest.raises(NotComparable, match="no section paired: give the baseline's report too, or make"):
        compare(new)


def test_sums_over_unlike_rows() -> None:
    case = wide_case(5, base=None, params={"normalizer": 7.5}, kept=None)
    reports = [Report(document(light(each))) for each in (case, case.cut(range(20)))]
    with pytest.raises(NotComparable, match=r"the normalizer is 7\.5, .* report has 30 and the baseline 20"):
        compare(*reports)


def run(**fields: Value) -> Change:
    return lambda d: d["run"].update(fields)


def test_notes_on_versions_and_kernels() -> None:
    found = compare(*two(run(version="0.0.9", kernel="torch")))
    assert found.notes[0] == (
        "The new report was made by lossd 0.1.0 (native), the baseline by 0.0.9 (torch): all of them "
        "compute the same bits, so that nothing follows from it."
    )
    new, baseline = (each.to_dict() for each in two(run(kernel="torch")))
    for made in (new, baseline):
        made["totals"]["loss"] = "ours"
    notes = compare(Report(new), Report(baseline)).notes
    assert "a loss that an operator has added may be another one there" in notes[0]
    del baseline["run"]
    assert compare(Report(new), Report(baseline)).notes[0].startswith("Not paired")


def shards(*targets: str | None) -> list[Document]:
    return [
        {"path": f"{i}.npy", "sha256": f"{i}", "targets": {"path": "y", "sha256": each} if each else None}
        for i, each in enumerate(targets)
    ]


def test_notes_on_targets() -> None:
    new, baseline = two(run(inputs=shards("c", "b", "d")))
    assert "By their SHA-256" not in " ".join(compare(new, baseline).notes)
    new._document["run"]["inputs"] = shards("a", "b", "c")
    assert compare(new, baseline).notes[0] == (
        "By their SHA-256, 2 of 3 files of targets in the new report are among the 3 of the baseline: the "
        "difference of the losses contains the difference of the data."
    )
    assert "takes the rows of the two to be independent" in compare(new, baseline).notes[-1]
    new._document["run"]["inputs"] = shards("d", "b", "c")
    assert compare(new, baseline).notes[-1].startswith("Both are of the same targets, and the interval is")
    new._document["run"]["inputs"] = shards("a", None)
    assert "SHA-256" not in " ".join(compare(new, baseline).notes)


def test_notes_on_inputs() -> None:
    def other(document: Document) -> None:
        document["totals"].update(inputs="probabilities", row_shape=[4])

    notes = compare(*two(other)).notes
    assert notes[0].startswith(
        "The new report is of logits, the baseline of probabilities: the loss is the same"
    )
    assert notes[1] == "A row of the new report has the shape [3], one of the baseline [4]."
