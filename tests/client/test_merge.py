"""Results of batches are merged as the contract says: sums and divisors added, one division."""

import math
import pickle
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lossd_client import InvalidRequest, LossResult


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


def exactly(numbers: Any) -> tuple[float, ...]:  # noqa: ANN401 - an array or a list
    """The terms of a sum: rounded, what that left rounded, and so on."""
    rest = sum(map(Fraction, np.ravel(numbers).tolist()), Fraction(0))
    terms = [float(rest)]
    while rest := rest - Fraction(terms[-1]):
        terms.append(float(rest))
    return tuple(terms)


def planes(array: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The terms of the sums over rows."""
    terms = [exactly(column) for column in array.T]
    return tuple(
        np.array([each[number] if number < len(each) else 0.0 for each in terms])
        for number in range(max(map(len, terms)))
    )


def scored(
    losses: NDArray[np.float64],
    weights: NDArray[np.float64],
    targets: NDArray[np.float64],
    **params: Any,  # noqa: ANN401 - the options
) -> LossResult:
    """What a server makes of losses: by fractions, everything or a column at a time."""
    summed = {"sum": losses, "weight_sum": weights, "positives": targets}
    fields: dict[str, Any] = {name: exactly(array)[0] for name, array in summed.items()}
    fields |= {f"{name}_terms": exactly(array) for name, array in summed.items()}
    normalizer = params.get("normalizer", "count")
    counts = np.ones_like(losses)
    divided = {"count": counts, "weight": weights, "positives": targets}.get(normalizer, counts)
    least = 1.0 if normalizer == "positives" else 0.0
    if params.get("axis") == 0:
        divisors = planes(divided) if isinstance(normalizer, str) else (np.full(losses.shape[1], normalizer),)
        fields |= {"loss_terms": planes(losses), "divisor_terms": divisors}
        loss: Any = planes(losses)[0] / np.maximum(divisors[0], least)
    else:
        divisor = max(exactly(divided)[0], least) if isinstance(normalizer, str) else normalizer
        loss = fields["sum"] / divisor
    return LossResult(
        loss,
        count=losses.size,
        reduction="mean",
        shape=losses.shape,
        loss_name="bce",
        options=params,
        **fields,
    )


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("normalizer", ["count", "weight", "positives", 7.0])
@given(seed=st.integers(0, 1 << 32))
def test_any_parts_in_any_order_have_the_bits_of_the_whole(
    axis: int | None, normalizer: str | float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(2, 20))
    losses = rng.exponential(size=(rows, 3)) * 10.0 ** rng.integers(-200, 200, (rows, 3))
    weights, targets = rng.random((rows, 3)) + 0.1, rng.random((rows, 3)) / 4
    options: dict[str, Any] = {"axis": axis, "normalizer": normalizer}
    whole = scored(losses, weights, targets, **options)
    order = rng.permutation(rows)
    cuts = np.unique(rng.integers(1, rows, 4))
    parts = [
        scored(losses[numbers], weights[numbers], targets[numbers], **options)
        for numbers in np.split(order, cuts)
    ]
    running = parts[0]
    for part in parts[1:]:
        running = LossResult.merge([running, part])
    for merged in (LossResult.merge(parts), running):
        assert merged.to_dict() == whole.to_dict()


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
    assert running.to_dict() == LossResult.merge(parts).to_dict()


def test_figures_of_the_server_stay_where_they_agree() -> None:
    one = result(request_id="a", kernel="native", device="cpu", version="1", timing={"compute": 1.0})
    two = result(request_id="b", kernel="native", device="cuda:0", version="1", timing={"compute": 2.5})
    merged = LossResult.merge([one, two])
    assert (merged.request_id, merged.kernel, merged.device, merged.version) == (None, "native", None, "1")
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


def test_means_over_rows_that_leave_columns_standing_need_their_terms() -> None:
    part = result(loss=np.ones(3), shape=(4, 3), options={"axis": 0})
    for number in ("count", 7.0):
        old = replace(part, options={"axis": 0, "normalizer": number})
        with pytest.raises(
            ValueError, match="which this server does not give; score_stream gives such means"
        ):
            LossResult.merge([old, old])


def test_divisors_that_some_results_lack_are_not_added_up() -> None:
    ones = np.ones(3)
    one = result(loss=ones, loss_terms=(ones,), divisor_terms=(ones,), reduction="sum", shape=(4, 3),
                 options={"axis": 0})  # fmt: skip
    old = replace(one, loss_terms=None, divisor_terms=None)
    for parts in ([one, one, old], [old, one], [one, old, one]):
        merged = LossResult.merge(parts)
        np.testing.assert_array_equal(merged.loss, ones * len(parts))
        assert merged.divisor_terms is None


def test_a_mean_over_nothing_says_where() -> None:
    zero, ones = np.array([4.0, 0.0]), np.ones(2)
    part = result(loss=ones, loss_terms=(ones,), divisor_terms=(zero,), shape=(4, 2), options={"axis": 0})
    with pytest.raises(InvalidRequest, match=r"the mean of output \[1\] is over nothing"):
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


def test_sums_make_a_mean() -> None:
    parts = [result(2.0, 4, loss=2.0, reduction="sum"), result(0.0, 0, loss=0.0, reduction="sum")]
    mean = LossResult.merge(parts).as_mean()
    assert (mean.loss, mean.reduction, mean.sum, mean.count) == (0.5, "mean", 2.0, 4)
    with pytest.raises(InvalidRequest, match="empty_mean"):
        parts[1].as_mean()
    for more in ({"reduction": "none"}, {"reduction": "sum", "options": {"axis": 1}}):
        rows = result(loss=np.array([1.0, 1.0]), shape=(2, 2), **more)
        with pytest.raises(ValueError, match="losses of rows"):
            rows.as_mean()


def test_long_lists_that_differ_are_told_in_short() -> None:
    numbers = [float(number) for number in range(100_000)]
    others = [*numbers[:70_000], 0.5, *numbers[70_001:]]
    own = [result(params={"class_weight": each, "gamma": 2.0}) for each in (numbers, others)]
    with pytest.raises(ValueError, match="results of different params") as caught:
        LossResult.merge(own)
    assert str(caught.value).endswith(
        "{'class_weight': [… 70000.0, 70001.0, … 100,000 in all]} and "
        "{'class_weight': [… 0.5, 70001.0, … 100,000 in all]}"
    )
