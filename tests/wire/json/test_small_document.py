"""The fast path for small documents finds the same as the reader for any document."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from lossd.types import RequestError
from lossd.wire.json.document import JsonReader, arena_bytes, read_in_place
from lossd.wire.json.small_document import read_small

RNG = np.random.default_rng(8)
ROWS = RNG.normal(0, 3, (4, 80)).tolist()


def in_parts(text: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read with the reader for documents of any length."""
    reader = JsonReader(options={}, names=())
    assert b"".join(map(bytes, reader.feed(text))) == text
    body = reader.finish(memoryview(text))
    return {name: array.tolist() for name, array in body.arrays.items()}, body.params


@pytest.mark.parametrize(
    "document",
    [
        {"logits": ROWS, "targets": ROWS},
        {"targets": [0, 1, 1], "logits": [0.1, -2, 3e-310]},
        {"logits": [1], "targets": [0], "gamma": 2, "alpha": 0.25, "allow_nan": False, "axis": None},
        {"reduction": "sum", "logits": [[i / 7 for i in range(200)]], "targets": [[1e15] * 200]},
        {
            "probabilities": [0.1] * 9,
            "targets": [1] * 9,
            "weight": [2.5] * 9,
            "pos_weight": [18446744073709551615],
        },
        {},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_what_is_usual(document: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(document, indent=indent).encode()
    found = read_small(memoryview(text))
    assert found is not None
    arrays, params = found
    assert ({name: array.tolist() for name, array in arrays.items()}, params) == in_parts(text)
    assert list(arrays) + list(params) == [*arrays, *params]
    assert all(type(one) is type(document[name]) for name, one in params.items())


@pytest.mark.parametrize(
    "text",
    [
        b'{"logits": [1, 2], "logits": [1, 2]}',
        b'{"gamma": 1, "gamma": 1}',
        b'{"logits": [true, 1], "targets": [0, 1]}',
        b'{"logits": [], "targets": []}',
        b'{"logits": [[], []]}',
        b'{"logits": [[[1], [2]], [[3], [4]]]}',
        b'{"logits": [1, [2]]}',
        b'{"logits": [[1], 2]}',
        b'{"mask": [1, 0]}',
        b'{"logits": 1}',
        b'{"alpha": [1, 2]}',
        b'{"alpha": {"a": 1}}',
        b'{"reduction": "\\u00e4"}',
        b'{"a": "["}',
        b'{"logits": [1], "x\\u0000y": 1}',
        b'{"a\\u0000b": 1, "a": 2}',
        b'{"logits": [1, null]}',
        b'{"logits": [1, "2"]}',
        b'{"logits": [1e999]}',
        b'{"logits": [123456789012345678901]}',
        b'{"logits": [NaN]}',
        b'{"logits": [1]} x',
        b'{"logits": [1]',
        b"[1]",
        b"1",
        b"",
        b'{"\xff": 1}',
        json.dumps({f"a{i}": i for i in range(17)}).encode(),
    ],
)
def test_what_is_not(text: bytes) -> None:
    assert read_small(memoryview(text)) is None


LONG = [[0.5] * 300] * 3


@pytest.mark.parametrize(
    "rows",
    [
        [LONG[0], LONG[1][:-1], LONG[2]],
        [LONG[0], LONG[1] + [1.0], LONG[2][:-1]],
        [LONG[0], [[0.5], *LONG[1][1:]], LONG[2]],
        [[[0.5], *LONG[0][1:]], LONG[1], LONG[2]],
        [[[0.5, 0.5], *LONG[0][2:]], LONG[1], LONG[2]],
        [LONG[0], LONG[1], 0.5],
        [0.5, LONG[1], LONG[2]],
        [LONG[0], [*LONG[1][:-1], []], LONG[2]],
    ],
)
def test_rows_that_are_no_rows_are_still_said_to_be(rows: list[Any]) -> None:
    text = json.dumps({"logits": LONG, "targets": rows}).encode()
    assert read_small(memoryview(text)) is None
    region = memoryview(bytearray(arena_bytes(len(text))))
    region[: len(text)] = text
    with pytest.raises(RequestError, match="bad_shape"):
        read_in_place(region, len(text))


def test_documents_at_random() -> None:
    dice = random.Random(3)
    usual = 0
    for _ in range(400):
        rows, width = dice.randint(1, 4), dice.choice([1, 40, 300])
        tensors: dict[str, Any] = {
            name: [
                [dice.choice([dice.random(), 1, 0, -1e-300, 1e22]) for _ in range(width)] for _ in range(rows)
            ]
            for name in ("logits", "targets", "weight")[: dice.randint(1, 3)]
        }
        if dice.random() < 0.3:
            tensors = {name: array[0] for name, array in tensors.items()}
        text = json.dumps({**tensors, "gamma": dice.random()}, indent=dice.choice([None, 0, 2])).encode()
        found = read_small(memoryview(text))
        if found is not None:
            usual += 1
            arrays, params = found
            assert ({name: array.tolist() for name, array in arrays.items()}, params) == in_parts(text)
    assert usual > 150
