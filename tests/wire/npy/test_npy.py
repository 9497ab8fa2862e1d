from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd.types import RequestError
from lossd.wire.npy.npy import MAX_HEADER_BYTES, NpyParser
from wire.feeding import AnyArray, array_of, check_error, npy, outcome, read, same_bits, split_at

MEDIA = "application/x-npy"
DTYPES = [
    "|b1", "|u1", "|i1",
    *(order + code for order in "<>" for code in ("f2", "f4", "f8", "u2", "u4", "u8", "i2", "i4", "i8")),
]  # fmt: skip
LOGITS = np.array([[0.5, -1.25, np.inf], [3.0, -0.0, 1e-40]], dtype=np.float32)
TARGETS = np.array([[True, False, True], [False, False, True]])
BODY = npy(LOGITS) + npy(TARGETS)


def headed(header: str | bytes, version: bytes = b"\x01\x00", data: bytes = b"") -> bytes:
    text = header.encode("latin-1") if isinstance(header, str) else header
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + data


def described(descr: str = "'<f4'", fortran: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def parse(data: bytes) -> NpyParser:
    parser = NpyParser("logits", 0)
    assert parser.feed(data) == len(data)
    return parser


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3), (1, 2, 1, 2, 1, 2, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_saves_is_read(dtype: str, shape: tuple[int, ...], order: str) -> None:
    array = (
        np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype, order="F" if order == "F" else "C")
    )
    data = npy(array)
    tensor = parse(data).finish()
    assert same_bits(array_of(tensor, data), array)
    assert tensor.offset % 64 == 0
    assert tensor.nbytes == array.nbytes


@pytest.mark.parametrize("descr", ["V2", "|V2", "<V2"])
def test_two_bytes_of_no_type_are_bfloat16(descr: str) -> None:
    tensor = parse(headed(described(f"'{descr}'"), data=b"\x80\x3f\x00\xc0")).finish()
    assert (tensor.dtype, tensor.shape, tensor.big_endian) == ("bfloat16", (2,), False)


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
@pytest.mark.parametrize(
    "header",
    [
        described(),
        "{'shape':(2,),'fortran_order':False,'descr':'<f4'}",
        '{ "descr" : "<f4" ,\n "shape" : ( 2 , ) ,\t"fortran_order" : False }   \n',
    ],
)
def test_every_version_order_and_spacing(version: bytes, header: str) -> None:
    tensor = parse(headed(header, version, bytes(8))).finish()
    assert (tensor.dtype, tensor.shape, tensor.fortran) == ("float32", (2,), False)
    assert tensor.offset == len(headed(header, version))


BAD = {
    "empty magic": (b"\x00" * 20, "malformed_npy"),
    "pickle": (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00", "malformed_npy"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "malformed_npy"),
    "version": (b"\x93NUMPY\x04\x00\x10\x00", "malformed_npy"),
    "length 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "malformed_npy"),
    "length over the limit": (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", MAX_HEADER_BYTES + 1),
        "malformed_npy",
    ),
    "length zero": (b"\x93NUMPY\x01\x00\x00\x00", "malformed_npy"),
    "not ASCII": (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (\xb2,), }"), "malformed_npy"),
    "nested parens": (headed(described(shape="(" * 4000 + ")" * 4000)), "malformed_npy"),
    "nested braces": (headed("{" * 9000), "malformed_npy"),
    "code": (headed("__import__('os').system('true')"), "malformed_npy"),
    "code in a dict": (headed(described(shape="(__import__('os'),)")), "malformed_npy"),
    "a key more": (headed("{'descr':'<f4','fortran_order':False,'shape':(2,),'x':1}"), "malformed_npy"),
    "a key less": (headed("{'descr': '<f4', 'fortran_order': False}"), "malformed_npy"),
    "a key twice": (headed("{'descr': '<f4', 'shape': (2,), 'shape': (2,)}"), "malformed_npy"),
    "no comma": (headed("{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}"), "malformed_npy"),
    "after the dict": (headed(described() + "x"), "malformed_npy"),
    "not closed": (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)"), "malformed_npy"),
    "empty": (headed("  \n"), "malformed_npy"),
    "not a dict": (headed("[]"), "malformed_npy"),
    "shape a number": (headed(described(shape="2")), "malformed_npy"),
    "shape a number in parens": (headed(described(shape="(2)")), "malformed_npy"),
    "shape a list": (headed(described(shape="[2]")), "malformed_npy"),
    "negative": (headed(described(shape="(-1,)")), "malformed_npy"),
    "leading zero": (headed(described(shape="(02,)")), "malformed_npy"),
    "order a number": (headed(described(fortran="0")), "malformed_npy"),
    "descr a number": (headed(described("4")), "malformed_npy"),
    "descr escaped": (headed(described(r"'<f4\x00'")), "malformed_npy"),
    "9 dimensions": (headed(described(shape="(1,1,1,1,1,1,1,1,1)")), "bad_shape"),
    "4,000 dimensions": (headed(described(shape="(" + "1," * 4000 + ")")), "bad_shape"),
    "2^63": (headed(described("'|u1'", shape=f"({2**63},)")), "bad_shape"),
    "bytes past 2^63": (headed(described(shape=f"({2**61},)")), "bad_shape"),
    "product past 2^63": (headed(described(shape=f"({2**40}, {2**40})")), "bad_shape"),
    "product past 2^63 but for a zero": (headed(described(shape=f"(0, {2**40}, {2**40})")), "bad_shape"),
    "a number of 9,000 digits": (headed(described(shape="(" + "9" * 9000 + ",)")), "bad_shape"),
    "objects": (headed(described("'|O'")), "dtype_not_allowed"),
    "structured": (headed(described("[('a', '<f4'), ('b', '<i8')]")), "dtype_not_allowed"),
    "subarray": (headed(described("('<f4', (2,))")), "dtype_not_allowed"),
    **{
        f"dtype {descr}": (headed(described(f"'{descr}'")), "dtype_not_allowed")
        for descr in [
            "<f16", "<c8", "<u16", "=u2", "|S4", "<U4", "<M8[s]", "=f4", "|f4", "f4", "<u1", ">V2",
            "V4", "",
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_headers(case: str) -> None:
    data, code = BAD[case]
    for chunks in ([data], split_at(data, range(len(data)))):
        with pytest.raises(RequestError) as caught:
            read(MEDIA, chunks)
        assert caught.value.code == code
        assert "logits" in caught.value.detail
        check_error(caught.value)


def test_saved_objects_are_never_unpickled() -> None:
    array = np.empty(1, dtype=object)
    array[0] = print
    result = outcome(MEDIA, [npy(array)])
    assert isinstance(result, RequestError)
    assert result.code == "dtype_not_allowed"
    assert "never unpickled" in result.detail


def test_the_largest_shapes_are_only_described() -> None:
    parser = parse(headed(described("'|u1'", shape=f"({2**63 - 1},)")))
    assert parser.wanted == 2**63 - 1
    with pytest.raises(RequestError, match=r"0 of 9223372036854775807 bytes"):
        parser.finish()


def check_body(chunks: list[bytes]) -> None:
    body = read(MEDIA, chunks)
    data = b"".join(chunks)
    assert list(body.tensors) == ["logits", "targets"]
    assert same_bits(array_of(body.tensors["logits"], data), LOGITS)
    assert same_bits(array_of(body.tensors["targets"], data), TARGETS)
    assert body.arrays == {}
    assert body.params == {}


def test_whole_and_byte_by_byte() -> None:
    check_body([BODY])
    check_body(split_at(BODY, range(len(BODY))))


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_cut_anywhere(cuts: list[int]) -> None:
    check_body(split_at(BODY, cuts))


def test_truncated_anywhere() -> None:
    for length in range(len(BODY)):
        result = outcome(MEDIA, [BODY[:length]])
        assert isinstance(result, RequestError)
        assert result.code == "truncated_body"
        assert result.errors[0][0] == ("/logits" if length < len(npy(LOGITS)) else "/targets")


def test_truncation_says_how_much_came() -> None:
    with pytest.raises(RequestError, match=r"targets is bool \[2, 3\], but only 4 of 6 bytes came"):
        read(MEDIA, [BODY[:-2]])
    with pytest.raises(RequestError, match=r"ends before targets: 1 of 2 arrays came"):
        read(MEDIA, [npy(LOGITS)])


@pytest.mark.parametrize("extra", [b"\x00", b"\n", npy(LOGITS)])
def test_trailing_bytes(extra: bytes) -> None:
    for chunks in ([BODY + extra], [BODY, extra]):
        with pytest.raises(RequestError, match=rf"from byte {len(BODY)} on") as caught:
            read(MEDIA, chunks)
        assert caught.value.code == "trailing_bytes"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["logits", "target"], "unknown_tensor"),
        (["x" * 10_000], "unknown_tensor"),
        (["logits", "logits"], "invalid_parameter"),
        ([], "invalid_parameter"),
    ],
)
def test_names_that_make_no_sense(names: list[str], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(MEDIA, [], names)
    assert caught.value.code == code
    check_error(caught.value)
    if names[-1:] == ["target"]:
        assert "did you mean targets?" in caught.value.detail


def test_zero_size_arrays_follow_each_other() -> None:
    data = npy(np.empty((0, 3))) + npy(np.empty((0, 3)))
    assert [tensor.shape for tensor in read(MEDIA, [data]).tensors.values()] == [(0, 3), (0, 3)]


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(code) for code in DTYPES]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_any_array_bit_for_bit(array: AnyArray) -> None:
    data = npy(array)
    tensor = read(MEDIA, [data], ["targets"]).tensors["targets"]
    assert same_bits(array_of(tensor, data), array)


@given(st.data())
def test_mutants_are_read_or_refused(data: st.DataObject) -> None:
    mutant = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 4))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    outcome(MEDIA, [bytes(mutant)])
