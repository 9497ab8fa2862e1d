"""What figures say about an interval or a bound beside the verdict: copies, few clusters, infinite means."""

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.comparison.reports import apart, light, paired
from client.report.arrays import Case
from client.report.cases import random_case
from client.report.documents import document
from lossd_client import Comparison, LossClient, Report, compare
from lossd_client.comparison._bound import Bound
from lossd_client.comparison._output.sentences import confidence
from lossd_client.testing import FakeTransport


def copies(rows: int, **more: Any) -> Case:  # noqa: ANN401 - fields
    """So many copies of a row, by a model that is worse by 1/8 in each."""
    case = light(random_case(1, rows, 2))
    base = np.full_like(case.v, 0.5)
    return replace(case, base=base, v=base + 0.125, **more)


@pytest.mark.parametrize("bound", [0.0, "5%"])
def test_few_copies_of_a_row_decide_nothing(bound: float | str) -> None:
    found = compare(paired(copies(2)), max_regression=bound)
    assert (found.verdict, found.whole.stderr) == ("undecided", 0.0)
    assert found.whole.reason == "all 2 rows differ by exactly the same: are they copies of one?"
    better = copies(29)
    better.v -= 0.25
    assert compare(paired(better), max_regression=bound).verdict == "undecided"
    reports = apart(copies(4))
    reason = "all 4 rows of a model have exactly the same loss: are they copies of one?"
    assert compare(*reports, max_regression=bound).whole.reason == reason
    case = copies(40, groups={"night": [row // 10 for row in range(40)]})
    by_night = compare(paired(case), max_regression=bound, clusters="night")
    assert by_night.whole.reason == "all 4 clusters differ by exactly the same: are they copies of one?"


def test_many_copies_of_a_row_are_a_note() -> None:
    found = compare(paired(copies(30)), max_regression="5%")
    assert found.verdict == "regressed"
    note = "All 30 rows differ by exactly the same, so that the interval is a point: are they copies of one?"
    assert found.notes == (note,)
    same = copies(30)
    same.v[:] = 0.5
    assert compare(paired(same)).verdict == "passed"


def clustered(sizes: list[int]) -> Comparison:
    rows = sum(sizes)
    night = np.repeat(np.arange(len(sizes)), sizes).tolist()
    return compare(paired(light(random_case(2, rows, 2, groups={"night": night}))), clusters="night")


def test_few_clusters_and_clusters_of_unlike_sizes_are_notes() -> None:
    assert clustered([2] * 29).notes == (
        "Intervals from fewer than 30 clusters may be too narrow, and there are 29.",
    )
    assert clustered([1, *[2] * 30, 4]).notes == ()
    assert clustered([1, *[2] * 30, 5]).notes == (
        "Clusters have 1 to 5 rows: where they differ more than 4 times, intervals may be too narrow.",
    )


def test_few_clusters_in_a_group_are_a_note() -> None:
    groups = {"camera": [row % 2 for row in range(80)], "night": [row // 2 for row in range(80)]}
    groups["night"][1::2] = [0, 1] * 20
    case = light(random_case(3, 80, 2, groups=groups))
    [note] = [note for note in compare(paired(case), by="camera", clusters="night").notes if "fewer" in note]
    assert note == "Intervals from fewer than 30 clusters may be too narrow, and 1 of 2 groups has fewer."


def test_infinite_means_of_both_are_undecided_by_cluster_too() -> None:
    case = light(random_case(4, 40, 2, groups={"night": [row // 4 for row in range(40)]}))
    assert case.base is not None
    case.base[:3, 0] = math.inf
    found = compare(*apart(case), clusters="night")
    assert (found.verdict, found.pairing) == ("undecided", "clusters")
    assert "(infinite losses of elements: 0 of the new model's and 3 of the baseline's): score finite" in str(
        found
    )


def test_a_bound_above_the_mean_is_a_note() -> None:
    found = compare(paired(light(random_case(5, 40))), max_regression=5)
    assert "is in units of the loss, and above the baseline's mean itself" in found.notes[0]
    assert found.notes[0].endswith(": did you mean 5%?")
    for bound in (0.01, "500%"):
        assert compare(paired(light(random_case(5, 40))), max_regression=bound).notes == ()


@pytest.mark.parametrize("given", ["1_0", "1_0%", "\u0661", "\uff15%", "0x1p3", "1,5", "1e", ".", "1\n"])
def test_texts_that_only_python_takes_for_numbers(given: str) -> None:
    with pytest.raises(ValueError, match="max_regression is"):
        Bound.of(given)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("+.5", 0.5),
        (" 1.e-1 ", 0.1),
        ("-2E+1%", -0.2),
        ("5 %", 0.05),
        (Fraction(1, 4), 0.25),
        (np.float32(2), 2.0),
    ],
)
def test_bounds(given: Any, value: float) -> None:  # noqa: ANN401 - what people give
    assert Bound.of(given).value == value


def test_arguments_of_other_kinds_are_named(tmp_path: Path) -> None:
    report = Report(document(light(random_case(6, 20))))
    wrong: dict[str, list[Any]] = {
        "confidence": ["0.95", None, True],
        "by": [3, None, [1]],
        "clusters": [None, 2.5, [None]],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(TypeError, match=f"^{name} must be "):
                compare(report, **{name: value})
    with pytest.raises(ValueError, match=r"^max_regression is None, and must be a number"):
        compare(report, max_regression=None)  # type: ignore[arg-type] # the mistake
    with pytest.raises(TypeError, match=r"^baseline must be a Report or the path of one, and is 3"):
        compare(report, 3)  # type: ignore[arg-type] # the mistake
    np.save(tmp_path / "new.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"^new: .*new\.npy is no report, or damaged"):
        compare(tmp_path / "new.npy")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (0.95, "95 %"),
        (0.999999, "99.9999 %"),
        (1 - 0.05 / 3, "98.3333 %"),
        (1 - 1e-9, "99.9999999 %"),
        (1 - 2.0**-53, "99.9999999999999889 %"),
        (0.5, "50 %"),
        (1e-7, "1e-05 %"),
    ],
)
def test_a_confidence_is_never_shown_as_all(level: float, shown: str) -> None:
    assert confidence(level) == shown


def test_what_is_judged_beside_a_baseline_of_nothing() -> None:
    case = light(random_case(7, 40, 2))
    v = np.zeros_like(case.v)
    v[0, 0] = 1.0
    found = compare(paired(replace(case, base=np.zeros_like(v), v=v)), max_regression="5%")
    low, high = found.whole.interval
    shown = f"95 % interval {low:+.6g} to {high:+.6g}: undecided, as it holds 0: the baseline's mean is 0"
    assert shown in str(found)
    assert f"{low:+.6g} to {high:+.6g} |" in found.to_markdown()
    assert shown in unescape(found.to_junit())


def test_a_verdict_is_found_once() -> None:
    found = compare(
        paired(light(random_case(8, 40, 2, groups={"night": [row // 4 for row in range(40)]}))), by="night"
    )
    walks = []

    def changes() -> Iterator[tuple[None, Any]]:
        walks.append(1)
        yield None, found.whole

    object.__setattr__(found, "changes", changes)
    assert {found.verdict for _ in range(5)} == {replace(found, notes=()).verdict}
    assert len(walks) == 1


def test_names_that_are_empty_blank_or_long() -> None:
    names = ["", " ", "a" * 100, "b" * 60]
    case = light(random_case(9, 40, 2, groups={"site": [names[row % 4] for row in range(40)]}))
    found = compare(paired(case), by="site")
    assert [line.split(":")[0] for line in sorted(str(found).splitlines()) if line.startswith("site")] == [
        "site ' '",
        "site ''",
        f"site {'a' * 30}\u2026{'a' * 29}",
        f"site {'b' * 60}",
    ]
    assert f"| site {'a' * 30}\u2026{'a' * 29} |" in found.to_markdown()
    assert f'name="site {"a" * 100}"' in found.to_junit()


def test_nobody_is_notified() -> None:
    case = light(random_case(10, 40, 2, groups={"owner": [f"@team{row % 2}" for row in range(40)]}))
    made = compare(paired(case), by="owner").to_markdown()
    assert "@team" not in made
    assert "owner @&#8203;team1" in made


def test_one_row_is_better() -> None:
    case = copies(40)
    case.v[0] -= 1.0
    assert "; 1 row better, 39 worse, 0 equal" in str(compare(paired(case)))


def test_one_model_beside_itself_and_models_in_the_wrong_order_are_said() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), rng.random((40, 3)) < 0.3
    with LossClient(transport=FakeTransport) as client:
        one, other = (client.report("bce", each, y) for each in (x, x + 1))
        both = client.report("bce", x, y, baseline=x)
    assert "Both reports have the same figures: is one model compared with itself?" in compare(one, one).notes
    assert (
        "Both models have the same loss in every row: is one model compared with itself?"
        in compare(both).notes
    )
    documents = one.to_dict(), other.to_dict()
    for made, started in zip(
        documents, ("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"), strict=True
    ):
        made["run"]["started"] = started
    found = compare(*map(Report, documents))
    assert found.notes[0].startswith("The new report was made at 2026-01-01T00:00:00.000Z, before that of ")
    assert "made at" not in " ".join(compare(*map(Report, documents[::-1])).notes)


def test_as_many_rows_of_other_data_are_said() -> None:
    case = light(random_case(11, 40, 2, base=None))
    other = replace(case, y=1 - case.y, first=900)
    [note] = [
        note
        for note in compare(Report(document(case)), Report(document(other))).notes
        if "other data" in note
    ]
    assert note.startswith(f"The new report has {float(case.y.sum())!r} positives, and that of the baseline ")
