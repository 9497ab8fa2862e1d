"""Results of batches are merged as the contract says: sums and divisors added, one division."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd_client import InvalidRequest, LossResult
from lossd_client.tally import ExactSum


def result(total: float = 2.0, count: int = 4, loss: Any = None, **more: Any) -> LossResult:  # noqa: ANN401 - fields
    fields: dict[str, Any] = {
        "sum": total,
        "count": count,
        "weight_sum": float(count),
        "positives": 1.0,
        "reduction": "mean",
        "shape": (count,),
        "loss_name": "bce",
        **more,
    }
    return LossResult(loss=total / count if loss is None else loss, **fields)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS, max_size=50))
def test_the_running_sum_is_fsum(numbers: list[float]) -> None:
    try:
        expected = math.fsum(numbers)
    except OverflowError:  # of a partial sum
        return
    running = ExactSum()
    for number in numbers:
        running.add(number)
    assert running.value() == expected


def test_the_mean_is_one_division_of_exact_sums() -> None:
    parts = [result(1e16, 1), result(1.0, 2), result(-1e16, 1), result(1.0, 3)]
    merged = LossResult.merge(iter(parts))
    assert (merged.sum, merged.count, merged.loss, merged.shape) == (2.0, 7, 2.0 / 7, (7,))


@pytest.mark.parametrize(
    ("normalizer", "expected"), [("count", 6 / 12), ("weight", 6 / 24.0), ("positives", 6 / 3), (8.0, 6 / 8)]
)
def test_every_normalizer(normalizer: object, expected: float) -> None:
    parts = [result(weight_sum=8.0, options={"normalizer": normalizer}) for _ in range(3)]
    assert LossResult.merge(parts).loss == expected


def test_positives_are_at_least_one() -> None:
    parts = [result(positives=0.25, options={"normalizer": "positives"}) for _ in range(2)]
    assert LossResult.merge(parts).loss == 4.0


def test_merged_results_merge_on() -> None:
    parts = [result(0.1, 1), result(0.2, 3), result(0.3, 5)]
    running = parts[0]
    for part in parts[1:]:
        running = LossResult.merge([running, part])
    assert running.count == 9
    assert float(running) == pytest.approx(float(LossResult.merge(parts)), rel=1e-15)


def test_figures_of_the_server_stay_where_they_agree() -> None:
    one = result(request_id="a", kernel="eager", device="cpu", version="1", timing={"compute": 1.0})
    two = result(request_id="b", kernel="eager", device="cuda:0", version="1", timing={"compute": 2.5})
    merged = LossResult.merge([one, two])
    assert (merged.request_id, merged.kernel, merged.device, merged.version) == (None, "eager", None, "1")
    assert merged.timing == {"compute": 3.5}
    assert pickle.loads(pickle.dumps(merged)).to_dict() == merged.to_dict()


@pytest.mark.parametrize(
    "other",
    [
        {"loss_name": "focal"},
        {"reduction": "sum"},
        {"params": {"gamma": 2.0}},
        {"options": {"normalizer": "weight"}},
        {"loss": np.ones(2)},
    ],
)
def test_unlike_results_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be merged"):
        LossResult.merge([result(), result(**other)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"axis": 0}, {"axis": [0]}),
        ({"axis": (-2,)}, {"axis": 0}),
        ({"axis": [0, -1]}, {"axis": (1, 0)}),
        ({"axis": None}, {"axis": [0, 1]}),
        ({}, {"axis": None, "normalizer": "count", "allow_nan": False, "pos_weight": None}),
        ({"class_axis": -1}, {"class_axis": 1}),
        ({"ignore_index": 255}, {"ignore_index": 255.0}),
        ({"ignore_index": math.nan}, {"ignore_index": "nan"}),
        ({"pos_weight": [2]}, {"pos_weight": 2.0}),
        ({"pos_weight": np.array([1.0, 2.0])}, {"pos_weight": (1, 2)}),
    ],
)
def test_the_same_in_another_form_is_merged(one: dict[str, Any], other: dict[str, Any]) -> None:
    parts = [result(reduction="sum", shape=(4, 2), options=each) for each in (one, other)]
    assert LossResult.merge(parts).sum == 4.0
    own = [result(params={"alpha": each, "gamma": 2}) for each in ([0.25, 0.5], (0.25, 0.5))]
    assert LossResult.merge(own).count == 8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"background_index": 80}, {}),
        ({"ignore_index": "nan"}, {}),
        ({"axis": 0}, {"axis": 1}),
        ({"pos_weight": [1.0, 2.0]}, {"pos_weight": [2.0, 1.0]}),
        ({"pos_weight": {"sha256": "a"}}, {"pos_weight": {"sha256": "b"}}),
    ],
)
def test_another_option_is_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    parts = [result(reduction="sum", shape=(4, 2), options=each) for each in (one, other)]
    name = next(iter(one))
    with pytest.raises(
        ValueError, match=rf"results of different options cannot be merged: {{'{name}': .*'{name}': "
    ):
        LossResult.merge(parts)


def test_inputs_of_other_dimensions_are_named() -> None:
    parts = [result(shape=shape, options={"axis": -1}, reduction="none") for shape in ((4, 2, 3), (4, 3))]
    with pytest.raises(ValueError, match="results of inputs of 3 and of 2 dimensions cannot be merged"):
        LossResult.merge(parts)


def test_results_of_other_widths_are_merged_one_after_the_other() -> None:
    parts = [result(shape=(4, width), reduction="sum") for width in (3, 4, 5)]
    running = LossResult.merge(parts[:2])
    assert running.shape == ()
    assert LossResult.merge([running, parts[2]]).sum == LossResult.merge([parts[2], running]).sum == 6.0


def test_losses_of_other_widths_are_not_joined() -> None:
    parts = [result(loss=np.ones((2, width)), shape=(2, width), reduction="none") for width in (4, 2)]
    with pytest.raises(
        ValueError, match=r"losses of shapes \(2, 4\) and \(2, 2\) cannot be joined row after"
    ):
        LossResult.merge(parts)


def test_notes_are_united_in_order() -> None:
    parts = [result(notes=("b", "a")), result(), result(notes=("a", "c"))]
    merged = LossResult.merge(parts)
    assert merged.notes == ("b", "a", "c")
    assert LossResult.merge([merged, result(notes=("c",))]).notes == ("b", "a", "c")


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no results"):
        LossResult.merge([])
    empty = result(0.0, 0, loss=0.0)
    with pytest.raises(InvalidRequest) as caught:
        LossResult.merge([empty, empty])
    assert caught.value.code == "empty_mean"


def test_means_over_rows_that_leave_columns_standing_are_refused() -> None:
    part = result(loss=np.ones(3), shape=(4, 3), options={"axis": 0})
    with pytest.raises(ValueError, match="for want of each one's divisor; score_stream gives them"):
        LossResult.merge([part, part])


def test_rows_are_joined_and_columns_added() -> None:
    rows = [result(loss=np.full((n, 3), float(n)), reduction="none", shape=(n, 3)) for n in (2, 0, 1)]
    np.testing.assert_array_equal(LossResult.merge(rows).loss, [[2.0] * 3, [2.0] * 3, [1.0] * 3])
    for axis in (0, -2, [0]):
        columns = [
            result(loss=np.array([big, 1.0]), reduction="sum", shape=(4, 2), options={"axis": axis})
            for big in (1e16, 1.0, -1e16, 1.0)
        ]
        np.testing.assert_array_equal(LossResult.merge(columns).loss, [2.0, 4.0])


def test_what_is_not_finite_stays_so() -> None:
    assert LossResult.merge([result(math.inf), result()]).loss == math.inf
    assert math.isnan(float(LossResult.merge([result(math.inf), result(-math.inf)])))
    assert math.isnan(float(LossResult.merge([result(math.nan), result()])))
    columns = [
        result(loss=np.array([big, 1.0]), reduction="sum", shape=(4, 2), options={"axis": 0})
        for big in (math.inf, 1.0)
    ]
    np.testing.assert_array_equal(LossResult.merge(columns).loss, [math.inf, 2.0])
