"""Partials of any blocks, in any order, of threads and processes, against one request and exact fractions."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from arrow_stream import table as arrow_table
from batch.tables import ARROW, REQUESTS, asked, cut, scorer_of, sections_of, stream_of, table_of
from contract.report_requests import EVERYTHING, in_query
from lossd.batch import Partial, Scorer, merge
from lossd.core.catalog import LOSSES, Loss
from report_reference import Request

FIGURES = ("sum_terms", "weight_sum_terms", "positives_terms")


def assert_same_bits(mine: list[Any], its: Sequence[float]) -> None:
    assert [struct.pack("d", float(each)) for each in mine] == [struct.pack("d", each) for each in its]


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=60) as made:
        yield made


@pytest.mark.parametrize("name", REQUESTS)
def test_blocks_make_the_report_of_one_request(client: httpx.Client, name: str) -> None:
    request, rng = REQUESTS[name], np.random.default_rng(len(name))
    scorer, table, answer = scorer_of(request), table_of(request), asked(client, request)
    expected = {section: its for section, its in answer["report"].items() if section != "run"}
    whole = scorer.score(table)
    assert whole.rows == table.num_rows == answer["shape"][0]
    assert sections_of(whole) == expected
    for _ in range(3):
        partials = [scorer.score(block) for block in cut(table, rng)]
        if request.ids is not None or "top" not in request.sections:
            rng.shuffle(partials)
        merged = merge((partial.to_bytes() for partial in partials), rows=table.num_rows)
        assert merged.to_bytes() == whole.to_bytes()
        half = len(partials) // 2
        assert Partial().merge(*partials[:half]).merge(merge(partials[half:])) == whole
    result = whole.result
    for name_ in FIGURES:
        assert_same_bits(answer[name_], getattr(result, name_))
    assert_same_bits([answer["loss"]], [float(result)])
    assert (result.count, result.params, result.options) == (
        answer["count"],
        answer["params"],
        answer["options"],
    )


def test_numbers_of_rows_count_on_in_the_order_of_the_tables() -> None:
    x = np.zeros(50, np.float32)
    x[31] = 100
    table = pa.table({"logits": x, "targets": np.zeros(50, np.uint8)})
    scorer = Scorer("bce", sections="top", top=1)
    parts = [scorer.score(table.slice(start, 10)) for start in range(0, 50, 10)]
    report = merge(parts).report
    assert report is not None
    assert report.top_rows[0].index == 31


def _elements(table: pa.Table, client: httpx.Client) -> list[Fraction]:
    """Each element's loss: a request's of its own."""
    lists = {name: table[name].to_pylist() for name in ("logits", "targets")}
    answer = client.post("/focal", json={**lists, "reduction": "none", "gamma": 1.25})
    return [Fraction(loss) for row in answer.json()["loss"] for loss in row]


def _wide_table(seed: int, rows: int = 200) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 8, (rows, 6)) * 10.0 ** rng.integers(-3, 2, (rows, 6))).astype(np.float32)
    y = (rng.random((rows, 6)) < 0.3).astype(np.uint8)
    return pa.table(
        {
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 6),
            "targets": pa.FixedSizeListArray.from_arrays(pa.array(y.ravel()), 6),
            "site": pa.array([f"s{i % 7}" for i in range(rows)]),
        }
    )


def test_eight_threads_share_a_scorer_and_every_sum_is_that_of_fractions(client: httpx.Client) -> None:
    tables = [_wide_table(seed) for seed in range(12)]
    elements = [_elements(table, client) for table in tables]
    scorer = Scorer("focal", gamma=1.25, sections="classes", by="site")
    with ThreadPoolExecutor(8) as pool:
        rounds = list(pool.map(scorer.score, tables * 40))
    for i, partial in enumerate(rounds):
        exact = sum(elements[i % 12])
        assert partial.result.sum == float(exact)
        assert sum(map(Fraction, partial.result.sum_terms)) == exact
        assert partial == rounds[i % 12]
    merged = merge(rounds[:12])
    report = merged.report
    assert report is not None
    for k in range(6):
        assert report.classes[k].sum == float(sum(sum(its[k::6]) for its in elements))
    for k in range(7):
        rows = [its[6 * row : 6 * row + 6] for its in elements for row in range(k, 200, 7)]
        assert report.groups[f"s{k}"].sum == float(sum(map(sum, rows)))


def _score(data: tuple[bytes, pa.Table]) -> bytes:
    scorer: Scorer = pickle.loads(data[0])
    return scorer.score(data[1]).to_bytes()


def test_processes_score_with_pickled_scorers() -> None:
    request = EVERYTHING
    table, scorer = table_of(request), scorer_of(request)
    blocks = [table.slice(start, 3) for start in range(0, table.num_rows, 3)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_score, [(pickle.dumps(scorer), block) for block in blocks]))
    assert merge(reversed(found), rows=table.num_rows) == scorer.score(table)


def test_a_task_that_ran_twice_is_not_counted_twice_unseen() -> None:
    table, scorer = table_of(EVERYTHING), scorer_of(EVERYTHING)
    first, rest = scorer.score(table.slice(0, 5)), scorer.score(table.slice(5))
    assert first == scorer.score(table.slice(0, 5))  # whichever attempt is taken
    assert merge([rest, first], rows=table.num_rows) == scorer.score(table)


def _table_for(loss: Loss) -> pa.Table:
    """A table of 60 rows, some of which weigh more or do not count."""
    rng = np.random.default_rng(7)
    tensors: dict[str, Any] = {"weight": rng.random(60), "mask": rng.random(60) < 0.8}
    if loss.row == "box":
        low = rng.random((60, 2))
        for name in ("boxes", "targets"):
            tensors[name] = np.concatenate([low, low + rng.random((60, 2))], axis=1)
    else:
        tensors["logits"] = rng.normal(0, 8, (60, 5)).astype(np.float32)
        tensors["targets"] = rng.integers(0, 2, (60, 5)).astype(np.uint8)
        if loss.row == "classes":
            tensors["targets"] = rng.integers(0, 5, 60)
    return arrow_table(tensors)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("params", [{}, {"reduction": "sum"}, {"normalizer": "weight"}, {"axis": 0}], ids=str)
def test_blocks_of_every_loss_are_those_of_one_request(
    client: httpx.Client, loss: str, params: dict[str, Any]
) -> None:
    table, rng = _table_for(LOSSES[loss]), np.random.default_rng(len(loss))
    scorer = Scorer(loss, **params)
    answer = client.post(
        f"/{loss}", params=in_query(params), content=stream_of(table), headers={"content-type": ARROW}
    ).json()
    whole = scorer.score(table)
    for _ in range(3):
        partials = [scorer.score(block) for block in cut(table, rng)]
        rng.shuffle(partials)
        assert merge(partials, rows=60) == whole
    result = whole.result
    for name in FIGURES:
        assert_same_bits(answer[name], getattr(result, name))
    assert_same_bits(np.ravel(answer["loss"]).tolist(), np.ravel(np.asarray(result.loss)).tolist())
    about = (result.count, result.params, result.options, list(result.shape))
    assert about == tuple(answer[name] for name in ("count", "params", "options", "shape"))


def test_a_weight_for_each_class_is_a_weight_of_rows(client: httpx.Client) -> None:
    table = _table_for(LOSSES["cross_entropy"])
    params: dict[str, Any] = {"class_weight": [1, 2, 0.5, 0.25, 3]}
    without = table.drop_columns("weight")
    for rows in (table, without):
        for normalizer in ("count", "weight"):
            scorer = Scorer("cross_entropy", **params, normalizer=normalizer)
            merged = merge([scorer.score(block) for block in cut(rows, np.random.default_rng(3))])
            answer = client.post(
                "/cross_entropy",
                params=in_query({**params, "normalizer": normalizer}),
                content=stream_of(rows),
                headers={"content-type": ARROW},
            ).json()
            assert (float(merged.result), merged.result.weight_sum) == (answer["loss"], answer["weight_sum"])
            assert merged == scorer.score(rows)


@pytest.mark.parametrize("axis", [0, (0,), (0, -1), -2])
@pytest.mark.parametrize("normalizer", ["count", "weight", "positives", 3.5])
def test_means_by_class_are_those_of_one_request(
    client: httpx.Client, axis: object, normalizer: object
) -> None:
    request = Request(inputs=EVERYTHING.inputs, targets=EVERYTHING.targets, weight=EVERYTHING.weight)
    params: dict[str, Any] = {"axis": axis, "normalizer": normalizer}
    table = table_of(request)
    scorer = Scorer("bce", **params)
    merged = merge([scorer.score(block) for block in cut(table, np.random.default_rng(1))])
    arrays = {"logits": request.inputs, "targets": request.targets, "weight": request.weight}
    body = {name: array.tolist() for name, array in arrays.items() if array is not None}
    answer = client.post("/bce", json={**body, **params}).json()
    loss = merged.result.loss
    assert (loss.tolist() if isinstance(loss, np.ndarray) else loss) == answer["loss"]
    assert merged == scorer.score(table)


def test_lists_among_the_parameters_are_of_classes(client: httpx.Client) -> None:
    table = _wide_table(3)
    params: dict[str, Any] = {"alpha": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "pos_weight": [1, 2, 3, 4, 5, 6]}
    merged = merge([Scorer("focal", **params).score(block) for block in cut(table, np.random.default_rng(2))])
    body = {name: table[name].to_pylist() for name in ("logits", "targets")}
    answer = client.post("/focal", json=body, params=in_query(params)).json()
    assert float(merged.result) == answer["loss"]
    assert merged.result.options == answer["options"]


def test_long_tables_are_scored_some_rows_at_a_time() -> None:
    rng = np.random.default_rng(0)
    x, ids = (
        rng.normal(size=(30_000, 80)).astype(np.float32),
        [f"i{n * 7919 % 30_000:06}" for n in range(30_000)],
    )
    flat = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 80)
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(x.size, np.bool_)), 80)
    table = pa.table({"logits": flat, "targets": zeros, "id": ids})
    scorer = Scorer("bce", sections="histogram", ids="id")
    whole = scorer.score(table)
    assert whole == merge(
        [scorer.score(table.slice(start, 4_321)) for start in range(0, 30_000, 4_321)], 30_000
    )
    report = whole.report
    assert report is not None
    rows = np.logaddexp(0, x.astype(np.float64)).sum(1)
    assert report.top_rows[0].id == ids[int(rows.argmax())]
    assert math.isclose(report.sum, rows.sum(), rel_tol=1e-9)
