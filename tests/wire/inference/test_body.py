from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import (  # type: ignore[import-untyped]  # a witness, without a server
    InferInput,
    InferRequestedOutput,
    InferResult,
)
from tritonclient.http._utils import _get_inference_request  # type: ignore[import-untyped]
from tritonclient.utils import np_to_triton_dtype  # type: ignore[import-untyped]

from lossd.types import TENSOR_DTYPES, Body, Float64Array, LossResult, RequestError
from lossd.wire.inference.answer import write_inference
from lossd.wire.inference.body import MAX_KEPT_BYTES, InferenceReader, arena_bytes
from lossd.wire.inference.data import MAX_DESCRIPTION_BYTES
from lossd.wire.inference.models import (
    Duration,
    ModelFigures,
    ModelInput,
    model_config,
    model_metadata,
    model_stats,
    server_metadata,
)
from lossd.wire.inference.objects import DATATYPES, OUTPUTS
from lossd.wire.inference.request import RequestedOutput
from wire.feeding import AnyArray, array_of, check_error, same_bits, split_at

MAX_JSON_BYTES = 1 << 25
LOGITS = np.array([[0.5, -1.25, np.inf], [3.0, -0.0, 1e-40]], dtype=np.float32)
TARGETS = np.array([[True, False, True], [False, False, True]])
MASK = np.array([[1, 0, 1], [2, 3, 0]], dtype=np.uint8)
WEIGHT = np.array([[0.1, 2.0, 3.5]])
RESULT = LossResult(
    loss=0.1 + 0.2, reduction="mean", count=2**53 + 1,
    shape=(32, 80), loss_name="focal", params={"gamma": 1.5}, kernel="native", device="cpu",
    sum_terms=(2028.497, 3.1e-14, -1e-31), weight_sum_terms=(2560.5,), positives_terms=(251.0, 1e-15),
)  # fmt: skip


def given_input(name: str, array: AnyArray, binary: bool = True) -> InferInput:
    made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def build(
    inputs: Iterable[InferInput],
    outputs: Sequence[InferRequestedOutput] = (),
    request_id: str = "",
    sequence_id: int | str = 0,
    priority: int = 0,
    timeout: int | None = None,
    parameters: dict[str, object] | None = None,
) -> tuple[bytes, int | None]:
    """Return a body by Triton's client, and its Inference-Header-Content-Length."""
    body, length = _get_inference_request(
        inputs, request_id, outputs, sequence_id, False, False, priority, timeout, parameters
    )
    assert isinstance(body, bytes)
    assert length is None or isinstance(length, int)
    return body, length


BINARY = (("logits", LOGITS), ("targets", TARGETS), ("mask", MASK))
BODY, HEADER = build(
    [*(given_input(name, array) for name, array in BINARY), given_input("weight", WEIGHT, binary=False)],
    request_id="r",
    parameters={"gamma": 2},
)


def feed(chunks: Iterable[bytes], header_length: int | None) -> tuple[InferenceReader, Body]:
    reader = InferenceReader(header_length=header_length, max_json_bytes=MAX_JSON_BYTES)
    stored = bytearray()
    for chunk in chunks:
        for part in reader.feed(chunk):
            stored += part
    return reader, reader.finish(memoryview(stored))


def read(data: bytes, header_length: int | None = None) -> Body:
    return feed([data], header_length)[1]


def outcome(chunks: Iterable[bytes], header_length: int | None = None) -> Body | RequestError:
    try:
        return feed(chunks, header_length)[1]
    except RequestError as error:
        check_error(error)
        return error


def refused(data: bytes | str | object, header_length: int | None = None) -> RequestError:
    if not isinstance(data, bytes):
        data = (data if isinstance(data, str) else json.dumps(data)).encode()
    result = outcome([data], header_length)
    assert isinstance(result, RequestError), result
    return result


def document(**inputs: object) -> dict[str, object]:
    """Return a request with one input, logits, and some members replaced; None leaves one out."""
    described = {"name": "logits", "shape": [2], "datatype": "FP32", "data": [1, 2], **inputs}
    return {"inputs": [{name: value for name, value in described.items() if value is not None}]}


def sized(size: object, **inputs: object) -> dict[str, object]:
    return document(data=None, parameters={"binary_data_size": size}, **inputs)


EVERY = (*OUTPUTS, "report")


def with_outputs(*outputs: object, **members: object) -> dict[str, object]:
    return {**document(), "outputs": list(outputs), **members}


def check_body(chunks: Iterable[bytes]) -> None:
    reader, body = feed(chunks, HEADER)
    assert list(body.tensors) == ["logits", "targets", "mask"]
    for name, array in BINARY:
        assert same_bits(array_of(body.tensors[name], BODY), array)
    assert list(body.arrays) == ["weight"]
    assert same_bits(body.arrays["weight"], WEIGHT)
    assert body.params == {"gamma": 2}
    assert reader.request_id == "r"
    assert reader.outputs == tuple(RequestedOutput(name, True) for name in EVERY)
    assert reader.timeout_us is None


def test_whole_and_byte_by_byte() -> None:
    check_body([BODY])
    check_body(split_at(BODY, range(len(BODY))))


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_cut_anywhere(cuts: list[int]) -> None:
    check_body(split_at(BODY, cuts))


def test_truncated_anywhere() -> None:
    ends = {"logits": 24, "targets": 30, "mask": 36}
    assert HEADER is not None
    for length in range(len(BODY)):
        for chunks in ([BODY[:length]], split_at(BODY[:length], range(length))):
            result = outcome(chunks, HEADER)
            assert isinstance(result, RequestError)
            assert result.code == "truncated_body"
            if length >= HEADER:
                cut = next(name for name, end in ends.items() if length - HEADER < end)
                assert result.errors[0][0] == f"/{cut}"


def test_truncation_says_how_much_came() -> None:
    with pytest.raises(RequestError, match=r"mask is uint8 \[2, 3\], but only 4 of 6 bytes came"):
        read(BODY[:-2], HEADER)
    with pytest.raises(RequestError, match=r"targets is bool \[2, 3\], but only 0 of 6 bytes came"):
        read(BODY[: HEADER + 24 if HEADER else 0], HEADER)
    with pytest.raises(
        RequestError, match=rf"9 bytes came, less than the {HEADER} of Inference-Header-Content"
    ):
        read(BODY[:9], HEADER)


@pytest.mark.parametrize("extra", [b"\x00", b"\n", BODY])
def test_trailing_bytes(extra: bytes) -> None:
    for chunks in ([BODY + extra], [BODY, extra]):
        reader = InferenceReader(header_length=HEADER, max_json_bytes=MAX_JSON_BYTES)
        with pytest.raises(RequestError, match=rf"from byte {len(BODY)} on") as caught:  # noqa: PT012 -- any of them
            for chunk in chunks:
                reader.feed(chunk)
        assert caught.value.code == "trailing_bytes"


def test_a_json_document_cut_short_is_malformed() -> None:
    data, length = build([given_input("logits", WEIGHT, binary=False)], [InferRequestedOutput("loss")])
    assert length is None
    assert isinstance(outcome([data]), Body)
    for end in range(len(data)):
        assert refused(data[:end]).code == "malformed_json"
    for extra in (b"x", b"{}", b"]", b"\x00", data):
        assert refused(data + extra).code == "malformed_json"


def test_the_body_is_known_before_its_last_tensor_has_come() -> None:
    reader = InferenceReader(header_length=HEADER, max_json_bytes=MAX_JSON_BYTES)
    assert HEADER is not None
    last = HEADER + 30  # where the mask begins
    for place in range(len(BODY)):
        assert reader.needed == (len(BODY) if place >= HEADER else HEADER)
        assert (reader.outline(len(BODY)) is not None) == (place >= last)
        reader.feed(BODY[place : place + 1])
    outlines = [reader.outline(length) for length in (None, len(BODY))]
    assert outlines == [reader.finish(memoryview(BODY))] * 2
    assert reader.outline(len(BODY) + 1) is None


def test_a_long_json_object_is_read_at_the_end() -> None:
    data = LOGITS[np.isfinite(LOGITS)]
    long = build([given_input("logits", np.tile(data, 4000), binary=False), given_input("mask", MASK)])
    body, header = long
    assert header is not None
    assert header > MAX_KEPT_BYTES
    reader = InferenceReader(header_length=header, max_json_bytes=MAX_JSON_BYTES)
    reader.feed(body)
    assert reader.outline(len(body)) is None
    assert reader.needed == len(body)
    found = reader.finish(memoryview(body))
    assert same_bits(found.arrays["logits"], np.tile(data, 4000).astype(np.float64))
    assert same_bits(array_of(found.tensors["mask"], body), MASK)
    for wrong, code in ((body + b"x", "trailing_bytes"), (body[:-1], "truncated_body")):
        assert refused(wrong, header).code == code


def test_json_objects_are_bounded() -> None:
    for length in (1001, 1 << 62):
        with pytest.raises(RequestError, match=r"at most 1000 are taken") as caught:
            InferenceReader(header_length=length, max_json_bytes=1000)
        assert caught.value.code == "body_too_large"
    reader = InferenceReader(header_length=None, max_json_bytes=1000)
    reader.feed(b" " * 1000)
    with pytest.raises(RequestError, match=r"1001 bytes"):
        reader.feed(b" ")


NUMPY = {datatype: np.dtype(ml_dtypes.bfloat16 if "BF" in datatype else dtype)
         for datatype, dtype in DATATYPES.items()}  # fmt: skip


def dtype_in_json(name: str, datatype: str) -> type:
    """Return the dtype of a tensor whose numbers stand in the JSON object."""
    if datatype == "BOOL":
        return np.bool_
    return np.int64 if name in ("groups", "ids") else np.float64


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3), (1, 2, 1, 2, 1, 2, 1, 2)])
@pytest.mark.parametrize("name", TENSOR_DTYPES)
def test_every_datatype_binary_and_json(datatype: str, shape: tuple[int, ...], name: str) -> None:
    low = 0 if datatype.startswith("U") or name == "mask" else -2
    numbers = np.arange(low, math.prod(shape) + low).reshape(shape)
    array: AnyArray = np.array(numbers % 2 if name == "mask" else numbers, dtype=NUMPY[datatype])
    made = given_input(name, array)
    body, header = build([made])
    flat = document(name=name, shape=shape, datatype=datatype, data=array.astype(float).ravel().tolist())
    if DATATYPES[datatype] not in TENSOR_DTYPES[name]:
        for result in (refused(body, header), refused(flat)):
            assert result.code == "dtype_not_allowed"
            assert result.errors[0][0] == "/inputs/0/datatype"
        return
    tensor = read(body, header).tensors[name]
    assert (tensor.dtype, tensor.shape, tensor.offset) == (DATATYPES[datatype], shape, header)
    bits = array.view(np.uint16) if datatype == "BF16" else array
    assert same_bits(array_of(tensor, body), bits)
    documents = [json.dumps(flat).encode()]
    if datatype != "BF16":  # which the client sends as binary data only
        documents += [build([given_input(name, array, binary=False)])[0]]
    if shape:
        nested = document(name=name, shape=shape, datatype=datatype, data=array.astype(float).tolist())
        documents.append(json.dumps(nested).encode())
    for text in documents:
        found = read(text)
        assert found.tensors == {}
        assert same_bits(found.arrays[name], array.astype(dtype_in_json(name, datatype)))
        assert found.arrays[name].flags.c_contiguous


FINITE = st.floats(allow_nan=False, allow_infinity=False)


def rounded(values: Float64Array, datatype: str) -> Float64Array:
    """Round with numpy and ml_dtypes."""
    with np.errstate(over="ignore"):
        return values.astype(NUMPY[datatype]).astype(np.float64)


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
@given(data=st.data())
def test_numbers_are_rounded_to_their_datatype(datatype: str, data: st.DataObject) -> None:
    array = data.draw(hnp.arrays(np.float64, st.integers(1, 8), elements=FINITE))
    if data.draw(st.booleans()):
        array = np.nan_to_num(rounded(array, datatype), posinf=-1, neginf=1)
    result = outcome(
        [json.dumps(document(shape=array.shape, datatype=datatype, data=array.tolist())).encode()]
    )
    expected = rounded(array, datatype)
    if np.isfinite(expected).all():
        assert isinstance(result, Body)
        assert same_bits(result.arrays["logits"], expected)
    else:
        assert isinstance(result, RequestError)
        assert result.code == "dtype_not_allowed"
        first = int(np.argmin(np.isfinite(expected)))
        assert result.errors[0][0] == f"/logits/{first}"
        assert f"the datatype {datatype} does not hold" in result.detail


def test_ties_are_rounded_to_even_in_bfloat16() -> None:
    values = [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 1 + 2**-8 + 2**-20, 2.0**-134, 3.3e38]
    found = read(json.dumps(document(shape=[6], datatype="BF16", data=values)).encode()).arrays["logits"]
    assert found.tolist() == [1, 1 + 2**-6, -1, 1 + 2**-7, 0, 248 * 2.0**120]


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("UINT8", [0, 255, 1.0, 2e2], [256, -1, 0.5]),
        ("UINT16", [0, 65535], [65536, -1, 0.5]),
        ("UINT32", [0, 2**32 - 1], [2**32, -1]),
        ("UINT64", [0, 2**53 - 1], [2**53, 2**64 - 1, -1]),
        ("INT8", [-128, 127], [128, -129, 1e-300]),
        ("INT16", [-32768, 32767], [32768, -32769]),
        ("INT32", [-(2**31), 2**31 - 1], [2**31, 1e300, -(2**31) - 1]),
        ("INT64", [-(2**53) + 1, 2**53 - 1], [2**53, -(2**53), 2**63, 10**30, 2**53 + 1]),
        ("BOOL", [0, 1, -0.0], [2, -1, 0.5]),
    ],
)
def test_integers_are_whole_and_in_range(datatype: str, good: list[float], bad: list[float]) -> None:
    for value in (*good, *bad):
        text = json.dumps(document(name="targets", shape=[2, 1], datatype=datatype, data=[0, value]))
        result = outcome([text.encode()])
        if value in good:
            assert isinstance(result, Body)
            assert result.arrays["targets"].tolist() == [[0], [value]]
        else:
            assert isinstance(result, RequestError)
            assert result.code == "dtype_not_allowed"
            assert result.errors[0][0] == "/targets/1/0"


def test_booleans_are_of_the_datatype_bool() -> None:
    booleans = document(name="mask", datatype="BOOL", data=[True, False])
    assert same_bits(read(json.dumps(booleans).encode()).arrays["mask"], np.array([True, False]))
    for name, datatype in (("mask", "UINT8"), ("targets", "FP32"), ("logits", "FP32")):
        error = refused(document(name=name, datatype=datatype, data=[True, False]))
        assert error.code == "dtype_not_allowed"
        assert error.errors[0][0] == f"/{name}/0"


def test_what_infinities_and_nan_become() -> None:
    array = np.array([np.nan, np.inf, 1.0])
    body, header = build([given_input("logits", array)])
    assert same_bits(array_of(read(body, header).tensors["logits"], body), array)
    text, _ = build([given_input("logits", array, binary=False)])
    error = refused(text)  # the client writes tokens that JSON does not have
    assert error.code == "malformed_json"
    assert '"NaN", "Infinity" and "-Infinity"' in error.detail
    assert "NaN at byte 1 is not a JSON number" in error.detail
    assert "binary data" in error.detail


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
@pytest.mark.parametrize("space", ["", " ", "\n" * 9])
def test_words_in_data_stand_for_numbers(datatype: str, space: str) -> None:
    for name in ("logits", "targets"):
        text = json.dumps(document(name=name, shape=[2, 2], datatype=datatype, data=["here"]))
        data = '[["NaN" , "Infinity"],["-Infinity", 0.5]]'.replace(" ", space)
        found = read(text.replace('["here"]', data).encode())
        expected = np.array([[np.nan, np.inf], [-np.inf, 0.5]])
        assert same_bits(found.arrays[name], expected)


def test_null_in_data_is_an_element_of_targets_alone() -> None:
    text = json.dumps(document(name="targets", datatype="FP32", data=[None, 1])).encode()
    assert same_bits(read(text).arrays["targets"], np.array([np.nan, 1.0]))
    error = refused(document(data=[None, 1]))
    assert error.code == "dtype_not_allowed"
    assert 'send "NaN" with allow_nan=true' in error.detail


@pytest.mark.parametrize("datatype", ["INT64", "UINT8", "BOOL"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", None])
def test_words_are_of_no_integer_datatype(datatype: str, value: str | None) -> None:
    error = refused(document(name="targets", datatype=datatype, data=[0, value]))
    assert error.code == "dtype_not_allowed"
    assert error.errors[0][0] == "/targets/1"
    word = value or "NaN"
    assert f"/targets/1 is {word}, which the datatype {datatype} does not hold; declare" in error.detail


def test_words_are_not_members() -> None:
    text = json.dumps(document(data=["NaN", 1])).replace('"inputs"', '"NaN": ["NaN"], "inputs"')
    assert refused(text).code == "invalid_parameter"
    text = json.dumps({**document(data=["NaN", 1]), "parameters": {"x": "word", "Infinity": "y"}})
    assert read(text.encode()).params == {"x": "word", "Infinity": "y"}


PARAMETERS = {
    "number": (2, 2),
    "fraction": (1.5, 1.5),
    "flag": (True, True),
    "text of a number": ("2.5", 2.5),
    "text of a flag": ("true", True),
    "text of null": ("null", None),
    "text of a list": ("0,1", [0, 1]),
    "text of a JSON list": ("[0, -1]", [0, -1]),
    "text of a list of one": ("[0.25]", [0.25]),
    "word": ("sum", "sum"),
    "quoted word": ('"sum"', "sum"),
    "null": (None, None),
    "list": ([0, 1], [0, 1]),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters(case: str) -> None:
    given, expected = PARAMETERS[case]
    body, header = build([given_input("logits", LOGITS)], parameters={"alpha": given, "x": 1})
    params = read(body, header).params
    assert params == {"alpha": expected, "x": 1}
    assert type(params["alpha"]) is type(expected)


@pytest.mark.parametrize("text", ["", " ", "NaN", "[1", "1e999", "{", '"', '{"a":1,"a":2}'])
def test_parameters_that_cannot_be_read(text: str) -> None:
    error = refused({**document(), "parameters": {"alpha": text}})
    assert error.code == "invalid_parameter"
    assert error.errors[0][0] == "/parameters/alpha"
    assert "query" not in error.detail


def test_parameters_of_the_protocol_itself() -> None:
    inputs = [given_input("logits", LOGITS)]
    reader, body = feed(*wrapped(build(inputs, priority=3, timeout=1500, parameters={"gamma": 1})))
    assert reader.timeout_us == 1500
    assert body.params == {"gamma": 1}
    assert feed(*wrapped(build(inputs, timeout=0)))[0].timeout_us is None
    assert feed(*wrapped(build(inputs)))[0].request_id is None
    for sequence in (7, "batch"):
        error = refused(*build(inputs, sequence_id=sequence))
        assert error.code == "invalid_parameter"
        assert error.errors[0][0] == "/parameters/sequence_id"
    nothing = {"sequence_id": 0, "sequence_start": False, "sequence_end": None, "priority": 0}
    assert read(json.dumps({**document(), "parameters": nothing}).encode()).params == {}
    for timeout in (-1, 0.5, "1", True, 2**63):
        assert refused({**document(), "parameters": {"timeout": timeout}}).code == "invalid_parameter"


def wrapped(built: tuple[bytes, int | None]) -> tuple[list[bytes], int | None]:
    return [built[0]], built[1]


def test_outputs() -> None:
    inputs = [given_input("logits", LOGITS)]
    asked = [InferRequestedOutput("count", binary_data=False), InferRequestedOutput("loss")]
    reader, _ = feed(*wrapped(build(inputs, asked)))
    assert reader.outputs == (RequestedOutput("count", False), RequestedOutput("loss", True))
    every: list[tuple[dict[str, object], bool]] = [
        ({}, False),
        ({"outputs": []}, False),
        ({"outputs": None, "parameters": None, "id": None}, False),
        ({"parameters": {"binary_data_output": True}}, True),
        ({"parameters": {"binary_data_output": False}}, False),
    ]
    for members, binary in every:
        reader, _ = feed([json.dumps({**document(), **members}).encode()], None)
        assert reader.outputs == tuple(RequestedOutput(name, binary) for name in EVERY)
        assert not reader.needs_report
    mixed = with_outputs(
        {"name": "loss"},
        {"name": "sum", "parameters": {"binary_data": False, "classification": 0}},
        parameters={"binary_data_output": True},
    )
    reader, _ = feed([json.dumps(mixed).encode()], None)
    assert reader.outputs == (RequestedOutput("loss", True), RequestedOutput("sum", False))


@pytest.mark.parametrize(
    ("parameters", "outputs", "needed"),
    [
        ({}, ["report"], True),
        ({}, ["sum", "report"], True),
        ({"report": "top"}, ["report"], False),
        ({"report": "top"}, ["sum"], False),
        ({"report": "top"}, [], False),
    ],
)
def test_an_output_may_need_a_report(parameters: dict[str, object], outputs: list[str], needed: bool) -> None:
    body = with_outputs(*({"name": name} for name in outputs), parameters=parameters)
    reader, found = feed([json.dumps(body).encode()], None)
    assert isinstance(found, Body)
    assert found.params == parameters
    assert reader.needs_report is needed
    assert [output.name for output in reader.outputs] == (outputs or list(EVERY))


@pytest.mark.parametrize("name", ["groups", "ids"])
def test_strings_are_refused_for_ids(name: str) -> None:
    body, header = build([given_input(name, np.array([b"a", b"bc"], dtype=object))])
    error = refused(body, header)
    assert error.code == "dtype_not_allowed"
    assert "or strings in an Arrow stream" in error.detail
    for number in (1.5, 2.0**53, -(2.0**53)):
        error = refused(document(name=name, shape=[1], datatype="INT64", data=[number]))
        assert (error.code, error.errors[0][0]) == ("dtype_not_allowed", f"/{name}/0")


SHARED = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
BAD: dict[str, tuple[object, str]] = {
    "not an object": ([], "bad_request"),
    "a string": ('"inputs"', "bad_request"),
    "no inputs": ({}, "bad_request"),
    "inputs null": ({"inputs": None}, "bad_request"),
    "inputs an object": ({"inputs": {}}, "bad_request"),
    "an input a list": ({"inputs": [[]]}, "bad_request"),
    "an input null": ({"inputs": [None]}, "bad_request"),
    "a member more": ({**document(), "gamma": 2}, "invalid_parameter"),
    "an input's member more": (document(dtype="FP32"), "invalid_parameter"),
    "a name of 100,000 letters": ({**document(), "é" * 100_000: 2}, "invalid_parameter"),
    "id a number": ({**document(), "id": 7}, "bad_request"),
    "parameters a list": ({**document(), "parameters": []}, "bad_request"),
    "binary_data_output a number": (
        {**document(), "parameters": {"binary_data_output": 1}}, "bad_request",
    ),
    "name missing": (document(name=None), "bad_request"),
    "name a list": (document(name=[]), "bad_request"),
    "name unknown": (document(name="logit"), "unknown_tensor"),
    "name twice": ({"inputs": [*document()["inputs"], *sized(8)["inputs"]]}, "malformed_json"),  # type: ignore[misc]  # lists
    "datatype missing": (document(datatype=None), "bad_request"),
    "datatype a list": (document(datatype=[]), "bad_request"),
    **{
        f"datatype {datatype}": (document(datatype=datatype), "dtype_not_allowed")
        for datatype in ["BYTES", "UINT16", "UINT64", "fp32", "float32", "", "INT32", "BOOL", "x" * 10_000]
    },
    "shape missing": (document(shape=None), "bad_request"),
    "shape a number": (document(shape=2), "bad_request"),
    "negative": (document(shape=[-1]), "bad_shape"),
    "a length of 2.0": (document(shape=[2.0]), "bad_shape"),
    "a length true": (document(shape=[True, 2]), "bad_shape"),
    "a length of text": (document(shape=["2"]), "bad_shape"),
    "a length of 200 digits": (document(shape=[10**200]), "bad_shape"),
    "9 dimensions": (document(shape=[1] * 9), "bad_shape"),
    "4,000 dimensions": (document(shape=[1] * 4000), "bad_shape"),
    "bytes past 2^63": (sized(2**63, shape=[2**61]), "bad_shape"),
    "product past 2^63": (sized(0, shape=[2**40, 2**40]), "bad_shape"),
    "product past 2^63 but for a zero": (sized(0, shape=[0, 2**40, 2**40]), "bad_shape"),
    "neither data nor size": (document(data=None), "missing_tensor"),
    "data and size": (document(parameters={"binary_data_size": 8}), "bad_request"),
    "size without a header": (sized(8), "bad_request"),
    "size too small": (sized(7), "shape_mismatch"),
    "size too large": (sized(9), "shape_mismatch"),
    "size negative": (sized(-8), "shape_mismatch"),
    "size 8.0": (sized(8.0), "shape_mismatch"),
    "size a text": (sized("8"), "shape_mismatch"),
    "size 10^300": (sized(10**300), "shape_mismatch"),
    "shared memory": (document(data=None, parameters=SHARED), "bad_request"),
    "parameters of an input a list": (document(parameters=[]), "bad_request"),
    "too few numbers": (document(data=[1]), "shape_mismatch"),
    "too many numbers": (document(data=[1, 2, 3]), "shape_mismatch"),
    "no numbers": (document(data=[]), "shape_mismatch"),
    "another nesting": (document(shape=[2, 3], data=[[1, 2]] * 3), "shape_mismatch"),
    "nested too deeply": (document(data=[[1], [2]]), "shape_mismatch"),
    "ragged": (document(data=[[1], 2]), "bad_shape"),
    "data a number": (document(data=1), "dtype_not_allowed"),
    "data a text": (document(data="[0]"), "dtype_not_allowed"),
    "data an object": (document(data={}), "dtype_not_allowed"),
    "null in data": (document(data=[1, None]), "dtype_not_allowed"),
    "a text in data": (document(data=[1, "2"]), "dtype_not_allowed"),
    "a text first in data": (document(data=["1", 2]), "dtype_not_allowed"),
    "an object in data": (document(data=[1, {}]), "dtype_not_allowed"),
    "an array named data among the parameters": (
        {**document(), "parameters": {"data": [1]}}, "invalid_parameter",
    ),
    "no array named data among an output's parameters": (
        '{"inputs": [], "outputs": [{"name": "loss", "parameters": {"data": [1 2]}}]}', "invalid_parameter",
    ),
    "an escaped name in place of an array": (
        '{"inputs": [{"name": "logits", "shape": [2], "datatype": "FP32", "d\\u0061ta": [0]}]}',
        "shape_mismatch",
    ),
    "output unknown": (with_outputs({"name": "losses"}), "bad_request"),
    "output twice": (with_outputs({"name": "loss"}, {"name": "loss"}), "bad_request"),
    "output without a name": (with_outputs({}), "bad_request"),
    "output a text": (with_outputs("loss"), "bad_request"),
    "outputs an object": ({**document(), "outputs": {"name": "loss"}}, "bad_request"),
    "an output's member more": (with_outputs({"name": "loss", "binary": True}), "invalid_parameter"),
    "classification": (
        with_outputs({"name": "loss", "parameters": {"classification": 2}}), "bad_request",
    ),
    "an output in shared memory": (with_outputs({"name": "loss", "parameters": SHARED}), "bad_request"),
    "binary_data a number": (
        with_outputs({"name": "loss", "parameters": {"binary_data": 1}}), "bad_request",
    ),
    "empty": (b"", "malformed_json"),
    "spaces": (b"  ", "malformed_json"),
    "not UTF-8": (b'{"id": "\xff"}', "malformed_json"),
    "half a surrogate pair": (b'{"id": "\\ud800", "inputs": []}', "malformed_json"),
    "a name twice in an object": ('{"inputs": [], "inputs": []}', "malformed_json"),
    "data twice": ('{"inputs": [{"data": [1], "data": [1]}]}', "malformed_json"),
    "a NaN": ('{"inputs": [], "parameters": {"gamma": NaN}}', "malformed_json"),
    "a number that overflows": ('{"inputs": [], "parameters": {"gamma": 1e999}}', "malformed_json"),
    "an array that is not closed": ('{"inputs": [{"data": [1, 2, ', "malformed_json"),
    "an array closed by a brace": ('{"inputs": [{"data": [1, 2}]}', "malformed_json"),
    "an array closed by a name": ('{"inputs": [{"data": [1, 2 "name": "logits"}]}', "malformed_json"),
    "two arrays": (json.dumps(document(data="@")).replace('"@"', "[1], [2]"), "malformed_json"),
    "a bracket more": (json.dumps(document(data="@")).replace('"@"', "[1, 2]]"), "malformed_json"),
    "a number after the array": (json.dumps(document(data="@")).replace('"@"', "[1, 2]5"), "malformed_json"),
    "a fraction after the array": (json.dumps(document(data="@")).replace('"@"', "[1].5"), "malformed_json"),
    "a comma in excess": (json.dumps(document(data="@")).replace('"@"', "[1, 2,]"), "malformed_json"),
    "a letter in the array": (json.dumps(document(data="@")).replace('"@"', "[1, x]"), "malformed_json"),
    "arrays 100,000 deep": ('{"inputs": ' + "[" * 100_000 + "]" * 100_000 + "}", "malformed_json"),
    "data 100,000 deep": (
        json.dumps(document(data="@")).replace('"@"', "[" * 100_000 + "]" * 100_000), "malformed_json",
    ),
    "objects 100,000 deep": ('{"inputs": ' + '{"":' * 100_000, "malformed_json"),
    "a text past the limit": ({**document(), "id": "x" * MAX_DESCRIPTION_BYTES}, "bad_request"),
    "a shape past the limit": (document(shape=[1] * MAX_DESCRIPTION_BYTES), "bad_request"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_documents(case: str) -> None:
    given, code = BAD[case]
    assert refused(given).code == code


def test_errors_say_where() -> None:
    assert "did you mean logits?" in refused(document(name="logit")).detail
    assert "did you mean loss?" in refused(with_outputs({"name": "losss"})).detail
    assert "the body's parameters" in refused({**document(), "gamma": 2}).detail
    assert "there is no shared memory here" in refused(document(data=None, parameters=SHARED)).detail
    assert refused(sized(7)).errors[0][0] == "/inputs/0/parameters/binary_data_size"
    assert refused(document(data=[1, None])).errors[0][0] == "/logits/1"
    text = json.dumps(document(data=[1, "2"]))
    assert f"data holds a string at byte {text.index(chr(34) + '2')}" in refused(text).detail
    late = json.dumps(document(data="@")).replace('"@"', "[1, x]")
    assert f"the data of logits, from byte {late.index('[1')} on" in refused(late).detail
    assert "column 15" in refused('{"inputs": [] 1}').detail


@pytest.mark.parametrize("shift", [-30, -1, 1, 10])
def test_a_header_length_that_lies(shift: int) -> None:
    assert HEADER is not None
    assert refused(BODY, HEADER + shift).code == "malformed_json"
    assert refused(BODY, 0).code == "malformed_json"
    assert refused(BODY, len(BODY) + 1).code == "truncated_body"
    assert refused(BODY).code == "malformed_json"


@pytest.mark.alone
@pytest.mark.parametrize(
    "text",
    [
        b'"' + b'\\"' * 500_000,
        b'"data":[' * 100_000,
        b'{"data":[],' * 90_000,
        b'""' * 500_000,
        b"[" * 20_000_000,
        b'{"inputs": [{"data": ' + b"[" * 20_000_000,
        b'{"inputs": [{"data": [' + b"1," * 10_000_000 + b'"x"',
        b'{"inputs": [{"data": [' + b" " * 20_000_000 + b'"x"]}]}',
        b'{"inputs": [{"shape": [' + b"1," * 10_000_000,
        b"[" + b"{}," * 340_000 + b"0]",
    ],
)
def test_long_documents_are_refused_fast(text: bytes) -> None:
    began = time.thread_time()
    assert isinstance(outcome([text]), RequestError)
    assert time.thread_time() - began < 2


def test_memory_holds_the_body_and_what_is_built() -> None:
    document_of_bools = json.dumps(document(name="mask", shape=[50], datatype="UINT8", data=[1] * 50))
    text = document_of_bools.replace(" ", "").encode()
    built = sum(-(-array.nbytes // 8) * 8 for array in read(text).arrays.values())
    assert len(text) + 7 + built <= arena_bytes(len(text), None)
    assert arena_bytes(1000, 200) < arena_bytes(1000, None)
    assert arena_bytes(1000, 10**9) == arena_bytes(1000, None)


def test_any_body_read_again_bit_for_bit() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        names = rng.permutation(list(TENSOR_DTYPES))[: rng.integers(1, 7)]
        sent: dict[str, tuple[AnyArray, bool]] = {}
        for name in names:
            choices = [
                key for key, dtype in DATATYPES.items() if dtype in TENSOR_DTYPES[name] and key != "BF16"
            ]
            shape = tuple(rng.integers(0, 4, size=rng.integers(1, 4)))
            datatype = str(rng.choice(choices))
            numbers = np.asarray(rng.normal(size=shape) * 100)
            if name == "mask":
                numbers = (numbers > 0).astype(float)
            array = (np.abs(numbers) if datatype.startswith("U") else numbers).astype(NUMPY[datatype])
            sent[str(name)] = (array, bool(rng.integers(2)))
        data, header = build([given_input(name, *pair) for name, pair in sent.items()])
        body = read(data, header)
        for name, (array, binary) in sent.items():
            if binary:
                assert same_bits(array_of(body.tensors[name], data), array)
            else:
                datatype = "BOOL" if array.dtype == np.bool_ else ""
                assert same_bits(body.arrays[name], array.astype(dtype_in_json(name, datatype)))
        assert set(body.tensors) | set(body.arrays) == set(sent)


MUTATIONS: list[Callable[[random.Random, bytearray], object]] = [
    lambda rng, data: data.__setitem__(rng.randrange(len(data)), rng.randrange(256)),
    lambda rng, data: data.__setitem__(rng.randrange(len(data)), rng.choice(b'[]{}",:0-e.\\ ntf')),
    lambda rng, data: data.insert(rng.randrange(len(data)), rng.choice(b'[]{}",:0-e.\\ ntf')),
    lambda rng, data: data.__delitem__(rng.randrange(len(data))),
    lambda rng, data: data.__delitem__(slice(*sorted(rng.randrange(len(data)) for _ in range(2)))),
    lambda rng, data: data.__iadd__(data[rng.randrange(len(data)) :][:50]),
]


@pytest.mark.parametrize("binary", [True, False])
def test_mutants_are_read_or_refused(binary: bool) -> None:
    rng = random.Random(17)
    logits, asked = LOGITS[:, :2], [InferRequestedOutput("loss", binary_data=binary)]
    body, header = build(
        [given_input("logits", logits, binary), given_input("targets", TARGETS[:, :2], binary)],
        asked, request_id="r", timeout=5, parameters={"alpha": "null", "axis": "0,1"},
    )  # fmt: skip
    assert isinstance(outcome([body], header), Body)
    for _ in range(5000):
        mutant = bytearray(body)
        for _ in range(rng.randint(1, 3)):
            rng.choice(MUTATIONS)(rng, mutant)
        began = time.thread_time()
        result = outcome([bytes(mutant)], header)
        assert time.thread_time() - began < 0.5
        if isinstance(result, Body):  # another parser must find the same
            found = orjson.loads(mutant[:header])
            assert [tensor["name"] for tensor in found["inputs"]] == [*result.tensors, *result.arrays]
            for tensor in found["inputs"] if not binary else ():
                values = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
                np.testing.assert_array_equal(result.arrays[tensor["name"]], values)
            assert (
                sum(tensor.nbytes for tensor in result.tensors.values())
                == len(mutant[header or 0 :]) * binary
            )


def answer(
    result: LossResult, outputs: Sequence[RequestedOutput], request_id: str | None = "a"
) -> tuple[InferResult, bytes, int | None]:
    """Read an answer with Triton's client."""
    written = write_inference(result, model="focal", request_id=request_id, outputs=outputs)
    text = b"".join(written.text)
    body, header = b"".join((text, *written.binary)), len(text) if written.binary else None
    return InferResult.from_response_body(body, header_length=header), body, header


def with_loss(loss: float | Float64Array) -> LossResult:
    return LossResult(**{**{name: getattr(RESULT, name) for name in RESULT.__slots__}, "loss": loss})


@pytest.mark.parametrize("binary", [(True,) * 8, (False,) * 8, (True, False, True, False) * 2])
def test_every_output_as_the_client_reads_it(binary: tuple[bool, ...]) -> None:
    outputs = [RequestedOutput(name, flag) for name, flag in zip(OUTPUTS, binary, strict=True)]
    result, body, header = answer(RESULT, outputs)
    for name, (datatype, _) in OUTPUTS.items():
        array = result.as_numpy(name)
        assert array.tolist() == np.atleast_1d(getattr(RESULT, name)).tolist()
        assert array.dtype == NUMPY[datatype]
        assert result.get_output(name)["datatype"] == datatype
    written = json.loads(body[:header])
    assert [output["name"] for output in written.pop("outputs")] == list(OUTPUTS)
    assert written == {"model_name": "focal", "model_version": "1", "id": "a"}
    assert (header is None) == (not any(binary))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "report", ['{"schema": "lossd.report/1", "\\"n\u00e4me": "\U0001f600"}', "a\u00e9" * 70_000]
)
def test_a_report_is_an_output(binary: bool, report: str) -> None:
    for outputs in (EVERY, ("report",), ("report", "sum")):
        asked = [RequestedOutput(name, binary) for name in outputs]
        written = write_inference(RESULT, model="focal", request_id="a", outputs=asked, report=report)
        text = b"".join(written.text)
        body, header = b"".join((text, *written.binary)), len(text) if written.binary else None
        result = InferResult.from_response_body(body, header_length=header)
        assert [output["name"] for output in result.get_response()["outputs"]] == list(outputs)
        assert result.get_output("report")["datatype"] == "BYTES"
        array = result.as_numpy("report")
        assert array.shape == (1,)
        assert (array[0].decode() if binary else array[0]) == report
        if "sum" in outputs:
            assert result.as_numpy("sum").tolist() == [RESULT.sum]


def test_without_a_report_there_is_no_such_output() -> None:
    for binary in (True, False):
        every = [RequestedOutput(name, binary) for name in EVERY]
        result, _, _ = answer(RESULT, every)
        assert [output["name"] for output in result.get_response()["outputs"]] == list(OUTPUTS)


def test_only_the_outputs_asked_for_in_their_order() -> None:
    outputs = [RequestedOutput("count", True), RequestedOutput("loss", False)]
    result, body, header = answer(RESULT, outputs, request_id=None)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["count", "loss"]
    assert "id" not in result.get_response()
    assert header is not None
    assert body[header:] == np.array([2**53 + 1], dtype="<i8").tobytes()
    assert result.get_output("loss")["data"] == [RESULT.loss]


@pytest.mark.parametrize("binary", [True, False])
@given(
    array=hnp.arrays(
        np.float64, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), elements=st.floats()
    )
)
def test_any_loss_reads_back_to_its_bits(binary: bool, array: Float64Array) -> None:
    canonical = array if binary else np.where(np.isnan(array), np.nan, array)
    for loss in (array, np.asfortranarray(array), array.astype(">f8")):
        found = answer(with_loss(loss), [RequestedOutput("loss", binary)])[0].as_numpy("loss")
        assert same_bits(found, canonical)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, np.array(0.5), 0.1])
def test_a_number_is_an_array_of_one(value: float | Float64Array) -> None:
    for binary in (True, False):
        result, body, header = answer(with_loss(value), [RequestedOutput("loss", binary)])
        np.testing.assert_array_equal(result.as_numpy("loss"), np.array([float(value)]))
        json.loads(body[:header], parse_constant=pytest.fail)


def test_a_large_loss_is_not_copied() -> None:
    loss = np.arange(1000.0).reshape(10, 100)
    outputs = [RequestedOutput("loss", True), RequestedOutput("sum", True)]
    written = write_inference(with_loss(loss), model="bce", request_id=None, outputs=outputs)
    assert len(written.binary) == 2
    assert np.shares_memory(np.frombuffer(written.binary[0], dtype=np.uint8), loss)


def test_a_long_text_is_written_as_it_is_asked_for() -> None:
    loss = np.random.default_rng(3).normal(size=(30, 1001))
    loss[17, 500:600] = np.inf
    outputs = [RequestedOutput(name, False) for name in ("sum", "loss", "count")]
    written = write_inference(with_loss(loss), model="bce", request_id=None, outputs=outputs)
    split_at = list(written.text)
    assert max(map(len, split_at)) < 1 << 17 < sum(map(len, split_at))
    assert not written.binary
    assert same_bits(answer(with_loss(loss), outputs)[0].as_numpy("loss"), loss)
    assert answer(with_loss(loss), outputs)[0].as_numpy("count").tolist() == [RESULT.count]


def test_ids_of_any_characters_come_back() -> None:
    for name in ('é \x00 " \\ \u2028 😀', "", "1" * 5000):
        body = json.dumps({**document(), "id": name}).encode()
        reader, _ = feed([body], None)
        assert reader.request_id == name
        assert answer(RESULT, reader.outputs, reader.request_id)[0].get_response()["id"] == name


def test_what_the_server_and_its_models_say_of_themselves() -> None:
    server = server_metadata("1.2")
    assert (server["name"], server["version"]) == ("lossd", "1.2")
    assert "binary_tensor_data" in str(server["extensions"])
    inputs = [
        ModelInput("logits", "FP32", (-1, -1), optional=False),
        ModelInput("ids", "INT64", (-1,), optional=True),
    ]
    metadata = model_metadata("focal", inputs)
    defaults = {"alpha": 0.25, "axis": None, "variant": "sigmoid", "allow_nan": False}
    config = model_config("focal", inputs, defaults)
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("focal", ["1"], "lossd")
    assert config["parameters"] == {
        "alpha": {"string_value": "0.25"}, "axis": {"string_value": "null"},
        "variant": {"string_value": "sigmoid"}, "allow_nan": {"string_value": "false"},
    }  # fmt: skip
    for kind in ("input", "output"):
        listed, described = metadata[f"{kind}s"], config[kind]
        assert isinstance(listed, list)
        assert isinstance(described, list)
        expected = ["logits", "ids"] if kind == "input" else EVERY
        assert [tensor["name"] for tensor in listed] == list(expected)
        for tensor, entry in zip(listed, described, strict=True):
            assert entry["name"] == tensor["name"]
            datatype = tensor["datatype"].replace("BYTES", "STRING")
            assert entry["data_type"] == f"TYPE_{datatype}"
            assert entry["dims"] == tensor["shape"]
            if kind == "input":
                assert entry["optional"] == (tensor["name"] != "logits")
    json.dumps([server, metadata, config])


def test_the_parameters_of_a_configuration_may_be_sent_as_they_are() -> None:
    defaults = {"alpha": 0.25, "axis": None, "variant": "sigmoid", "allow_nan": False, "list": [1, 2.5]}
    listed = model_config("focal", (), defaults)["parameters"]
    assert isinstance(listed, dict)
    texts = {name: entry["string_value"] for name, entry in listed.items()}
    assert read(json.dumps({**document(), "parameters": texts}).encode()).params == defaults


def test_statistics() -> None:
    figures = [
        ModelFigures(
            model, 1_700_000_000_000, Duration(5, 500), Duration(1, 7), Duration(5, 50), Duration(5, 400)
        )
        for model in ("bce", "focal")
    ]
    stats = model_stats(figures)["model_stats"]
    assert isinstance(stats, list)
    assert [entry["name"] for entry in stats] == ["bce", "focal"]
    assert stats[0]["version"] == "1"
    assert stats[0]["inference_count"] == stats[0]["execution_count"] == 5
    assert stats[0]["last_inference"] == 1_700_000_000_000
    assert stats[0]["inference_stats"]["success"] == {"count": 5, "ns": 500}
    assert stats[0]["inference_stats"]["fail"] == {"count": 1, "ns": 7}
    assert stats[0]["inference_stats"]["queue"] == {"count": 5, "ns": 50}
    assert stats[0]["inference_stats"]["compute_infer"] == {"count": 5, "ns": 400}
    assert stats[0]["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    json.dumps(stats)
