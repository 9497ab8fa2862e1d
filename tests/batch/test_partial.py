"""Partials: their bytes, what they refuse, and what is left of nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest

from lossd.batch import Partial, RowsMissing, Scorer, merge

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


def test_a_sum_is_a_sum_and_a_mean_of_nothing_too() -> None:
    total = Scorer("bce", reduction="sum").score(TABLE).result
    assert (total.reduction, total.loss) == ("sum", total.sum)
    nothing = Scorer("bce").score(TABLE.append_column("mask", pa.array([False] * 3)))
    assert (nothing.rows, nothing.result.reduction, nothing.result.loss) == (3, "sum", 0.0)
    both = nothing.merge(Scorer("bce").score(TABLE.append_column("mask", pa.array([True] * 3))))
    assert float(both.result) == float(Scorer("bce").score(TABLE).result)


def test_nothing_is_left_of_no_rows() -> None:
    nothing = merge([], rows=0)
    assert nothing == Partial() == Partial.from_bytes(Partial().to_bytes())
    assert (nothing.rows, nothing.report, nothing.result.sum, nothing.result.count) == (0, None, 0.0, 0)


def test_infinite_and_undefined_losses_merge() -> None:
    scorer = Scorer("bce", sections="all", allow_nan=True)
    table = pa.table({"logits": [np.inf, -np.inf, np.nan, 1.0], "targets": [0, 0, 1, 1]})
    whole = scorer.score(table)
    assert merge([scorer.score(table.slice(i, 1)) for i in range(4)]) == whole
    assert np.isnan(whole.result.sum)
    assert scorer.score(table.slice(0, 2)).result.sum == np.inf
