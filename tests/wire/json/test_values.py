"""Long lists among the parameters: cheap to read and check, or refused before they are read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from lossd.core.catalog import LOSSES
from lossd.core.parameters import check_params
from lossd.types import RequestError
from lossd.wire.json.values import (
    MAX_PARAMETER_ITEMS,
    ForbiddenValueError,
    parse_params,
    parse_value,
)
from lossd.wire.query import parse_text

LONGEST = [0.123456789] * MAX_PARAMETER_ITEMS
TEXT = json.dumps(LONGEST)


def quickest(work: Callable[[], object]) -> float:
    """The shortest of several times of some work, whatever else the machine does."""
    took = []
    for _ in range(9):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def refused(value: object) -> None:
    with pytest.raises(RequestError):
        check_params(LOSSES["focal"], {"axis": value, "variant": value})


@pytest.mark.alone
def test_the_longest_lists_take_less_than_python_takes_to_parse_them() -> None:
    plain = quickest(lambda: json.loads(TEXT))
    assert quickest(lambda: parse_value(TEXT)) < plain
    assert quickest(lambda: parse_params(f'{{"alpha": {TEXT}}}'.encode(), "params")) < plain
    assert quickest(lambda: check_params(LOSSES["focal"], {"alpha": LONGEST})) < plain
    assert quickest(lambda: refused(LONGEST)) < plain / 4


@pytest.mark.parametrize(
    "text",
    [
        TEXT[:-1] + ", 1]",
        json.dumps({f"a{n}": 1 for n in range(2000)}),
        '["' + "," * MAX_PARAMETER_ITEMS + '"]',
    ],
    ids=["items", "names", "commas"],
)
def test_more_is_refused(text: str) -> None:
    with pytest.raises(ForbiddenValueError, match="send arrays as tensors"):
        parse_value(text)
    with pytest.raises(RequestError, match="send arrays as tensors"):
        parse_text(text, "alpha", "/alpha")


LONG = json.dumps(LONGEST[:1000])


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2, "c": %s}',
        '{"a": 1, "\\u0061": 2, "c": %s}',
        '{"a": {"b": 1, "b": 2}, "c": %s}',
        '{"a:": 1, "a:": %s}',
        '[{"a": 1, "a": 2}, %s]',
    ],
)
def test_names_given_twice_are_found_beside_long_lists(text: str) -> None:
    with pytest.raises(ForbiddenValueError, match="given twice"):
        parse_value(text % LONG)


def test_a_long_object_is_as_it_was_sent() -> None:
    value = {"alpha": LONGEST[:1000], "a:b": 1, "c": "{x:", "d": None, "e": {"a": {}}}
    assert parse_value(json.dumps(value)) == value
