from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import cast
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.types import RequestError
from lossd.wire import merge_params, parse_query
from lossd.wire.query import MAX_QUERY_BYTES, MAX_QUERY_NAMES
from wire.feeding import check_error


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (b"", {}),
        (b"&&", {}),
        (b"alpha=null", {"alpha": None}),
        (b"axis=0,1", {"axis": [0, 1]}),
        (b"axis=-1", {"axis": -1}),
        (b"allow_nan=true&gamma=2.5", {"allow_nan": True, "gamma": 2.5}),
        (b"reduction=none", {"reduction": "none"}),
        (b'reduction="none"', {"reduction": "none"}),
        (b"tensors=logits,targets", {"tensors": ["logits", "targets"]}),
        (b"alpha=0.25,null,true,x", {"alpha": [0.25, None, True, "x"]}),
        (b"alpha=[0.25,0.5]", {"alpha": [0.25, 0.5]}),
        (b"alpha=%5B0.25%2C+0.5%5D", {"alpha": [0.25, 0.5]}),
        (b"axis=0%2C1", {"axis": [0, 1]}),
        (b"axis=0,+1", {"axis": [0, 1]}),
        (b"gamma=1e+2", {"gamma": 100.0}),
        (b"gamma=1e%2B2", {"gamma": 100.0}),
        (b"n%C3%A4me=w%C3%B6rd", {"näme": "wörd"}),
        (b"a=b=c", {"a": "b=c"}),
        (b'a={"b":[1]}', {"a": {"b": [1]}}),
        (b"gamma=007", {"gamma": "007"}),
        (b"report=classes,top&top=20", {"report": ["classes", "top"], "top": 20}),
        (b"sweep=gamma:0,1,1.5", {"sweep": ["gamma:0", 1, 1.5]}),
        (b"sweep=gamma:2", {"sweep": "gamma:2"}),
    ],
)
def test_values(query: bytes, params: dict[str, object]) -> None:
    found = parse_query(query)
    assert found == params
    assert [type(value) for value in found.values()] == [type(value) for value in params.values()]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (b"gamma=1&gamma=1", "/gamma"),
        (b"gamma=1&g%61mma=2", "/gamma"),
        (b"gamma=NaN", "/gamma"),
        (b"gamma=-Infinity", "/gamma"),
        (b"gamma=1e999", "/gamma"),
        (b"gamma=" + b"9" * 400, "/gamma"),
        (b"gamma=" + b"9" * 5000, "/gamma"),
        (b"alpha=0.5,NaN", "/alpha"),
        (b"alpha=" + b"0.5," * 400 + b"NaN", "/alpha"),
        (b"alpha=" + b"a," * 15_000, "/alpha"),
        (b"alpha=0.5,1e999", "/alpha"),
        (b"alpha=[0.5,NaN]", "/alpha"),
        (b"alpha=[0.5", "/alpha"),
        (b"alpha=0.5,", "/alpha"),
        (b"alpha=,", "/alpha"),
        (b"alpha=", "/alpha"),
        (b"alpha", "/alpha"),
        (b'alpha="x', "/alpha"),
        (b'alpha={"a":1,"a":2}', "/alpha"),
        (b'alpha="%5Cud800"', "/alpha"),
        (b"alpha=" + b"[" * 30_000, "/alpha"),
        (b"a/b=", "/a~1b"),
        (b"alpha=%ff", None),
        (b"%ff=1", None),
        (b"x=" + b"1" * MAX_QUERY_BYTES, None),
        (b"&".join(b"p%d=1" % i for i in range(MAX_QUERY_NAMES + 1)), None),
    ],
)
def test_bad_values(query: bytes, place: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        parse_query(query)
    assert caught.value.code == "invalid_parameter"
    assert [where for where, _ in caught.value.errors] == ([place] if place else [])
    check_error(caught.value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), PLAIN, max_size=4))
def test_whatever_is_written_as_json_comes_back(params: dict[str, object]) -> None:
    fields = {name: json.dumps(value) for name, value in params.items()}
    spaces = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields.items())
    for query in (urlencode(fields), spaces):
        assert repr(parse_query(query.encode())) == repr(params)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(query: bytes) -> None:
    try:
        json.dumps(parse_query(query), allow_nan=False).encode()
    except RequestError as error:
        check_error(error)


def test_merging() -> None:
    assert merge_params({"a": 1}, {"b": None}) == {"a": 1, "b": None}
    with pytest.raises(RequestError) as caught:
        merge_params({"a": 1, "b": 2, "c": 3}, {"c": 3, "b": 2})
    assert caught.value.code == "invalid_parameter"
    assert [where for where, _ in caught.value.errors] == ["/b", "/c"]
    check_error(caught.value)


def test_the_word_for_a_missing_target_is_told() -> None:
    assert parse_query(b"ignore_index=nan") == {"ignore_index": "nan"}
    with pytest.raises(RequestError, match="NaN is not a JSON number, but nan is a word"):
        parse_query(b"ignore_index=NaN")


@pytest.mark.parametrize("item", [b"1", b"0.25", b"a", b"NaN", b"1e999"])
def test_a_long_list_takes_little_time(item: bytes) -> None:
    """It is read in the event loop, where others wait meanwhile."""
    query = b"alpha=" + b",".join([item] * (30_000 // (len(item) + 1)))
    began = time.process_time()
    with suppress(RequestError):
        assert len(cast("list[object]", parse_query(query)["alpha"])) >= 6_000
    assert time.process_time() - began < 0.05
