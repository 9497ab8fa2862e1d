"""What a scorer takes and refuses, with the service's own words."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest

from batch.tables import ARROW, stream_of
from lossd.batch import Partial, RequestError, Scorer, merge
from lossd.core.catalog import LOSSES

X = np.array([[0.5, -2.0, 3.0], [1.0, 0.0, -1.0], [8.0, -8.0, 0.25]], np.float32)
Y = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], np.uint8)
SITES = ["b", "a", "b"]


def _fixed(array: np.ndarray[Any, Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def _table(**more: object) -> pa.Table:
    columns: dict[str, Any] = {"logits": _fixed(X), "targets": _fixed(Y), "site": SITES, **more}
    return pa.table(columns)


SCORER = Scorer("focal", gamma=2, sections=("classes",), by="site")
EXPECTED = SCORER.score(_table())

FORMS: dict[str, Callable[[], Any]] = {
    "lists": lambda: _table(logits=pa.array(list(X)), targets=pa.array(list(Y))),
    "large lists": lambda: _table(logits=pa.array(list(X)).cast(pa.large_list(pa.float32()))),
    "tensors": lambda: _table(logits=pa.FixedShapeTensorArray.from_numpy_ndarray(X)),
    "dictionary": lambda: _table(site=pa.array(SITES).dictionary_encode()),
    "string views": lambda: _table(site=pa.array(SITES, pa.string_view())),
    "large strings": lambda: _table(site=pa.array(SITES, pa.large_string())),
    "more columns": lambda: _table(path=["x", "y", "z"], size=[1, 2, 3]),
    "several chunks": lambda: pa.concat_tables([_table().slice(0, 1), _table().slice(1)]),
    "an empty chunk": lambda: pa.concat_tables([_table().slice(0, 0), _table()]),
    "bool targets": lambda: _table(targets=_fixed(Y.astype(np.bool_))),
    "float targets": lambda: _table(targets=_fixed(Y.astype(np.float64))),
    "a record batch": lambda: _table().to_batches()[0],
    "a reader": lambda: _table().to_reader(max_chunksize=2),
    "polars": lambda: pl.DataFrame({"logits": X, "targets": Y, "site": SITES}),
    "polars lists": lambda: pl.DataFrame({"logits": X.tolist(), "targets": Y.tolist(), "site": SITES}),
    "polars categories": lambda: pl.DataFrame(_table()).with_columns(pl.col("site").cast(pl.Categorical)),
    "pandas": lambda: pd.DataFrame({"logits": list(X), "targets": list(Y), "site": SITES}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_may_be_of_any_library(form: str) -> None:
    found = SCORER.score(FORMS[form]())
    assert found == EXPECTED or form == "polars lists"  # whose floats are float64, as the list's are
    assert found.report == EXPECTED.report


def test_bfloat16_is_told_by_the_field() -> None:
    half = (X.view(np.uint32) >> 16).astype(np.uint16)
    field = pa.field("logits", pa.list_(pa.uint16(), 3), metadata={"lossd.dtype": "bfloat16"})
    table = _table()
    table = table.set_column(0, field, _fixed(half))
    exact = (half.astype(np.uint32) << 16).view(np.float32)
    assert SCORER.score(table) == SCORER.score(_table(logits=_fixed(exact)))


DETECTIONS: dict[str, Any] = {"boxes": _fixed(np.ones((3, 4))), "probabilities": _fixed(np.full((3, 3), 0.5))}


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "hinge", "squared"])
def test_columns_that_the_loss_does_not_take_are_left(loss: str) -> None:
    spare = {name: DETECTIONS[name] for name in DETECTIONS if name not in LOSSES[loss].tensors}
    scorer = Scorer(loss)
    assert scorer.score(_table(**spare)) == scorer.score(_table())
    assert scorer.select([*spare, "logits", "targets"]) == ["logits", "targets"]


@pytest.mark.parametrize(("loss", "spare"), [("cross_entropy", "probabilities"), ("bce", "boxes")])
def test_without_its_inputs_the_error_names_those_of_another_loss(loss: str, spare: str) -> None:
    scorer = Scorer(loss)
    table = pa.table({spare: DETECTIONS[spare], "targets": _fixed(Y)})
    with pytest.raises(RequestError, match=f"{loss} takes no {spare}; "):
        scorer.score(table.select(scorer.select(table.schema.names)))


def test_both_inputs_of_a_loss_are_one_too_many() -> None:
    with pytest.raises(RequestError, match="both logits and probabilities are given"):
        Scorer("bce").score(_table(**DETECTIONS))


def test_a_column_that_is_asked_for_is_not_left() -> None:
    with pytest.raises(RequestError, match="bce takes no boxes"):
        Scorer("bce", columns={"boxes": "boxes"}).score(_table(**DETECTIONS).drop_columns(["probabilities"]))


def test_a_column_of_class_weights_is_refused_where_it_would_count() -> None:
    table = _table(class_weight=[1.0, 2.0, 3.0])
    assert Scorer("bce").score(table) == Scorer("bce").score(_table())
    with pytest.raises(RequestError, match="class_weight has a number for each class, not for each row"):
        Scorer("cross_entropy").score(table)


def test_columns_may_have_other_names() -> None:
    table = _table().rename_columns(["pred", "truth", "site"])
    scorer = Scorer(
        "focal", gamma=2.0, sections="classes", by=["site"], columns={"logits": "pred", "targets": "truth"}
    )
    assert scorer.score(table).report == EXPECTED.report
    assert scorer.select([*table.schema.names, "other", "weight"]) == ["pred", "truth", "site", "weight"]


def test_class_ids_stand_in_a_column_of_numbers() -> None:
    scorer = Scorer("bce", targets_format="index", class_axis=1)
    one_hot = np.eye(3, dtype=np.uint8)[[2, 0, 1]]
    found = scorer.score(_table(targets=[2, 0, 1])).result
    assert found.sum == Scorer("bce").score(_table(targets=_fixed(one_hot))).result.sum


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Scorer("focl"), "there is no loss 'focl'; there are bce, focal, .*; did you mean focal?"),
        (lambda: Scorer("focal", gama=2), "focal has no parameter 'gama'; did you mean gamma?"),
        (lambda: Scorer("bce", gamma=2), "bce has no parameter 'gamma'; focal, varifocal and "),
        (lambda: Scorer("focal", gamma=-1), "gamma must be"),
        (lambda: Scorer("bce", sections="clases"), "report must be all, or some of"),
        (lambda: Scorer("bce", top=5), "top goes with a report; add report=all"),
        (lambda: Scorer("bce", sections="classes", top=5), "top is for the section top; add top to report"),
        (lambda: Scorer("bce", background_index=3), "background_index goes with targets_format=index"),
        (lambda: Scorer("dice", per="class"), "neither a stream nor parts of the rows add up to"),
        (lambda: Scorer("tversky", per="all"), "take per=sample"),
        (lambda: Scorer("bce", reduction="none"), "use reduction mean or sum"),
        (lambda: Scorer("bce", columns={"logit": "x"}), "there is no tensor 'logit'; did you mean logits?"),
        (lambda: Scorer("bce", columns={"groups": "x"}), "give their columns as by="),
        (lambda: Scorer("bce", device="gpu"), "device 'gpu' must be cpu, cuda or cuda:N"),
    ],
)  # fmt: skip
def test_arguments_are_checked_before_any_table(make: Callable[[], Scorer], said: str) -> None:
    with pytest.raises(RequestError, match=said.replace("?", r"\?").replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (lambda: _table().drop_columns("site"), "no column 'site', for group.site; its columns "),
        (lambda: _table().append_column("site", pa.array(SITES)), "more than one column 'site'"),
        (lambda: _table().append_column("logits", _fixed(X)), "more than one column 'logits'"),
        (lambda: _table(logits=pa.array([[1.0], [2.0, 3.0], [4.0]])), "logits has lists of 1 and 2 items"),
        (lambda: _table(logits=pa.array([[[1.0]], [[2.0]], [[3.0]]])), "send more dimensions as .npy"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(table: Callable[[], pa.Table], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        SCORER.score(table())


def test_lists_of_another_size_in_a_later_batch_are_refused() -> None:
    kind = pa.list_(pa.float32())
    batches = [
        pa.record_batch({"logits": pa.array([[1.0] * size], kind), "targets": pa.array([[0.0] * size], kind)})
        for size in (3, 2)
    ]
    with pytest.raises(RequestError, match=r"logits has lists of .*one size"):
        Scorer("bce").score(pa.Table.from_batches(batches))


def test_sums_row_by_row_are_refused() -> None:
    with pytest.raises(RequestError, match="leave axis out, or name 0"):
        Scorer("bce", axis=1).score(_table())


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=60) as made:
        yield made


WRONG: dict[str, dict[str, Any]] = {
    "a target out of range": {
        "targets": _fixed(np.where(np.arange(9).reshape(3, 3) == 7, 2, Y).astype(np.uint8))
    },
    "NaN": {"logits": _fixed(np.where(np.arange(9).reshape(3, 3) == 5, np.nan, X).astype(np.float32))},
    "a null": {"targets": pa.array([[1, 0, 0], [0, None, 1], [0, 0, 1]], pa.list_(pa.uint8(), 3))},
    "a weight below 0": {"weight": [1.0, 2.0, -1.0]},
    "a wrong dtype": {"logits": _fixed(X.astype(np.int32))},
    "a wrong width": {"targets": _fixed(np.ones((3, 2), np.uint8))},
    "both inputs": {"probabilities": _fixed(np.ones((3, 3), np.float32))},
    "an unasked baseline": {"baseline": _fixed(X)},
    "text": {"logits": ["1", "2", "3"]},
    "dictionary": {"weight": pa.array([1.0, 1.0, 2.0]).dictionary_encode()},
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_values_are_refused_with_the_words_of_the_service(client: httpx.Client, what: str) -> None:
    table = _table(**WRONG[what]).drop_columns("site")
    answer = client.post("/bce", content=stream_of(table), headers={"content-type": ARROW})
    with pytest.raises(RequestError) as refused:
        Scorer("bce").score(table)
    problem = answer.json()
    assert answer.status_code >= 400
    assert (refused.value.code, refused.value.detail) == (problem["code"], problem["detail"])
    places = [(each["pointer"], each["detail"]) for each in problem.get("errors", [])]
    assert list(refused.value.errors) == places
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.code, again.errors) == (
        str(refused.value),
        refused.value.code,
        refused.value.errors,
    )


def test_a_place_counts_from_the_table_s_first_row() -> None:
    flat = np.zeros(3_000_000, np.float32)
    flat[2_900_001] = np.nan
    table = pa.table({"logits": flat, "targets": np.zeros(len(flat), np.uint8)})
    with pytest.raises(RequestError) as refused:
        Scorer("bce").score(table)
    assert refused.value.errors[0][0] == "/logits/2900001"


def test_a_partition_becomes_one_row_even_an_empty_one() -> None:
    rows = list(SCORER.map_arrow(iter(_table().to_batches(max_chunksize=1))))
    assert [batch.to_pylist() for batch in rows] == [[{"rows": 3, "partial": EXPECTED.to_bytes()}]]
    (nothing,) = SCORER.map_arrow(iter([]))
    assert nothing.schema == rows[0].schema
    assert merge([nothing.to_pylist()[0]["partial"], EXPECTED], rows=3) == EXPECTED


def test_empty_tables_of_any_columns_add_nothing() -> None:
    for table in (_table().slice(0, 0), pa.table({"a": pa.nulls(0)}), pl.DataFrame()):
        nothing = SCORER.score(table)
        assert (nothing.rows, nothing) == (0, SCORER.nothing)
        assert merge([nothing, EXPECTED, nothing, Partial()], rows=3) == EXPECTED


def _batch(**columns: object) -> pa.RecordBatch:
    given: dict[str, Any] = {"logits": pa.array([1.0]), "targets": pa.array([0.0]), **columns}
    return pa.record_batch(given)


def _half(dtype: str | None) -> pa.RecordBatch:
    fields: list[pa.Field[Any]] = [
        pa.field("logits", pa.uint16(), metadata=None if dtype is None else {"lossd.dtype": dtype}),
        pa.field("targets", pa.float64()),
    ]
    return pa.record_batch([pa.array([16256], pa.uint16()), pa.array([0.0])], schema=pa.schema(fields))


MASK = pa.array([False])


@pytest.mark.parametrize(
    ("first", "other", "said"),
    [
        (_batch(), _batch(mask=MASK), "column 'mask' is missing in the first batch and bool in a later one"),
        (_batch(mask=MASK), _batch(), "column 'mask' is bool in the first batch and missing in a later one"),
        (
            _batch(mask=MASK),
            _batch(mask=[1]),
            "column 'mask' is bool in the first batch and int64 in a later",
        ),
        (
            _half("bfloat16"),
            _half(None),
            r"'logits' is uint16 \(bfloat16\) in the first batch and uint16 in a",
        ),
        (_half("bfloat16"), _batch(), r"'logits' is uint16 \(bfloat16\) in the first batch and double in a"),
        (
            _batch(),
            _batch().drop_columns(["targets"]),
            "'targets' is double in the first batch and missing in a",
        ),
        (
            _batch(logits=[[1.0]]),
            _batch(logits=pa.array([[1.0]], pa.list_(pa.float32()))),
            "and fixed_size_list",
        ),
    ],
)
def test_batches_with_other_columns_than_the_first_are_refused(
    first: pa.RecordBatch, other: pa.RecordBatch, said: str
) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        list(Scorer("bce").map_arrow([first, other]))
    assert "one size" not in refused.value.detail


def test_batches_may_differ_in_what_is_not_scored_and_in_order() -> None:
    first, other = _batch(note=["a"]), _batch(mask=MASK).select(["targets", "logits"])
    (found,) = Scorer("bce").map_arrow([first, other])
    assert found == next(Scorer("bce").map_arrow([_batch(), _batch()]))


COLUMNS = {"logits": [1.0], "targets": [0.0]}


@pytest.mark.parametrize(
    "table",
    [COLUMNS, [COLUMNS], pl.LazyFrame(COLUMNS), np.ones(3), None, pl.DataFrame],
    ids=lambda its: type(its).__name__,
)
def test_what_is_no_table_is_refused(table: object) -> None:
    with pytest.raises(TypeError, match=f"takes a pyarrow Table, .*, not {type(table).__name__}; "):
        Scorer("bce").score(table)


def test_two_columns_of_one_name_in_pandas_are_named() -> None:
    frame = pd.DataFrame([[1.0, 0.0, 2.0]], columns=["logits", "targets", "logits"])
    with pytest.raises(RequestError, match="more than one column 'logits'; "):
        Scorer("bce").score(frame)


def test_a_scorer_keeps_its_parameters_when_the_caller_changes_his() -> None:
    alpha, gammas, sections, columns = [0.25, 0.5], [0, 1], ["sweep"], {"logits": "pred"}
    by, pos_weight = ["site"], np.array([1.0, 2.0])
    given: dict[str, Any] = {
        "alpha": alpha, "sweep": {"gamma": gammas}, "pos_weight": pos_weight, "sections": sections,
        "columns": columns, "by": by,
    }  # fmt: skip
    scorer = Scorer("focal", **given)
    table = pa.table({"pred": [[1.0, 2.0]], "targets": [[0, 1]], "site": ["a"]})
    before = scorer.score(table)
    alpha[0], gammas[1], pos_weight[0], columns["logits"] = 0.75, 2, 5.0, "other"
    by.append("day")
    sections.append("top")
    assert scorer.score(table) == before
    assert pickle.loads(pickle.dumps(scorer)).score(table) == before


def test_parameters_may_be_of_numpy() -> None:
    table = pa.table({"logits": [[1.0, 2.0]], "targets": [[0, 1]]})
    mine = Scorer("focal", gamma=np.float32(1.5), alpha=np.array([0.25, 0.5]), axis=(np.int64(0),))
    found = mine.score(table)
    assert found == Scorer("focal", gamma=1.5, alpha=[0.25, 0.5], axis=[0]).score(table)
    assert Partial.from_bytes(found.to_bytes()) == found
