from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from io import BytesIO
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd.types import Float64Array, LossResult, RequestError
from lossd.wire import JsonAnswers, write_figures, write_json, write_npy
from lossd.wire import answer as writing
from lossd.wire.answer import write_json_chunks
from wire.feeding import same_bits

NAMES = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def result_of(loss: float | Float64Array, total: float = 1.0, **params: object) -> LossResult:
    return LossResult(
        loss=loss, reduction="mean", count=2560,
        sum_terms=(total,), weight_sum_terms=(2560.0,), positives_terms=(251.0,),
        shape=(32, 80), loss_name="focal", params=params, kernel="native", device="cpu",
    )  # fmt: skip


def answer(loss: float | Float64Array = 0.5, total: float = 1.0, **params: object) -> dict[str, object]:
    result = result_of(loss, total, **params)
    written = json.loads(write_json(result, request_id="abc", version="1.2"), parse_constant=refuse)
    assert isinstance(written, dict)
    return written


def refuse(token: str) -> object:
    raise AssertionError(token)


def floats(value: object) -> object:
    """Return special numbers as floats."""
    if isinstance(value, list):
        return [floats(item) for item in value]
    return NAMES[value] if isinstance(value, str) else value


def test_the_whole_answer() -> None:
    written = answer(0.7923818, 2028.497, gamma=1.5, alpha=0.25, variant="sigmoid")
    assert written == {
        "loss": 0.7923818, "reduction": "mean", "sum": 2028.497, "count": 2560, "weight_sum": 2560.0,
        "positives": 251.0, "shape": [32, 80], "loss_name": "focal",
        "params": {"gamma": 1.5, "alpha": 0.25, "variant": "sigmoid"},
        "sum_terms": [2028.497], "weight_sum_terms": [2560.0], "positives_terms": [251.0],
        "options": {}, "notes": [],
        "kernel": "native", "device": "cpu",
        "request_id": "abc", "version": "1.2",
    }  # fmt: skip
    assert list(written)[:6] == ["loss", "reduction", "sum", "count", "weight_sum", "positives"]


def test_terms_are_written_in_every_form() -> None:
    result = result_of(0.5, 2028.497)
    result.sum_terms, result.positives_terms = (2028.497, 3.1e-14, -1e-31), (math.inf,)
    written = json.loads(write_json(result, request_id="abc", version="1.2"))
    assert written["sum_terms"] == [2028.497, 3.1e-14, -1e-31]
    assert (written["weight_sum_terms"], written["positives_terms"]) == ([2560.0], ["Infinity"])
    assert dict(write_figures(result)) == {
        b"lossd-sum": b"2028.497",
        b"lossd-count": b"2560",
        b"lossd-weight-sum": b"2560.0",
        b"lossd-positives": b"Infinity",
        b"lossd-sum-terms": b"2028.497,3.1e-14,-1e-31",
        b"lossd-weight-sum-terms": b"2560.0",
        b"lossd-positives-terms": b"Infinity",
    }


@pytest.mark.parametrize("numbers", [1, 2, 5, 1 << 13])
def test_an_array_has_the_terms_of_each_of_its_sums(numbers: int) -> None:
    rng = np.random.default_rng(4)
    result = result_of(rng.normal(size=(2, 3)))
    result.loss_terms = tuple(rng.normal(size=(3, 2, 3)))
    result.divisor_terms = (np.array([[1.0, 2.0, math.inf], [4.0, 5.0, 6.0]]),)
    with mock.patch.object(writing, "_CHUNK_NUMBERS", numbers):
        text = b"".join(write_json_chunks(result, request_id="abc", version="1.2"))
    written = json.loads(text)
    assert list(written)[:4] == ["loss", "loss_terms", "divisor_terms", "reduction"]
    assert written["loss_terms"] == [plane.tolist() for plane in result.loss_terms]
    assert written["divisor_terms"] == [[[1.0, 2.0, "Infinity"], [4.0, 5.0, 6.0]]]


REPORT: dict[str, object] = {
    "schema": "lossd.report/1",
    "totals": {"sum_terms": [1.5, 2.0**-60], "weight_sum_terms": [math.inf]},
    "classes": {"count": np.arange(3), "sum_terms": np.array([[1.0, math.nan, 0.25], [2.0**-60, 0.0, 0.0]])},
    "top": {"ids": "string", "rows": [{"id": 'n\u00e4me "1"', "loss": math.inf}]},
    "run": {"first_row": 7, "top_index": {"rows": [17]}},
}


@pytest.mark.parametrize("loss", [0.5, np.arange(6.0).reshape(2, 3), np.arange(50_000.0)])
def test_a_report_stands_before_the_request_id(loss: float | Float64Array) -> None:
    result = result_of(loss)
    result.report = REPORT
    text = b"".join(write_json_chunks(result, request_id="abc", version="1.2"))
    assert text == write_json(result, request_id="abc", version="1.2")
    written = json.loads(text, parse_constant=refuse)
    assert list(written)[-5:] == ["kernel", "device", "report", "request_id", "version"]
    assert written.pop("report") == {
        "schema": "lossd.report/1",
        "totals": {"sum_terms": [1.5, 2.0**-60], "weight_sum_terms": ["Infinity"]},
        "classes": {"count": [0, 1, 2], "sum_terms": [[1.0, "NaN", 0.25], [2.0**-60, 0.0, 0.0]]},
        "top": {"ids": "string", "rows": [{"id": 'n\u00e4me "1"', "loss": "Infinity"}]},
        "run": {
            "version": "1.2",
            "kernel": "native",
            "device": "cpu",
            "request_id": "abc",
            "first_row": 7,
            "top_index": {"rows": [17]},
        },
    }
    result.report = None
    assert written == json.loads(write_json(result, request_id="abc", version="1.2"))


def test_a_short_report_is_one_chunk_and_a_long_one_many() -> None:
    result = result_of(0.5)
    result.report = REPORT
    assert len(list(write_json_chunks(result, request_id="abc", version="1.2"))) == 1
    result.report = {**REPORT, "calibration": np.random.default_rng(1).normal(size=(3, 80, 64))}
    chunks = list(write_json_chunks(result, request_id="abc", version="1.2"))
    assert len(chunks) > 3
    assert max(map(len, chunks)) < 200_000


@given(st.lists(st.floats(), min_size=4, max_size=4), st.text(alphabet="%s{}a", min_size=1))
def test_answers_that_are_alike_are_those_that_are_written_anew(numbers: list[float], name: str) -> None:
    like = replace(result_of(0.0, gamma=1.5, alpha=[0.25, 0.5]), options={"axis": None, "ignore_index": 3.0})
    answers = JsonAnswers(like.params, like.options, "0.1.0")
    loss, total, weights, positives = numbers
    one = replace(like, loss=loss, sum_terms=(total, 1.0), weight_sum_terms=(weights,))
    one = replace(one, positives_terms=(positives,))
    for result in (one, like):
        assert answers.write(result, name) == write_json(result, request_id=name, version="0.1.0")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_not_finite_are_named(name: str) -> None:
    value = NAMES[name]
    written = answer(value, value, alpha=[value, 1.0], deep={"a": (value,)})
    assert written["loss"] == written["sum"] == name
    assert written["params"] == {"alpha": [name, 1.0], "deep": {"a": [name]}}
    assert answer(np.array([[1.0, value], [value, 2.0]]))["loss"] == [[1.0, name], [name, 2.0]]
    assert answer(np.array(value))["loss"] == name


@given(st.floats())
def test_any_scalar_reads_back_to_its_bits(value: float) -> None:
    for loss in (value, np.array(value)):
        back = np.array(floats(answer(loss)["loss"]))
        np.testing.assert_array_equal(back, value)
        assert math.isnan(value) or back.tobytes() == np.float64(value).tobytes()


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)))
def test_any_array_reads_back_to_its_bits(array: Float64Array) -> None:
    canonical = np.where(np.isnan(array), np.nan, array)
    for arranged in (array, np.asfortranarray(array), array.astype(">f8")):
        back = np.array(floats(answer(arranged)["loss"]), dtype=np.float64)
        if array.size:
            assert same_bits(back, canonical)
        else:
            assert answer(arranged)["loss"] == array.tolist()


def named(value: object) -> object:
    """Return strings for special numbers."""
    if isinstance(value, list):
        return [named(item) for item in value]
    names = {repr(number): name for name, number in NAMES.items()}
    return names.get(repr(value), value)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=8, min_side=0, max_side=5)),
    st.integers(1, 12),
)
def test_chunks_join_to_the_whole_answer(array: Float64Array, numbers: int) -> None:
    assume(
        array.size or math.prod(itertools.takewhile(bool, array.shape)) <= 1 << 14
    )  # more lists are refused
    for arranged in (array, np.asfortranarray(array), array.astype(">f8"), np.flip(array, -1)):
        with mock.patch.object(writing, "_CHUNK_NUMBERS", numbers):
            parts = list(write_json_chunks(result_of(arranged), request_id="abc", version="1.2"))
            whole = write_json(result_of(arranged), request_id="abc", version="1.2")
        assert b"".join(parts) == whole
        loss = orjson.dumps(named(arranged.tolist()))
        rest = write_json(result_of(0.5), request_id="abc", version="1.2").removeprefix(b'{"loss":0.5')
        assert whole == b'{"loss":' + loss + rest
        if array.size > numbers:
            assert len(parts) <= 2 + 2 * array.size // numbers
            assert all(part.count(b",") <= numbers for part in parts[:-1])
        else:
            assert len(parts) == 1


@pytest.mark.parametrize(
    "shape", [(1_000_000,), (20, 50_000), (1_000, 1_000), (50_000, 20), (1_000_000, 1), (3, 1, 5, 60_000)]
)
def test_chunks_of_a_long_answer_are_of_bounded_size(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(0, 1e-300, shape)
    parts = write_json_chunks(result_of(array), request_id="abc", version="1.2")
    lengths = [len(part) for part in parts]
    assert all(1 << 16 <= length <= 1 << 18 for length in lengths[:-2])


def test_chunks_are_written_when_they_are_asked_for() -> None:
    array = np.zeros(1 << 15)
    parts = write_json_chunks(result_of(array), request_id="abc", version="1.2")
    assert b"0.0,0.0" in next(parts)
    array[:] = 1.0
    assert b"1.0,1.0" in next(parts)


def test_errors_are_raised_before_the_first_chunk() -> None:
    with pytest.raises(RequestError):
        write_json_chunks(result_of(np.empty((2**40, 0))), request_id="abc", version="1.2")


def test_empty_lists_are_bounded() -> None:
    with pytest.raises(RequestError) as caught:
        answer(np.empty((2**40, 0)))
    assert caught.value.code == "output_too_large"
    assert answer(np.empty((0, 2**40)))["loss"] == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
def test_npy_is_what_numpy_loads(dtype: str, array: Float64Array) -> None:
    for arranged in (array, array.copy(order="F")):
        length, chunks = write_npy(arranged, dtype)
        data = b"".join(chunks)
        assert length == len(data)
        loaded = np.load(BytesIO(data), allow_pickle=False)
        with np.errstate(over="ignore"):
            assert same_bits(loaded, array.astype(dtype))


def test_npy_of_a_number_has_no_dimensions() -> None:
    loaded = np.load(BytesIO(b"".join(write_npy(0.1, "float32")[1])))
    assert (loaded.shape, loaded.dtype, loaded[()]) == ((), np.float32, np.float32(0.1))
    assert np.load(BytesIO(b"".join(write_npy(1e300, "float32")[1]))) == np.inf
