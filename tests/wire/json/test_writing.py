"""Long values written in pieces: the same JSON as at once, and no piece is long."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd.wire.json import writing
from lossd.wire.json.writing import CHUNK_BYTES, join_pieces, plain, write_long_value, write_value

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
ARRAYS = hnp.arrays(st.sampled_from([np.float64, np.int64]), hnp.array_shapes(min_side=0, max_side=5))
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5),
    max_leaves=20,
)


def words(value: object) -> object:
    """What the standard library is to write: lists for arrays, strings for numbers that are not finite."""
    if isinstance(value, np.ndarray):
        return words(value.tolist())
    if isinstance(value, dict):
        return {name: words(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [words(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def refuse(token: str) -> object:
    raise AssertionError(token)


def read(text: bytes) -> object:
    return json.loads(text, parse_constant=refuse)


@given(VALUES)
def test_pieces_are_the_whole(value: object) -> None:
    text = b"".join(write_long_value(value))
    assert read(text) == read(json.dumps(words(value)).encode()) == words(value)
    assert write_value(value) == text == b"".join(join_pieces(write_long_value(value)))
    assert plain(value) == words(value)


def terms(*shape: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(5).normal(size=shape)


def test_no_piece_is_long() -> None:
    document = {
        "planes": terms(3, 80, 64),
        "wide": terms(2, 5, 50_000),
        "flat": terms(300_000),
        "counts": np.arange(100_000),
        "ids": [f"img/{i:06}.jpg" for i in range(100_000)],
        "rows": [{"index": [i, 3, 5], "loss": 0.1 * i, "logit": 1.5} for i in range(10_000)],
        "places": [[i, i] for i in range(10_000)],
        "sliced": terms(100_000, 2)[:, 1],
        "infinite": np.where(np.arange(20_000) % 3, 1.5, np.inf),
    }
    pieces = list(write_long_value(document))
    assert max(map(len, pieces)) < 25 * writing._MOST_ITEMS
    assert read(b"".join(pieces)) == words(document)
    chunks = list(join_pieces(pieces))
    assert b"".join(chunks) == b"".join(pieces)
    assert min(map(len, chunks[:-1])) >= CHUNK_BYTES
    assert max(map(len, chunks)) < CHUNK_BYTES + 25 * writing._MOST_ITEMS


def test_views_that_are_not_contiguous_are_written_as_they_read() -> None:
    planes = terms(4, 6)
    for array in (planes[:, 1:3], planes.T, planes[::2], planes[:, ::-1], np.array(2.5)):
        assert read(write_value({"a": [array]})) == {"a": [array.tolist()]}
