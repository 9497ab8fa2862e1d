"""What is judged to be a regression, and what cannot be judged."""

import math
from dataclasses import replace

import numpy as np
import pytest

from client.comparison.reports import apart, light, paired
from client.report.arrays import Case
from client.report.cases import random_case, wide_case
from client.report.documents import document
from lossd_client import Report, compare
from lossd_client.comparison._bound import Bound
from lossd_client.comparison._change import judged
from lossd_client.comparison._estimates import Estimate, Measured

REMEDY = " (infinite losses of elements: COUNTS): score finite logits, whose losses are finite"


def shifted(by: float, noise: float = 0.01, seed: int = 1) -> Case:
    """Two models of mean losses about 1, the new one worse by so much."""
    case = random_case(seed, 200, 2, by_class=False, calibrated=False)
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.5, 1.5, case.v.shape)
    return replace(case, base=base, v=base + by + noise * rng.normal(size=base.shape))


@pytest.mark.parametrize(
    ("by", "bound", "verdict"),
    [
        (0.10, 0.05, "regressed"),
        (0.10, "5%", "regressed"),
        (0.10, "5 %", "regressed"),
        (0.10, "0.05", "regressed"),
        (0.10, 0.10, "undecided"),
        (0.10, "10%", "undecided"),
        (0.10, 0.2, "passed"),
        (0.10, "20%", "passed"),
        (0.10, 0, "regressed"),
        (0.0, 0, "undecided"),
        (0.0, "0%", "undecided"),
        (0.0, "1%", "passed"),
        (-0.10, 0, "passed"),
        (-0.10, -0.05, "passed"),
        (-0.05, "-10%", "regressed"),
    ],
)
def test_the_interval_lies_above_the_bound_below_it_or_holds_it(
    by: float, bound: float | str, verdict: str
) -> None:
    for reports in ((paired(shifted(by)),), apart(shifted(by))):
        found = compare(*reports, max_regression=bound)
        if len(reports) == 1:
            assert (found.verdict, found.whole.verdict) == (verdict, verdict)
        else:  # unpaired, the interval is much wider
            assert found.verdict in (verdict, "undecided")
        assert found.regressed == found.whole.regressed == (found.verdict == "regressed")
        assert found.max_regression == bound
        assert found.is_relative == ("%" in str(bound))


def test_a_model_beside_itself_has_not_regressed() -> None:
    found = compare(paired(shifted(0.0, 0.0)))
    assert (found.whole.difference, found.whole.interval, found.verdict) == (0.0, (0.0, 0.0), "passed")


def test_one_group_decides() -> None:
    case = shifted(0.0)
    camera = ["front", "rear"] * 100
    case = replace(case, groups={"camera": camera, "night": [i // 4 for i in range(200)]})
    case.v[1::2] += 0.05
    case.v[::2] -= 0.05
    found = compare(paired(case), by="camera", max_regression="1%")
    assert {name: change.verdict for name, change in found.groups.items()} == {
        "front": "passed",
        "rear": "regressed",
    }
    assert (found.whole.verdict, found.verdict) == ("passed", "regressed")
    assert found.groups["rear"].confidence == 0.975


@pytest.mark.parametrize("bound", [0.0, "1%"])
@pytest.mark.parametrize(
    ("new", "baseline", "verdict", "reason"),
    [
        (math.nan, 1.0, "regressed", "the new mean is NaN, and the baseline's is not"),
        (math.inf, 1.0, "regressed", "the new mean is infinite, and the baseline's is not"),
        (1.0, math.inf, "undecided", f"the baseline's mean is infinite, and the new one is not{REMEDY}"),
        (1.0, math.nan, "undecided", "the baseline's mean is NaN"),
        (math.inf, math.inf, "undecided", f"both means are infinite{REMEDY}"),
        (math.nan, math.inf, "undecided", "the new mean is NaN, and the baseline's is infinite"),
    ],
)
def test_means_that_are_not_finite(
    bound: float | str, new: float, baseline: float, verdict: str, reason: str
) -> None:
    for is_paired in (True, False):
        case = random_case(2, by_class=False, calibrated=False)
        assert case.base is not None
        case.v[3, 1], case.base[5, 2] = new, baseline
        found = compare(*((paired(case),) if is_paired else apart(case)), max_regression=bound)
        its = int(math.isinf(new))
        counts = (
            f"{its} of the new model's" if is_paired else f"{its} of the new model's and 1 of the baseline's"
        )
        assert (found.verdict, found.whole.reason) == (verdict, reason.replace("COUNTS", counts))
        if not math.isnan(new) and is_paired:
            assert math.isnan(found.whole.stderr)


@pytest.mark.parametrize("worse", [0.0, 0.5, 1e-3])
def test_a_baseline_of_nothing(worse: float) -> None:
    """A part of 0 is 0: any surely greater mean has regressed."""
    case = shifted(worse)
    case = replace(case, base=np.zeros_like(case.v), v=np.full_like(case.v, worse))
    for reports in ((paired(case),), apart(case)):
        found = compare(*reports, max_regression="5%")
        assert found.verdict == ("regressed" if worse else "passed")
        assert found.whole.reason == "the baseline's mean is 0, and 5% of it too"
        assert found.whole.relative == math.inf if worse else math.isnan(found.whole.relative)
        assert all(map(math.isnan, found.whole.relative_interval))


def test_a_baseline_of_nothing_and_a_new_model_that_is_not_sure() -> None:
    case = shifted(0.0)
    v = np.zeros_like(case.v)
    v[0, 0] = 1.0
    found = compare(paired(replace(case, base=np.zeros_like(case.v), v=v)), max_regression="5%")
    assert found.verdict == "undecided"


def test_one_row_and_one_cluster_say_nothing() -> None:
    case = shifted(0.1)
    one = case.cut([0])
    assert compare(paired(one)).whole.reason == "an interval needs two rows in each model, and here are fewer"
    assert compare(*apart(one)).verdict == "undecided"
    case = replace(case, groups={"night": [1] * 200})
    for reports in ((paired(case),), apart(case)):
        found = compare(*reports, clusters="night")
        assert found.verdict == "undecided"
        assert found.whole.reason == "an interval needs two clusters in each model, and here are fewer"
        assert math.isnan(found.whole.interval[0])


def test_a_cluster_without_which_nothing_is_left() -> None:
    case = shifted(0.1)
    w = np.zeros_like(case.v)
    w[:50] = 1.0
    case = replace(
        case,
        w=w,
        v=case.v * w,
        groups={"night": [i // 50 for i in range(200)]},
        params={"normalizer": "weight"},
    )
    assert case.base is not None
    case.base *= w
    found = compare(paired(case), clusters="night")
    assert (found.verdict, found.whole.clusters) == ("undecided", 4)
    assert found.whole.reason.startswith("there is no standard error: without one of the clusters")


def test_nothing_scored_is_no_regression() -> None:
    case = wide_case(3)
    case.kept[:] = False  # type: ignore[index] # there is one
    for reports in ((paired(case),), apart(case)):
        found = compare(*reports)
        assert found.verdict == "undecided"
        assert found.whole.reason.startswith("nothing was scored here")


def test_reports_of_no_rows() -> None:
    case = wide_case(5)
    new, _ = apart(case)
    for reports in ((paired(case.cut([])),), apart(case.cut([])), (new, apart(case.cut([]))[1])):
        found = compare(*reports, by="weather", clusters="camera")
        assert found.verdict == "undecided"
        assert found.whole.reason.startswith("nothing was scored here")


def test_a_number_divides_unlike_groups_alike() -> None:
    case = wide_case(4, base=None, params={"normalizer": 7.0}, kept=None)
    other = replace(case, groups={**case.groups, "weather": ["rain"] * 12 + ["sun"] * 8 + ["é"] * 10})
    found = compare(Report(document(light(case))), Report(document(light(other))), by="weather")
    assert found.groups["é"].reason == ""
    assert found.groups["rain"].reason == (
        "the sums are divided by 7.0 whatever the rows, of which here are 10 in the new report and 12 in the "
        "baseline"
    )


@pytest.mark.parametrize("given", ["", "%", "five", "nan", "inf%", math.nan, math.inf, True, "5%%", "5 m"])
def test_bounds_that_are_none(given: float | str) -> None:
    with pytest.raises(ValueError, match=r"must be a number in units of the loss, such as 0\.002"):
        Bound.of(given)


@pytest.mark.parametrize("confidence", [0, 1, 95, -1, math.nan])
def test_confidences_are_shares(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, such as 0\.95, and is"):
        compare(paired(shifted(0.0)), confidence=confidence)


def test_a_confidence_next_to_one_has_an_interval() -> None:
    change = compare(paired(shifted(0.0)), confidence=1 - 2**-53).whole
    assert change.interval[0] < -3 * change.stderr
    assert change.verdict == "undecided"


def test_judged_at_the_bound_itself() -> None:
    """An interval that ends at the bound has passed, and one that begins there is undecided."""
    exact = Estimate(0.25, 0.0, 40)
    at = Measured(1.25, 1.0, exact, exact, 41, None)
    assert judged(at, Bound.of(0.25), 0.95).verdict == "passed"
    assert judged(at, Bound.of("25%"), 0.95).verdict == "passed"
    low = 0.25 - (at.difference._replace(stderr=0.1).interval(0.95)[0])
    begins = Estimate(0.25 + low, 0.1, 10)
    change = judged(Measured(1.5, 1.0, begins, begins, 11, None), Bound.of(begins.interval(0.95)[0]), 0.95)
    assert change.verdict == "undecided"
