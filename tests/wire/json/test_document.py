from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd.types import Body, RequestError
from lossd.wire import FORMATS
from lossd.wire.json import arrays as json_arrays
from lossd.wire.json import syntax
from lossd.wire.json.arrays import read_numbers
from lossd.wire.json.document import MAX_NAMES, arena_bytes, read_in_place
from lossd.wire.json.values import MAX_PARAMETER_BYTES
from wire.feeding import AnyArray, array_of, check_error, outcome, read, same_bits, split_at

MEDIA = "application/json"
SMALL = (
    b'{"gamma": 2, "logits": [[0.5, -1e-3], [3, -0.0]], '
    b'"targets": [[true, false], [false, true]], "x": "]\\"["}'
)


def load(document: bytes | str) -> Body:
    return read(MEDIA, [document.encode() if isinstance(document, str) else document])


def refused(document: bytes | str) -> RequestError:
    result = outcome(MEDIA, [document.encode() if isinstance(document, str) else document])
    assert isinstance(result, RequestError), result
    return result


def check_small(chunks: list[bytes]) -> None:
    body = read(MEDIA, chunks)
    assert same_bits(body.arrays["logits"], np.array([[0.5, -1e-3], [3, -0.0]]))
    assert same_bits(body.arrays["targets"], np.array([[True, False], [False, True]]))
    assert body.params == {"gamma": 2, "x": ']"['}
    assert body.tensors == {}


def test_whole_and_byte_by_byte() -> None:
    check_small([SMALL])
    check_small(split_at(SMALL, range(len(SMALL))))
    check_small([b" \r\n\t", SMALL, b" \r\n\t"])
    check_small([b"\xef\xbb", b"\xbf" + SMALL])


@given(st.lists(st.integers(0, len(SMALL)), max_size=8))
def test_cut_anywhere(cuts: list[int]) -> None:
    check_small(split_at(SMALL, cuts))


def test_truncated_anywhere() -> None:
    for length in range(len(SMALL)):
        assert refused(SMALL[:length]).code == "malformed_json"


@pytest.mark.parametrize("extra", [b"x", b"{}", b"]", b"\x00", SMALL])
def test_trailing_content(extra: bytes) -> None:
    assert refused(SMALL + extra).code == "malformed_json"


SHAPES = hnp.array_shapes(min_dims=1, max_dims=8, min_side=1, max_side=3)


@given(
    hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False)), st.booleans()
)
def test_any_array_bit_for_bit(array: AnyArray, spaced: bool) -> None:
    document = {"weight": 1, "logits": array.tolist(), "targets": array.tolist()}
    text = json.dumps(document, indent=1).encode() if spaced else orjson.dumps(document)
    found = load(text)
    assert same_bits(found.arrays["logits"], array)
    assert same_bits(found.arrays["targets"], array)
    assert found.arrays["logits"].flags.c_contiguous


@given(hnp.arrays(np.bool_, SHAPES))
def test_any_booleans(array: AnyArray) -> None:
    assert same_bits(load(json.dumps({"targets": array.tolist()})).arrays["targets"], array)


NESTED = st.recursive(
    st.sampled_from([0, 1.5, -2e-3, 12345678901234567890123]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def shape_of(value: object) -> tuple[int, ...] | None:
    """Find the shape by recursion, None if ragged: a plain witness for the fast reader."""
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(item) for item in value}
    if len(shapes) > 1 or None in shapes:
        return None
    inner = shapes.pop() if shapes else ()
    return None if inner is None else (len(value), *inner)


def resolve(document: object, place: str) -> object:
    for step in place.split("/")[1:]:
        document = document[step] if isinstance(document, dict) else document[int(step)]  # type: ignore[index]  # a list
    return document


@given(NESTED, st.sampled_from([None, 0, 1]))
def test_any_nesting_is_told_right(value: object, indent: int | None) -> None:
    document = {"logits": value}
    result = outcome(MEDIA, [json.dumps(document, indent=indent).encode()])
    shape = shape_of(value)
    if shape is None or len(shape) > 8:
        assert isinstance(result, RequestError)
        assert result.code == "bad_shape"
        resolve(document, result.errors[0][0])
        return
    assert isinstance(result, Body)
    assert same_bits(result.arrays["logits"], np.array(value, dtype=np.float64).reshape(shape))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[[1,2],[3,4],[5,6],[7]]", "/logits/3"),
        ("[[1,2],[3,4],[5,6],[7,8,9],[1]]", "/logits/3"),
        ("[[1,2],[3,4],5]", "/logits/2"),
        ("[1,2,[3]]", "/logits/2"),
        ("[1,[2,3],4]", "/logits/1"),
        ("[[1],[[2]]]", "/logits/1/0"),
        ("[[],[1]]", "/logits/1"),
        ("[[1],[]]", "/logits/1"),
        ("[[],[],[[]]]", "/logits/2"),
        ("[[1],[],[2,3]]", "/logits/1"),
        ("[[[1,2],[3,4]],[[5,6],[7]]]", "/logits/1/1"),
        ("[[[1,2],[3,4]],[[5,6]]]", "/logits/1"),
        ("[[[1]],[[2]],[3]]", "/logits/2/0"),
        ("[[1],2]", "/logits/1"),
        ("[[[1],2],[[1],[2]]]", "/logits/0/1"),
        ("[[12],[]]", "/logits/1"),
        ("[[1.5],[],[]]", "/logits/1"),
        ("[" * 9 + "1" + "]" * 9, "/logits"),
        ("[" * 1000 + "]" * 1000, "/logits"),
        ("[[1]," + "[" * 900 + "]" * 900 + "]", "/logits/1/0"),
    ],
)
def test_ragged_arrays(text: str, place: str) -> None:
    error = refused(f'{{"targets": [1], "logits": {text}, "z": 1}}')
    assert error.code == "bad_shape"
    assert error.errors[0][0] == place


def test_ragged_arrays_say_by_how_much() -> None:
    error = refused('{"logits": [[1,2,3],[4,5,6],[7,8]]}')
    assert "/logits/2 has 2 elements, but the arrays before have 3" in error.detail


@pytest.mark.parametrize(
    ("text", "shape"),
    [("[]", (0,)), ("[[],[]]", (2, 0)), ("[[[]],[[]]]", (2, 1, 0)), ("[[0]]", (1, 1)), ("1", ())],
)
def test_small_shapes(text: str, shape: tuple[int, ...]) -> None:
    array = load(f'{{"logits": {text}}}').arrays["logits"]
    assert array.shape == shape
    assert array.dtype == np.float64


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ('{"logits": [[1,2],[3,"x"]]}', "/logits/1/1"),
        ('{"logits": ["]["]}', "/logits/0"),
        ('{"logits": [1,null]}', "/logits/1"),
        ('{"logits": [1,{}]}', "/logits/1"),
        ('{"logits": [[1],[{"a":[1,"b"]}]]}', "/logits/1/0"),
        ('{"logits": [1,true]}', "/logits/1"),
        ('{"logits": [false]}', "/logits/0"),
        ('{"targets": [[1,true],["null",0]]}', "/targets/1/0"),
        ('{"weight": [[1,0.5],[null,0]]}', "/weight/1/0"),
        ('{"mask": [true, null]}', "/mask/1"),
        ('{"mask": [true, "NaN"]}', "/mask/1"),
        ('{"mask": [0, "Infinity"]}', "/mask/1"),
        ('{"mask": "NaN"}', "/mask"),
        ('{"logits": ["NaN", 1], "targets": [null, {}]}', "/targets/1"),
        ('{"logits": ["NaN", null, 1]}', "/logits/1"),
        ('{"logits": ["Infinity", true]}', "/logits/1"),
        ('{"logits": [1, "nan"]}', "/logits/1"),
        ('{"logits": [[1, "-Infinity"], ["+Infinity", 1]]}', "/logits/1/0"),
        ('{"logits": ["Infinity", "inf"]}', "/logits/1"),
        ('{"logits": ["NaN", "N\\u0061N"]}', "/logits/1"),
        ('{"logits": ["NaN", " NaN"]}', "/logits/1"),
        ('{"logits": ["NaN", "NaN\\n"]}', "/logits/1"),
        ('{"logits": [""]}', "/logits/0"),
        ('{"targets": [[1,true],[0,"a"]], "logits": [1]}', "/targets/1/1"),
        ('{"targets": [[1],[true],[[["x"]]]]}', "/targets/2/0/0/0"),
        ('{"logits": "abc"}', "/logits"),
        ('{"logits": {"a": ["]"]}}', "/logits"),
        ('{"logits": null}', "/logits"),
        ('{"logits": true}', "/logits"),
        ('{"targets": null}', "/targets"),
        ('{"weight": [true]}', "/weight/0"),
        ('{"pos_weight": [null]}', "/pos_weight/0"),
        ('{"logits": [' + "[1]," * 17 + "[0,0,0,null]]}", "/logits/17/3"),
    ],
)
def test_elements_of_the_wrong_type(document: str, place: str) -> None:
    error = refused(document)
    assert error.code == "dtype_not_allowed"
    assert error.errors[0][0] == place


def test_booleans_and_numbers_mixed_are_numbers() -> None:
    array = load('{"targets": [[true, 0.25], [1, false]]}').arrays["targets"]
    assert same_bits(array, np.array([[1, 0.25], [1, 0]]))
    assert same_bits(load('{"targets": true}').arrays["targets"], np.array(True))
    assert same_bits(load('{"targets": []}').arrays["targets"], np.array([]))
    assert refused('{"targets": [[true],[false,true]]}').errors[0][0] == "/targets/1"


def test_pos_weight_in_all_its_forms() -> None:
    assert same_bits(load('{"pos_weight": 2}').arrays["pos_weight"], np.array(2.0))
    assert same_bits(load('{"pos_weight": [1, 2.5]}').arrays["pos_weight"], np.array([1, 2.5]))
    assert load('{"pos_weight": null}').params == {"pos_weight": None}


# Tokens of an array's text, right and wrong ones. A cut may fall between any two.
TOKENS = st.sampled_from(
    [
        *"[[[]]],,,,0127 \n", "true", "false", "-3", "1.5", "e2", "null", "null", "{}", "t", "12",
        '"NaN"', '"NaN"', '"Infinity"', '"-Infinity"', '"nan"', '"',
    ]
)  # fmt: skip
SEAMS = st.sampled_from([1, 2, 3, 5, 8, 1 << 16])


def with_room(text: bytes) -> tuple[bytearray, int]:
    """Return a document with the room for its arrays behind it, and its length."""
    region = bytearray(arena_bytes(len(text)))
    region[: len(text)] = text
    return region, len(text)


@settings(max_examples=400)
@given(
    st.lists(TOKENS, max_size=12).map("".join),
    SEAMS,
    st.sampled_from(["targets", "logits", "mask"]),
    st.sampled_from(["", ', "NaN": 1', ', "x": "NaN"', ' , "NaN" : "Infinity"']),
)
def test_cuts_between_parts_do_not_show(inside: str, seam: int, name: str, rest: str) -> None:
    text = f'{{"{name}": [{inside}]{rest}}}'
    # A document of this size would be checked whole in case of an error; this tests the step before that.
    with (
        mock.patch.object(json_arrays, "_PART_BYTES", seam),
        mock.patch.object(syntax, "_EXPLAINED_BYTES", 0),
    ):
        result = outcome(MEDIA, [text.encode()])
    try:
        value = as_numbers(json.loads(text, parse_float=finite)[name], name)
    except ValueError:
        assert isinstance(result, RequestError)
        return
    holds = {type(element) for element in elements(value)}
    allowed = {int, float} if name == "logits" else {int, float, bool}
    shape = shape_of(value)
    if not holds <= allowed or shape is None or len(shape) > 8:
        assert isinstance(result, RequestError)
        assert result.code in {"dtype_not_allowed", "bad_shape"}
        return
    if name == "mask" and not set(elements(value)) <= {0, 1}:
        assert isinstance(result, RequestError)
        assert result.code == "weight_out_of_range"
        return
    assert isinstance(result, Body), result
    expected = np.array(value, dtype=bool if holds == {bool} else np.float64).reshape(shape)
    assert same_bits(result.arrays[name], expected)


def as_numbers(value: object, name: str) -> object:
    """Return nested lists with floats for special numbers."""
    if isinstance(value, list):
        return [as_numbers(item, name) for item in value]
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity") and name != "mask":
        return float(value)
    return math.nan if value is None and name == "targets" else value


def elements(value: object) -> list[object]:
    """Yield the leaves of nested lists."""
    return [leaf for item in value for leaf in elements(item)] if isinstance(value, list) else [value]


def finite(token: str) -> float:
    value = float(token)
    if math.isinf(value):
        raise ValueError(token)
    return value


@given(
    hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False)),
    hnp.arrays(np.bool_, SHAPES),
    hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 1)),
    st.sampled_from([None, 0, 2]),
    SEAMS,
)
def test_any_document_in_place(
    logits: AnyArray, targets: AnyArray, mask: AnyArray, indent: int | None, seam: int
) -> None:
    arrays = {"logits": logits, "targets": targets, "mask": mask, "weight": np.array(0.5)}
    document = {"gamma": 2, **{name: array.tolist() for name, array in arrays.items()}, "alpha": [0.5]}
    region, length = with_room(json.dumps(document, indent=indent).encode())
    with mock.patch.object(json_arrays, "_PART_BYTES", seam):
        found = read_in_place(memoryview(region), length)
    assert found.params == {"gamma": 2, "alpha": [0.5]}
    assert found.arrays == {}
    end = length
    for name, array in arrays.items():
        tensor = found.tensors[name]
        assert same_bits(array_of(tensor, bytes(region)), array.astype(bool) if name == "mask" else array)
        assert tensor.offset % 8 == 0
        assert tensor.offset >= end
        end = tensor.offset + tensor.nbytes
    assert end <= len(region)


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(-(2**53) + 1, 2**53 - 1)))
def test_class_ids_are_numbers_as_others_are(ids: AnyArray) -> None:
    region, length = with_room(json.dumps({"targets": ids.tolist(), "targets_format": "index"}).encode())
    found = read_in_place(memoryview(region), length)
    assert same_bits(array_of(found.tensors["targets"], bytes(region)), ids.astype(np.float64))


WORDY = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf])


def spelled(value: object, null: bool) -> object:
    """Return nested lists with strings for special numbers."""
    if isinstance(value, list):
        return [spelled(item, null) for item in value]
    assert isinstance(value, float)
    if math.isnan(value):
        return None if null else "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


@given(
    hnp.arrays(np.float64, SHAPES, elements=WORDY),
    hnp.arrays(np.float64, SHAPES, elements=WORDY),
    st.sampled_from([None, 0, 2]),
    SEAMS,
    st.booleans(),
)
def test_special_numbers(
    logits: AnyArray, targets: AnyArray, indent: int | None, seam: int, null: bool
) -> None:
    arrays = {"logits": logits, "targets": targets, "weight": np.array(np.inf)}
    document = {name: spelled(array.tolist(), null and name == "targets") for name, array in arrays.items()}
    region, length = with_room(json.dumps({**document, "note": "NaN"}, indent=indent).encode())
    with mock.patch.object(json_arrays, "_PART_BYTES", seam):
        body, found = load(bytes(region[:length])), read_in_place(memoryview(region), length)
    for name, array in arrays.items():
        np.testing.assert_array_equal(body.arrays[name], array, strict=True)
        np.testing.assert_array_equal(array_of(found.tensors[name], bytes(region)), array, strict=True)
    assert body.params == found.params == {"note": "NaN"}


@pytest.mark.parametrize("space", ["", " ", "\n\t", " " * 9])
def test_special_numbers_at_the_borders_of_parts(space: str) -> None:
    special: list[str | float] = ["NaN", "Infinity", "-Infinity", 0.25]
    for shift in range(0, 40, 3):
        count = (1 << 16) // 4
        array = [*[0] * shift, *(special[i % 4] for i in range(count))]
        text = json.dumps({"logits": array, "targets": [array]}, separators=(f"{space},{space}", ": "))
        expected: AnyArray = np.array([0.0] * shift + [float(special[i % 4]) for i in range(count)])
        found = load(text)
        assert same_bits(found.arrays["logits"], expected)
        assert same_bits(found.arrays["targets"], expected[None])


def test_special_numbers_are_not_names() -> None:
    found = load('{"logits": [1], "NaN": [1, "]"], "Infinity": "NaN", "-Infinity" : null}')
    assert found.params == {"NaN": [1, "]"], "Infinity": "NaN", "-Infinity": None}
    assert same_bits(found.arrays["logits"], np.array([1.0]))
    assert refused('{"logits": ["NaN"], "NaN", [1]}').code == "malformed_json"
    assert refused('{"logits": ["NaN": 1]}').code == "malformed_json"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('{"logits": [1, null]}', 'send "NaN" with allow_nan=true'),
        ('{"logits": [1, null]}', "a mask that is false there"),
        ('{"weight": [1, null]}', "send 0 where an element counts but weighs nothing"),
        ('{"mask": [true, null]}', "false where it is left out"),
        ('{"logits": [1, "nan"]}', 'only "NaN", "Infinity" and "-Infinity"'),
        ('{"mask": [true, "NaN"]}', "nested arrays of booleans, or of 0 and 1"),
        ('{"mask": [true, 2]}', "mask: 2 is neither 0 nor 1 at /mask/1"),
        ('{"mask": [[0.5]]}', "mask: 0.5 is neither 0 nor 1 at /mask/0/0"),
        ('{"ids": [1, "a"]}', "whole numbers, or strings in an Arrow stream"),
        ('{"groups": [1, null]}', "an id of their own for rows of no group"),
        ('{"groups": [1, 1.5]}', "groups: 1.5 is no whole number below 2**53 in magnitude at /groups/1"),
        ('{"baseline": [1, null]}', "send the other model's number for each element"),
        ('{"logits": [1, true]}', "are logits and targets swapped?"),
        ('{"logits": [[1, 2], [3]]}', "pad shorter ones, and send a mask"),
        ('{"logits": [1e999]}', 'or in tensors "Infinity"'),
        ('{"logits": [NaN]}', 'the strings "NaN", "Infinity" and "-Infinity"'),
    ],
)
def test_what_to_send_instead(document: str, expected: str) -> None:
    assert expected in refused(document).detail


@given(
    hnp.arrays(np.int64, hnp.array_shapes(max_dims=2), elements=st.integers(1 - 2**53, 2**53 - 1)),
    st.sampled_from(["groups", "ids"]),
)
def test_ids_are_whole_numbers(ids: AnyArray, name: str) -> None:
    text = json.dumps({name: ids.tolist()})
    assert same_bits(load(text).arrays[name], ids)
    region = bytearray(arena_bytes(len(text)))
    region[: len(text)] = text.encode()
    tensor = read_in_place(memoryview(region), len(text)).tensors[name]
    assert tensor.dtype == "int64"
    assert same_bits(array_of(tensor, bytes(region)), ids)


@pytest.mark.parametrize("number", ["1.5", "9007199254740992", "-9007199254740992", "1e300", '"NaN"', "true"])
def test_ids_that_are_none(number: str) -> None:
    for name in ("groups", "ids"):
        error = refused(f'{{"{name}": [[1, 2], [3, {number}]]}}')
        assert (error.code, error.errors[0][0]) == ("dtype_not_allowed", f"/{name}/1/1")


INTEGERS = st.one_of(
    st.integers(-(2**53), 2**53),
    st.integers(-(2**66), 2**66),
    st.integers(-(10**300), 10**300),
    st.sampled_from([n + step for p in (53, 63, 64) for n in (2**p, -(2**p)) for step in (-1, 0, 1)]),
)


@given(st.lists(INTEGERS, min_size=1, max_size=8))
def test_integers_of_any_length_are_rounded_right(values: list[int]) -> None:
    text = json.dumps(
        {"s": '99999999999999999999 \\ " 1', "logits": values, "weight": values[0], "t": [1, "8" * 30]}
    )
    found = load(text)
    assert same_bits(found.arrays["logits"], np.array([float(value) for value in values]))
    assert same_bits(found.arrays["weight"], np.array(float(values[0])))
    assert found.params == {"s": '99999999999999999999 \\ " 1', "t": [1, "8" * 30]}


DECIMALS = st.builds(
    "{}{}.{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**25),
    st.integers(0, 10**30),
    st.one_of(st.just(""), st.integers(-345, 280).map("e{}".format), st.integers(0, 280).map("E+{}".format)),
)


@given(st.lists(DECIMALS, min_size=1, max_size=8))
def test_decimals_are_rounded_as_python_does(texts: list[str]) -> None:
    array = load('{"logits": [' + ",".join(texts) + "]}").arrays["logits"]
    assert same_bits(array, np.array([float(text) for text in texts]))


@pytest.mark.parametrize(
    "text",
    [
        "4.9e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
        "2.2250738585072014e-308", "1.7976931348623157e308", "1.7976931348623158e308", "9007199254740993",
        "9007199254740993.0", "-0.0", "-0e0", "0.1", "1e-400", "1" + "0" * 308, "0." + "0" * 400 + "1",
        "0.500000000000000166533453693773481063544750213623046875",
        "3.518437208883201171875e13", "8.5000000000000000000000000000000000001",
    ],
)  # fmt: skip
def test_hard_numbers(text: str) -> None:
    assert same_bits(load(f'{{"logits": [{text}]}}').arrays["logits"], np.array([float(text)]))


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "Infinity", "-Infinity", "nan", "inf", "1e999", "-1e999", "1.8e308", "1" + "0" * 309,
        "9" * 10_000,
        "01", "1.", ".5", "+1", "1e", "0x1", "1_000", "--1", "tru", "nul",
        "True", "None", "'a'", "1 2", "1,", ",1",
    ],
)  # fmt: skip
def test_no_numbers(text: str) -> None:
    assert refused(f'{{"logits": [[1, 2], [3, {text}]]}}').code == "malformed_json"
    assert refused(f'{{"gamma": {text}, "logits": [1]}}').code == "malformed_json"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"[1]", "begins with"),
        (b"1", "begins with"),
        (b"null", "begins with"),
        (b'{"logits": [1, NaN]}', "NaN at byte 15"),
        (b'{"logits": [1, 1e999]}', "'1e999' at byte 15 overflows"),
        (b'{"logits": [1, 2}', "char 16"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8 at byte 7"),
        (b'{"logits": [1], "logits": [1]}', "twice"),
        (b'{"gamma": 1, "gamma": 1}', "twice"),
        (b'{"logits": [1], "log\\u0069ts": [1]}', "twice"),
        (b'{"gamma": {"a": 1, "a": 2}}', "twice"),
        (b'{"a": "\\ud800"}', ""),
        (b'{"\\ud800": 1}', ""),
        (b'{"a": "\\x"}', ""),
        (b'{"a": "\n"}', ""),
        (b"{1: 2}", ""),
        (b'{"logits": [1]', ""),
        (b'{"logits": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b"[" * 100_000, ""),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", ""),
        (b"{" + b",".join(b'"n%d":1' % i for i in range(MAX_NAMES + 1)) + b"}", "names"),
        (b'{"logits": "' + b'\\"' * 100_000, ""),
    ],
)
def test_malformed_documents(document: bytes, expected: str) -> None:
    result = outcome(MEDIA, [document])
    if isinstance(result, Body):  # whether 1,000 levels are read depends on the interpreter's stack
        assert document.startswith(b'{"a": [[[')
        return
    assert result.code == "malformed_json"
    assert expected in result.detail


def test_parameters_are_plain_values() -> None:
    params = {
        "a": None, "b": True, "c": 1, "d": -2.5, "e": "é\"\\/\u2028 {[", "f": [1, [2, {"g": "]"}]],
        "h": {"i": "}"}, "": 0, "a/b": [], "logits\x00": 1,
    }  # fmt: skip
    for text in (json.dumps(params), json.dumps(params, ensure_ascii=False, indent=3)):
        found = load(text)
        assert found.params == params
        assert found.arrays == {}


def test_a_parameter_is_bounded() -> None:
    long = '{"feature": [' + "0," * (MAX_PARAMETER_BYTES // 2) + "0]}"
    assert refused(long).code == "invalid_parameter"
    assert refused('{"name": "' + "x" * MAX_PARAMETER_BYTES + '"}').errors[0][0] == "/name"


@pytest.mark.parametrize(
    "inside",
    [
        "1true",
        "true1",
        "truefalse",
        "1false",
        "false1",
        "-true",
        "true.5",
        "1etrue",
        "tr ue",
        "[], [1, 2",
        "1, [1, 2",
        "," * 500,
        " ," * 500,
    ],
)
def test_what_only_looks_like_elements(inside: str) -> None:
    region, length = with_room(f'{{"targets": [{inside}, 0.5]}}'.encode())
    with mock.patch.object(syntax, "_EXPLAINED_BYTES", 0), pytest.raises(RequestError) as caught:
        read_in_place(memoryview(region), length)
    assert caught.value.code == "malformed_json"


def test_a_missing_bracket_is_no_wrong_element() -> None:
    assert refused('{"logits": [1, 2, "targets": [1]}').code == "malformed_json"
    assert refused('{"logits": [[1, 2], "targets": [1], "gamma": 2}').code == "malformed_json"


def test_what_stands_beside_the_tensors_is_bounded() -> None:
    filler = " " * (5 * MAX_PARAMETER_BYTES)
    assert "beside its tensors" in refused(f'{{"logits": [1],{filler}"gamma": 2}}').detail
    assert same_bits(load(f'{{"logits": [1,{filler}2]}}').arrays["logits"], np.array([1.0, 2.0]))


def test_a_long_document_that_stops_short() -> None:
    numbers = "0.25," * 400_000
    for rest in ("1", "1], ", '1], "gamma', '1], "gamma": ', '1], "gamma": [1', '1], "alpha": [1,[2]', "1]"):
        assert refused(f'{{"logits": [{numbers}{rest}').code == "malformed_json"
    assert refused(f'{{"logits": [{numbers}1]]}}').code == "malformed_json"
    assert refused(f'{{"logits": [{numbers},1]}}').code == "malformed_json"
    assert refused(f'{{"logits": [{numbers}"1"]}}').errors[0][0] == "/logits/400000"


PEAK = """
import resource, sys
from lossd.wire.json.document import arena_bytes, read_in_place
length = int(sys.argv[1])
region = bytearray(arena_bytes(length))
region[:] = bytes(len(region))
text = b'{"targets":[' + b"0," * (length // 2 - 7) + b"1]}"
region[: len(text)] = text
length = len(text)
del text
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_in_place(memoryview(region), length)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_little_memory_is_needed_beside_the_numbers() -> None:
    length = 1 << 24  # single digits only: the most numbers that fit
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(length)], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(ran.stdout) < 2 * length


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "us-ascii"])
def test_charsets(charset: str) -> None:
    assert read(MEDIA, [SMALL], options={"charset": charset}).params["gamma"] == 2
    with pytest.raises(RequestError, match="send UTF-8"):
        read(MEDIA, [SMALL], options={"charset": "utf-16"})


def test_more_elements_than_a_parser_counts() -> None:
    count = (1 << 24) + 3  # simdjson's lengths of arrays stop at 2^24 - 1
    array = load(b'{"targets": [' + b"0," * (count - 1) + b"1]}").arrays["targets"]
    assert array.shape == (count,)
    assert array[-1] == 1


@given(SHAPES, st.integers(0, 9))
def test_the_arena_has_room_for_what_is_built(shape: tuple[int, ...], digit: int) -> None:
    values = np.full(shape, digit).tolist()
    document = orjson.dumps({"logits": values, "targets": values, "weight": values, "pos_weight": digit})
    arrays = load(document).arrays.values()
    needed = -(-len(document) // 8) * 8 + sum(-(-array.nbytes // 8) * 8 for array in arrays)
    assert needed <= FORMATS[MEDIA].arena_bytes(len(document))


@given(NESTED, st.sampled_from([None, 1]))
def test_the_numbers_of_one_value(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    shape = shape_of(value)
    if shape is None or len(shape) > 8:
        with pytest.raises(RequestError) as caught:
            read_numbers("logits", text)
        assert caught.value.code == "bad_shape"
        return
    assert same_bits(read_numbers("logits", text), np.array(value, dtype=np.float64).reshape(shape))
    assert same_bits(read_numbers("logits", b" \t" + text + b"\r\n"), read_numbers("logits", text))


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("targets", b"[1, {}]", "dtype_not_allowed"),
        ("targets", b"null", "dtype_not_allowed"),
        ("mask", b"[2]", "weight_out_of_range"),
        ("mask", b'["NaN"]', "dtype_not_allowed"),
        ("logits", b'["NaN", "nan"]', "dtype_not_allowed"),
        ("logits", b'["NaN"], "NaN"]', "malformed_json"),
        ("logits", b'["NaN"] "', "malformed_json"),
        ("logits", b'["NaN" 1]', "malformed_json"),
        ("logits", b"[true]", "dtype_not_allowed"),
        ("logits", b'["1"]', "dtype_not_allowed"),
        ("logits", b'[{"a": 1}]', "dtype_not_allowed"),
        ("logits", b'{"a": [1]}', "dtype_not_allowed"),
        ("logits", b'"1"', "dtype_not_allowed"),
        ("logits", b"null", "dtype_not_allowed"),
        ("logits", b"[[1], 2]", "bad_shape"),
        ("logits", b"[1], [2]", "malformed_json"),
        ("logits", b"[1]]", "malformed_json"),
        ("logits", b"[1", "malformed_json"),
        ("logits", b'[1, "a"', "malformed_json"),
        ("logits", b"", "malformed_json"),
        ("logits", b" ", "malformed_json"),
        ("logits", b"[NaN]", "malformed_json"),
        ("logits", b"[1e999]", "malformed_json"),
    ],
)
def test_one_value_that_is_no_numbers(name: str, text: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_numbers(name, text)
    check_error(caught.value)
    assert caught.value.code == code


def test_one_value_may_be_booleans() -> None:
    assert same_bits(read_numbers("targets", b"[[true], [false]]"), np.array([[True], [False]]))
    assert same_bits(read_numbers("mask", b"true"), np.array(True))
    assert same_bits(read_numbers("mask", b"[true, 0]"), np.array([1.0, 0.0]))


def test_one_value_may_be_a_word() -> None:
    assert same_bits(read_numbers("logits", b'["NaN", "-Infinity"]'), np.array([math.nan, -math.inf]))
    assert same_bits(read_numbers("targets", b"[[null], [1]]"), np.array([[math.nan], [1.0]]))
    assert same_bits(read_numbers("weight", b'"Infinity"'), np.array(math.inf))


HOSTILE = {
    "digits": b"1" * 2_000_000,
    "exponents": b"1e1" * 700_000,
    "a row, then none": b"[" + b"0," * 500_000 + b"0]" + b",[]" * 500_000,
    "brackets": b"[],[1]," * 300_000 + b"[]",
    "the last is null": b"0," * 1_000_000 + b"null",
    "words": b'"NaN",' * 500_000 + b"null",
    "words, and a string without end": b'"NaN",' * 500_000 + b'"' + b"x" * 1_000_000,
    "quotes": b'"' * 2_000_000,
    "deep and wide": b"0," * 1_000_000 + b"[" * 900 + b"null" + b"]" * 900,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_explanations_take_no_time(case: str) -> None:
    document = b'{"logits": [' + HOSTILE[case] + b"]}"
    begin = time.thread_time()
    refused(document)
    assert time.thread_time() - begin < 2.0


@given(st.data())
def test_mutants_are_read_or_refused(data: st.DataObject) -> None:
    mutant = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        new = data.draw(
            st.one_of(
                st.binary(max_size=3), st.sampled_from([b"[", b"]", b",", b'"', b"{", b"}", b"1", b"null"])
            )
        )
        mutant[at : at + data.draw(st.integers(0, 3))] = new
    result = outcome(MEDIA, [bytes(mutant)])
    try:
        value = json.loads(bytes(mutant), parse_constant=lambda token: math.nan)
    except (ValueError, RecursionError):
        assert isinstance(result, RequestError)
        return
    if isinstance(result, Body):
        assert isinstance(value, dict)
        assert set(value) == {*result.arrays, *result.params}
