"""Reports of the same targets of which other elements, or other weights, are scored."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.comparison.reports import light
from client.report.arrays import Case
from client.report.cases import random_case
from client.report.documents import document
from lossd_client import LossClient, NotComparable, Report, compare
from lossd_client.testing import FakeTransport

ROWS = 30


def case(**more: Any) -> Case:  # noqa: ANN401 - fields
    return replace(light(random_case(1, ROWS)), base=None, by_class=True, **more)


def reports(new: Case, baseline: Case, **digests: tuple[str, str]) -> tuple[Report, Report]:
    """Two reports, and whose files' digests each has, by the tensors' names."""
    found = []
    for which, each in enumerate((new, replace(baseline, v=baseline.v + 0.1, first=1000))):
        made = document(each)
        if digests:
            files = {name: {"path": name, "sha256": both[which]} for name, both in digests.items()}
            made["run"]["inputs"] = [{"path": "x", "sha256": str(which), **files}]
        found.append(Report(made))
    return found[0], found[1]


def weights(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 9, (ROWS, 3)) / 4


SAME = {"targets": ("t", "t")}


def place(digests: dict[str, tuple[str, str]], tensor: str) -> str:
    """What is said of the targets, by whether they are known to be the same, and the remedy."""
    if digests:
        return f"over the same targets: score both with the same {tensor}$"
    return (
        "over targets that look the same, as there are as many rows, elements and positives: score both with "
        f"the same {tensor}; if the data are others, make both reports of files by lossd report, "
    )


@pytest.mark.parametrize("digests", [{}, SAME])
def test_other_weights(digests: dict[str, tuple[str, str]]) -> None:
    new, baseline = reports(case(w=weights(1)), case(w=weights(2)), **digests)
    its, other = new.weight_sum, baseline.weight_sum
    with pytest.raises(
        NotComparable,
        match=f"weights of the new report add up to {its}, .* baseline to {other}, "
        + place(digests, "tensor weight"),
    ):
        compare(new, baseline)
    alike = reports(case(w=weights(1)), case(w=weights(1)), **digests)
    assert compare(*alike).pairing == "none"


def test_other_weights_of_the_same_sum_by_class_and_by_group() -> None:
    w = weights(1)
    by_class = w[:, [1, 0, 2]]
    with pytest.raises(NotComparable, match=r"weights of the new report are not the baseline's, .* by class"):
        compare(*reports(case(w=w), case(w=by_class)))
    groups = {"night": [row % 5 for row in range(ROWS)]}
    w[:2], moved = [[1, 2, 3], [2, 3, 4]], w.copy()
    moved[:2] = w[[1, 0]]
    with pytest.raises(NotComparable, match=r"weights of the new report are not the baseline's, .* by group"):
        compare(*reports(case(w=w, groups=groups), case(w=moved, groups=groups)), clusters="night")


def test_other_weights_by_squares() -> None:
    w = np.ones((ROWS, 3))
    moved = w.copy()
    moved[:2] = [[0.5] * 3, [1.5] * 3]
    both = (case(w=each, params={"normalizer": "weight"}) for each in (w, moved))
    with pytest.raises(NotComparable, match="weights of the new report are not the baseline's"):
        compare(*reports(*both))


def test_weights_by_their_files() -> None:
    w = weights(1)
    with pytest.raises(NotComparable, match="the weights of the new report are of other files"):
        compare(*reports(case(w=w), case(w=w), **SAME, weight=("a", "b")))
    assert compare(*reports(case(w=w), case(w=w), **SAME, weight=("a", "a"))).pairing == "none"


MAY_BE = "Both have weights: the difference of the losses may be partly that of the weights."


def test_weights_over_other_data_are_a_note() -> None:
    assert MAY_BE in compare(*reports(case(w=weights(1)), case(w=weights(2)), targets=("a", "b"))).notes
    fewer = case(w=weights(2)).cut(range(20))
    assert MAY_BE in compare(*reports(case(w=weights(1)), fewer)).notes
    assert MAY_BE not in compare(*reports(case(), fewer_of_none())).notes


def fewer_of_none() -> Case:
    return case().cut(range(20))


def masked(count: int) -> Case:
    """The case without so many negatives, whose loss is the greatest."""
    plain = case()
    kept = np.ones((ROWS, 3), bool)
    worst = np.argsort(np.where(plain.y.ravel() == 0, -plain.v.ravel(), np.inf))[:count]
    kept.ravel()[worst] = False
    return replace(plain, kept=kept)


@pytest.mark.parametrize("digests", [{}, SAME])
def test_a_mask_in_one_alone(digests: dict[str, tuple[str, str]]) -> None:
    with pytest.raises(
        NotComparable,
        match="new report leaves out 12 elements, the baseline none, " + place(digests, "mask"),
    ):
        compare(*reports(masked(12), case(), **digests))
    with pytest.raises(
        NotComparable,
        match="the new report leaves out no elements, the baseline 12, " + place(digests, "mask"),
    ):
        compare(*reports(case(), masked(12), **digests))


def test_as_many_dropped_elements_that_are_others() -> None:
    plain = masked(3)
    assert plain.kept is not None
    other = replace(plain, kept=np.roll(plain.kept, 7, axis=0))
    with pytest.raises(NotComparable, match="both leave out 3 elements, and not the same ones"):
        compare(*reports(plain, other, **SAME))
    with pytest.raises(NotComparable, match="both leave out 3 elements, and not the same ones"):
        compare(*reports(plain, plain, **SAME, mask=("a", "b")))


def test_other_elements_where_targets_are_not_known_are_a_note() -> None:
    plain = case()
    kept = np.ones((ROWS, 3), bool)
    kept[:9] = False  # positives too
    said = " ".join(compare(*reports(replace(plain, kept=kept), plain)).notes)
    assert "The new report leaves out 27 elements, the baseline none: if the data are the same, score" in said


def test_a_pos_weight_by_row_cannot_be_told() -> None:
    rng = np.random.default_rng(1)
    x, y, k = rng.normal(size=(40, 3)), rng.random((40, 3)) < 0.3, rng.random((2, 40, 1)) + 1
    with LossClient(transport=FakeTransport) as client:
        new, baseline = (client.report("bce", x, y, pos_weight=each) for each in k)
        with pytest.raises(
            NotComparable, match=r"pos_weight has numbers for each row.* score both in one request"
        ):
            compare(new, baseline)
        assert compare(client.report("bce", x, y, pos_weight=k[0], baseline=x * 2)).pairing == "rows"
        for shape in ((3,), (1, 3)):
            by_class = [
                client.report("bce", x, y, pos_weight=np.array([1.0, 2.0, each]).reshape(shape))
                for each in (3, 4)
            ]
            with pytest.raises(NotComparable, match="the parameter pos_weight is"):
                compare(*by_class)
            with pytest.raises(ValueError, match="pos_weight"):
                Report.merge(by_class)
