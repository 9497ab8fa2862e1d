from __future__ import annotations

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.request import Body, Fault
from lossd.wire.multipart import MAX_PART_HEADERS
from lossd.wire.values import MAX_PARAMETER_BYTES
from wire.feeding import AnyArray, array_of, check_fault, form, npy, outcome, pieces, read, same_bits

MEDIA = "multipart/form-data"
# Data that sets out to be the boundary, again and again, and is not.
TRICKY = (
    b"\r\n--bound\r\r\n--boun\r\n--bound-\r\n\r\n--bound-X\r\n--boundX\r\r\r\n-\r\n--bound\rX--bound--\r\n-"
)
LOGITS = np.array([1.5, -2.0, np.nan])
TARGETS = np.frombuffer(TRICKY, dtype=np.uint8)
PARTS = [("logits", npy(LOGITS)), ("params", b'{"gamma": 2, "alpha": null}'), ("targets", npy(TARGETS))]
BODY = form(PARTS)
SMALL = form([("targets", npy(TARGETS))])


def check_body(chunks: list[bytes]) -> None:
    body = read(MEDIA, chunks)
    data = b"".join(chunks)
    assert list(body.tensors) == ["logits", "targets"]
    assert same_bits(array_of(body.tensors["logits"], data), LOGITS)
    assert same_bits(array_of(body.tensors["targets"], data), TARGETS)
    assert body.params == {"gamma": 2, "alpha": None}
    assert body.arrays == {}


def test_whole_and_byte_by_byte() -> None:
    check_body([BODY])
    check_body(pieces(BODY, range(len(BODY))))


def test_cut_at_every_place() -> None:
    for cut in range(len(BODY)):
        check_body(pieces(BODY, [cut]))


@pytest.mark.parametrize("length", [2, 3, 5, 7, 8, 9, 10, 11, 12])
def test_chunks_of_every_small_length(length: int) -> None:
    for first in range(length):
        check_body(pieces(BODY, range(first, len(BODY), length)))


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    check_body(pieces(BODY, cuts))


NEARLY = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"x", b"\r\n--", b"bound", b"\r\n--bound", b"\r\n--boun", b"\r\n--bound-"]
    ),
    max_size=12,
).map(b"".join)


@given(NEARLY, st.lists(st.integers(0, 400), max_size=8))
def test_data_like_a_boundary(data: bytes, cuts: list[int]) -> None:
    array = np.frombuffer(data, dtype=np.uint8)
    body = form([("targets", npy(array))])
    inside = body[body.index(b"\x93NUMPY") : body.rindex(b"--bound--")]
    if any(inside.find(b"\r\n--bound" + end) >= 0 for end in (b"\r\n", b"--", b" ", b"\t")):
        return  # it is one
    for chunks in (pieces(body, cuts), pieces(body, range(len(body)))):
        tensor = read(MEDIA, chunks).tensors["targets"]
        assert same_bits(array_of(tensor, body), array)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "|b1", "<i8"])
def test_what_httpx_sends(dtype: str) -> None:
    array: AnyArray = np.arange(2000).reshape(40, 50).astype(dtype)
    files: dict[str, bytes | tuple[str, bytes]] = {
        "logits": ("x.npy", npy(array)),
        "targets": npy(np.asfortranarray(array)),
        "params": b'{"gamma": 1}',
    }
    request = httpx.Request("POST", "http://test", files=files)
    body = request.read()
    boundary = request.headers["content-type"].partition("boundary=")[2]
    for chunks in ([body], pieces(body, range(0, len(body), 997))):
        found = read(MEDIA, chunks, options={"boundary": boundary})
        assert same_bits(array_of(found.tensors["logits"], body), array)
        assert same_bits(array_of(found.tensors["targets"], body), array)
        assert found.params == {"gamma": 1}


def test_truncated_anywhere() -> None:
    for length in range(len(BODY) - 2):
        result = outcome(MEDIA, [BODY[:length]])
        assert isinstance(result, Fault)
        assert result.code == "truncated_body", length
    for length in (len(BODY) - 2, len(BODY) - 1):  # the last line end may be missing, or half of it
        assert isinstance(outcome(MEDIA, [BODY[:length]]), Body if length == len(BODY) - 2 else Fault)


@pytest.mark.parametrize("extra", [b"x", b"\r\n", b"\r\nx", BODY])
def test_trailing_bytes(extra: bytes) -> None:
    for chunks in ([BODY + extra], [BODY, extra], pieces(BODY + extra, range(len(BODY + extra)))):
        result = outcome(MEDIA, chunks)
        assert isinstance(result, Fault)
        assert result.code == "trailing_bytes"


def with_header(header: str, data: bytes = npy(LOGITS)) -> bytes:
    return b"--bound\r\n" + header.encode("latin-1") + b"\r\n\r\n" + data + b"\r\n--bound--\r\n"


NAMED = 'Content-Disposition: form-data; name="logits"'
BAD: dict[str, tuple[bytes, str]] = {
    "unknown part": (form([("logit", npy(LOGITS))]), "unknown_tensor"),
    "a parameter as a part": (form([("gamma", b"2")]), "unknown_tensor"),
    "a part twice": (form([PARTS[0], PARTS[0]]), "malformed_multipart"),
    "params twice": (form([("params", b"{}"), ("params", b"{}")]), "malformed_multipart"),
    "short": (form([("logits", npy(LOGITS)[:-1])]), "truncated_body"),
    "short header": (form([("logits", npy(LOGITS)[:70])]), "truncated_body"),
    "no data": (form([("logits", b"")]), "truncated_body"),
    "long": (form([("logits", npy(LOGITS) + b"\x00")]), "trailing_bytes"),
    "two files in a part": (form([("logits", npy(LOGITS) * 2)]), "trailing_bytes"),
    "not .npy": (form([("logits", b"1.5\n2.5\n")]), "malformed_npy"),
    "objects": (form([("logits", npy(np.array([None])))]), "dtype_not_allowed"),
    "params no JSON": (form([("params", b"gamma=2")]), "malformed_json"),
    "params no object": (form([("params", b"[2]")]), "malformed_json"),
    "params empty": (form([("params", b"")]), "malformed_json"),
    "params with NaN": (form([("params", b'{"gamma": NaN}')]), "malformed_json"),
    "params overflow": (form([("params", b'{"gamma": 1e999}')]), "malformed_json"),
    "params with a long integer": (form([("params", b'{"gamma": ' + b"9" * 5000 + b"}")]), "malformed_json"),
    "params with a name twice": (form([("params", b'{"a": 1, "a": 1}')]), "malformed_json"),
    "params no UTF-8": (form([("params", b'{"a": "\xff"}')]), "malformed_json"),
    "params with half a pair": (form([("params", b'{"a": "\\ud800"}')]), "malformed_json"),
    "params nested": (form([("params", b"[" * 100_000)]), "malformed_json"),
    "params long": (form([("params", b"{" + b" " * MAX_PARAMETER_BYTES + b"}")]), "malformed_json"),
    "no parts": (b"--bound--\r\n", "malformed_multipart"),
    "another boundary": (form(PARTS, "other"), "malformed_multipart"),
    "a preamble": (b"\r\nhello --bound\r\n" + BODY, "malformed_multipart"),
    "no colon": (with_header("Content-Disposition"), "malformed_multipart"),
    "a line end alone": (with_header(NAMED + "\rX: y"), "malformed_multipart"),
    "no name": (with_header("Content-Disposition: form-data"), "malformed_multipart"),
    "no disposition": (with_header("Content-Type: text/plain"), "malformed_multipart"),
    "two dispositions": (with_header(NAMED + "\r\n" + NAMED), "malformed_multipart"),
    "an attachment": (with_header('Content-Disposition: attachment; name="logits"'), "malformed_multipart"),
    "name no UTF-8": (with_header('Content-Disposition: form-data; name="\xff"'), "malformed_multipart"),
    "base64": (with_header(NAMED + "\r\nContent-Transfer-Encoding: base64"), "malformed_multipart"),
    "many headers": (with_header(NAMED + "\r\nX: y" * MAX_PART_HEADERS), "malformed_multipart"),
    "a long header": (with_header(NAMED + "\r\nX: " + "y" * 5000), "malformed_multipart"),
    "many parts": (form([(f"part{i}", b"") for i in range(1000)]), "unknown_tensor"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_forms(case: str) -> None:
    body, code = BAD[case]
    ways = [[body], pieces(body, range(0, len(body), 17))]
    if len(body) < 10_000:
        ways.append(pieces(body, range(len(body))))
    for chunks in ways:
        result = outcome(MEDIA, chunks)
        assert isinstance(result, Fault)
        assert result.code == code


def test_an_unknown_part_gets_a_hint() -> None:
    result = outcome(MEDIA, [BAD["unknown part"][0]])
    assert isinstance(result, Fault)
    assert "did you mean logits?" in result.detail
    assert result.errors[0][0] == "/logit"


@pytest.mark.parametrize("boundary", ["", "a\r\nb", "ends in space ", "x" * 71, "é", 'quo"te'])
def test_bad_boundaries(boundary: str) -> None:
    for options in ({"boundary": boundary}, {}):
        with pytest.raises(Fault) as caught:
            read(MEDIA, [], options=options)
        assert caught.value.code == "malformed_multipart"
        check_fault(caught.value)


@pytest.mark.parametrize("boundary", ["x", "x" * 70, "a b'()+_,./:=?-z"])
def test_good_boundaries(boundary: str) -> None:
    body = form(PARTS, boundary)
    found = read(MEDIA, pieces(body, range(len(body))), options={"boundary": boundary})
    assert same_bits(array_of(found.tensors["targets"], body), TARGETS)


def test_empty_arrays_and_padding_after_a_boundary() -> None:
    body = form([("logits", npy([])), ("targets", npy([]))]).replace(
        b"\r\n--bound\r\n", b"\r\n--bound \t\r\n"
    )
    for chunks in ([body], pieces(body, range(len(body)))):
        assert [tensor.shape for tensor in read(MEDIA, chunks).tensors.values()] == [(0,), (0,)]


@given(st.data())
def test_mutants_are_read_or_refused_however_cut(data: st.DataObject) -> None:
    mutant = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        mutant[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    cuts = data.draw(st.lists(st.integers(0, len(mutant)), max_size=6))
    whole, cut = outcome(MEDIA, [bytes(mutant)]), outcome(MEDIA, pieces(bytes(mutant), cuts))
    assert isinstance(whole, Body) == isinstance(cut, Body)
    if isinstance(whole, Body):
        assert whole == cut
