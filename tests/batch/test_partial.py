"""Partials: their bytes, what they refuse, and what is left of nothing."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from lossd.batch import Partial, RequestError, RowsMissing, Scorer, merge

TABLE = pa.table(
    {"logits": [0.5, -1.0, 2.0], "targets": [1, 0, 1], "weight": [1.0, 0.0, 2.0], "site": [1, 2, 1]}
)


def test_bytes_and_pickles_are_read_back() -> None:
    partial = Scorer("bce", sections="all", by="site").score(TABLE)
    assert Partial.from_bytes(partial.to_bytes()) == partial
    assert pickle.loads(pickle.dumps(partial)) == partial
    assert hash(Partial.from_bytes(partial.to_bytes())) == hash(partial)
    assert partial != Scorer("bce").score(TABLE)
    assert partial != 3
    assert "3 rows" in repr(partial)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x93\x01\x02\x03", Scorer("bce").score(TABLE).to_bytes()[:-4]]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not the bytes of a Partial"):
        Partial.from_bytes(data)


def test_no_changed_byte_goes_unseen() -> None:
    data = Scorer("bce", sections="all", by="site").score(TABLE).to_bytes()
    for place in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="not the bytes of a Partial"):
            Partial.from_bytes(damaged)
    for other in (data + b"\0", data[:20], data[32:]):
        with pytest.raises(ValueError, match="not the bytes of a Partial"):
            merge([other])


def test_bytes_may_be_in_any_buffer_and_may_change_later() -> None:
    partial = Scorer("bce", sections="all", by="site").score(TABLE)
    data = bytearray(partial.to_bytes())
    found = [Partial.from_bytes(data), Partial.from_bytes(memoryview(data)), merge([memoryview(data)])]
    data[:] = bytes(len(data))
    assert found == [partial] * 3


@pytest.mark.parametrize("other", [1, None, "text", [b""]])
def test_what_is_no_partial_is_refused(other: object) -> None:
    with pytest.raises(
        TypeError, match=f"from_bytes takes the bytes of a Partial, not {type(other).__name__}"
    ):
        Partial.from_bytes(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"Partials or their bytes, not {type(other).__name__}"):
        merge([other])  # type: ignore[list-item]


def test_rows_that_are_missing_or_too_many_are_told() -> None:
    partials = [Scorer("bce").score(TABLE.slice(i, 1)) for i in range(3)]
    assert merge(partials, rows=3).rows == 3
    with pytest.raises(RowsMissing, match="2 rows were scored, and there are 3"):
        merge(partials[:2], rows=3)
    with pytest.raises(RowsMissing, match="4 rows were scored, and there are 3"):
        merge([*partials, partials[0]], rows=3)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Scorer("focal"), "loss 'bce' and 'focal'"),
        (Scorer("bce", label_smoothing=0.1), "label_smoothing 0.0 and 0.1"),
        (Scorer("bce", reduction="sum"), "reduction 'mean' and 'sum'"),
        (Scorer("bce", sections="top"), "report"),
        (Scorer("bce", columns={"probabilities": "weight", "logits": "logits"}), ""),
    ],
)
def test_figures_of_different_questions_do_not_add_up(other: Scorer, said: str) -> None:
    first = Scorer("bce").score(TABLE)
    table = TABLE
    if not said:  # the same parameters, of other columns
        other, table, said = Scorer("bce"), TABLE.drop_columns("weight"), "column weight"
    with pytest.raises(ValueError, match=said):
        merge([first, other.score(table)])


def test_groups_in_another_order_do_not_add_up() -> None:
    table = TABLE.append_column("day", pa.array([7, 8, 9]))
    orders = [("site", "day"), ("day", "site")]
    first, other = (Scorer("bce", by=by).score(table) for by in orders)
    with pytest.raises(ValueError, match=r"by \('site', 'day'\) and \('day', 'site'\)$"):
        merge([first, other])
    assert merge([first, first], rows=6).rows == 6


def test_columns_in_another_order_add_up() -> None:
    scorers = [Scorer("bce", by="site"), Scorer("bce", by="site", columns={"targets": "targets"})]
    merged = merge(scorer.score(table) for scorer, table in zip(scorers, [TABLE[:1], TABLE[1:]], strict=True))
    whole = scorers[0].score(TABLE)
    assert merged.result.sum_terms == whole.result.sum_terms
    assert merged.report == whole.report


def test_a_default_may_be_given_or_left_out() -> None:
    scorers = [Scorer("focal"), Scorer("focal", gamma=1.5, alpha=0.25), Scorer("focal", gamma=1.5, axis=None)]
    merged = merge(scorer.score(TABLE.slice(i, 1)) for i, scorer in enumerate(scorers))
    assert merged == scorers[0].score(TABLE)


def test_dtypes_may_differ_from_table_to_table() -> None:
    scorer = Scorer("bce", sections="all", by="site")
    other = TABLE.set_column(1, "targets", TABLE["targets"].cast(pa.float32()))
    other = other.set_column(0, "logits", TABLE["logits"].cast(pa.float32()))
    other = other.set_column(3, "site", TABLE["site"].cast(pa.uint8()))
    parts = [scorer.score(TABLE.slice(0, 1)), scorer.score(other.slice(1))]
    assert merge(parts) == scorer.score(TABLE)


def test_groups_of_numbers_and_of_strings_do_not_mix() -> None:
    scorer = Scorer("bce", by="site")
    strings = TABLE.set_column(3, "site", TABLE["site"].cast(pa.string()))
    with pytest.raises(ValueError, match=r"column group\.site"):
        merge([scorer.score(TABLE), scorer.score(strings)])


@pytest.mark.parametrize("site", [np.uint64(2**63 + 5), np.int64(-(2**63)), np.uint64(2**64 - 1)])
def test_large_ids_of_groups_stay_what_they_are(site: np.generic) -> None:
    table = TABLE.set_column(3, "site", pa.array(np.array([site] * 3)))
    scorer = Scorer("bce", by="site")
    merged = merge([scorer.score(table.slice(0, 1)), scorer.score(table.slice(1))])
    assert merged == scorer.score(table)
    assert merged.report is not None
    assert list(merged.report.groups) == [int(site)]


def test_a_sum_is_a_sum_and_a_mean_of_nothing_is_refused() -> None:
    total = Scorer("bce", reduction="sum").score(TABLE).result
    assert (total.reduction, total.loss) == ("sum", total.sum)
    nothing = Scorer("bce").score(TABLE.append_column("mask", pa.array([False] * 3)))
    assert nothing.rows == 3
    with pytest.raises(RequestError, match=r"^empty_mean: the mean is over nothing; use reduction=sum"):
        _ = nothing.result
    assert repr(nothing) == "<Partial of 3 rows: bce, sum 0.0>"
    both = nothing.merge(Scorer("bce").score(TABLE.append_column("mask", pa.array([True] * 3))))
    assert float(both.result) == float(Scorer("bce").score(TABLE).result)


def test_nothing_is_left_of_no_rows() -> None:
    nothing = merge([], rows=0)
    assert nothing == Partial() == Partial.from_bytes(Partial().to_bytes())
    assert (nothing.rows, nothing.report, repr(nothing)) == (0, None, "<Partial of 0 rows>")
    for partial in (nothing, Scorer("bce").nothing, Scorer("bce", normalizer="weight").nothing):
        with pytest.raises(RequestError, match=r"^empty_mean"):
            _ = partial.result
    given: list[dict[str, Any]] = [{"reduction": "sum"}, {"normalizer": "positives"}, {"normalizer": 2.0}]
    for asked in given:
        found = Scorer("bce", **asked).score(TABLE[:0]).result
        assert (float(found), found.sum, found.count) == (0.0, 0.0, 0)
        assert found.reduction == asked.get("reduction", "mean")


def test_no_rows_of_another_question_do_not_add_up() -> None:
    nothing, some = Scorer("bce", reduction="sum").nothing, Scorer("bce").score(TABLE)
    for partials in ([nothing, some], [some, nothing]):
        with pytest.raises(ValueError, match=r"reduction '(sum|mean)' and '(sum|mean)'"):
            merge(partials)


MASKED = {"logits": [[0.5, 1.0], [2.0, -1.0]], "targets": [[1, 0], [0, 1]], "mask": [[True, False]] * 2}
WEIGHTLESS = {**MASKED, "mask": [[True, True]] * 2, "weight": [[1.0, 0.0], [2.0, 0.0]]}


@pytest.mark.parametrize(
    ("columns", "normalizer"), [(MASKED, "count"), (WEIGHTLESS, "weight")], ids=["masked", "weightless"]
)
def test_a_class_without_a_divisor_has_no_mean(
    base_url: str, columns: dict[str, Any], normalizer: str
) -> None:
    asked: dict[str, Any] = {"axis": 0, "normalizer": normalizer}
    answer = httpx.post(f"{base_url}/bce", json={**columns, **asked}).json()
    partial = Scorer("bce", sections="classes", **asked).score(pa.table(columns))
    with pytest.raises(RequestError) as refused:
        _ = partial.result
    assert (refused.value.code, refused.value.detail) == (answer["code"], answer["detail"])
    assert answer["code"] == "empty_mean"
    summed = Scorer("bce", sections="classes", reduction="sum", **asked).score(pa.table(columns))
    total = httpx.post(f"{base_url}/bce", json={**columns, **asked, "reduction": "sum"}).json()
    assert isinstance(summed.result.loss, np.ndarray)
    assert summed.result.loss.tolist() == total["loss"]
    assert partial.report is not None
    assert partial.report == summed.report
    assert "2 rows" in repr(partial)


def test_infinite_and_undefined_losses_merge() -> None:
    scorer = Scorer("bce", sections="all", allow_nan=True)
    table = pa.table({"logits": [np.inf, -np.inf, np.nan, 1.0], "targets": [0, 0, 1, 1]})
    whole = scorer.score(table)
    assert merge([scorer.score(table.slice(i, 1)) for i in range(4)]) == whole
    assert np.isnan(whole.result.sum)
    assert scorer.score(table.slice(0, 2)).result.sum == np.inf
