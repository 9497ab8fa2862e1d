from __future__ import annotations

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.types import Body, RequestError
from lossd.wire.json.values import MAX_PARAMETER_BYTES
from lossd.wire.multipart.form import MAX_PART_HEADERS
from lossd.wire.multipart.preamble import MAX_EPILOGUE_BYTES, MAX_PREAMBLE_BYTES
from wire.feeding import AnyArray, array_of, check_error, form, npy, outcome, read, same_bits, split_at

MEDIA = "multipart/form-data"
# Data that begins like the boundary again and again.
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
    check_body(split_at(BODY, range(len(BODY))))


def test_cut_at_every_place() -> None:
    for cut in range(len(BODY)):
        check_body(split_at(BODY, [cut]))


@pytest.mark.parametrize("length", [2, 3, 5, 7, 8, 9, 10, 11, 12])
def test_chunks_of_every_small_length(length: int) -> None:
    for first in range(length):
        check_body(split_at(BODY, range(first, len(BODY), length)))


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    check_body(split_at(BODY, cuts))


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
    for chunks in (split_at(body, cuts), split_at(body, range(len(body)))):
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
    for chunks in ([body], split_at(body, range(0, len(body), 997))):
        found = read(MEDIA, chunks, options={"boundary": boundary})
        assert same_bits(array_of(found.tensors["logits"], body), array)
        assert same_bits(array_of(found.tensors["targets"], body), array)
        assert found.params == {"gamma": 1}


def test_truncated_anywhere() -> None:
    for length in range(len(BODY) - 2):
        result = outcome(MEDIA, [BODY[:length]])
        assert isinstance(result, RequestError)
        assert result.code == "truncated_body", length
    for length in (len(BODY) - 2, len(BODY) - 1):  # the last line end may be missing, or half of it
        assert isinstance(outcome(MEDIA, [BODY[:length]]), Body if length == len(BODY) - 2 else RequestError)


CLOSED = BODY.removesuffix(b"\r\n")
TRAILING = {
    "a letter": b"x",
    "half a line end": b"\r",
    "a line feed": b"\n",
    "hyphens": b"--\r\n",
    "a part of another boundary": b"\r\n--b\r\ncontent-disposition : form-data; name=weight\r\n",
    "another form": b"\r\n" + BODY,
    "another form, further down": b"\r\nend\r\n" + BODY,
    "too much": b"\r\n" + b"x" * MAX_EPILOGUE_BYTES,
    "far too much": b"\r\n" + b"x" * (5 * MAX_EPILOGUE_BYTES),
}


@pytest.mark.parametrize("case", TRAILING)
def test_trailing_bytes(case: str) -> None:
    body = CLOSED + TRAILING[case]
    for chunks in (
        [body],
        [CLOSED, TRAILING[case]],
        split_at(body, range(0, len(body), 1 + len(body) // 2000)),
    ):
        result = outcome(MEDIA, chunks)
        assert isinstance(result, RequestError)
        assert result.code == "trailing_bytes"


@pytest.mark.parametrize(
    "before", [b"\r\n", b"hello\r\n", b"\r\n\r\n--boun\r\n-- bound x\r\n", b"-\n-bound-\r\n"]
)
@pytest.mark.parametrize(
    "after", [b"", b" \t", b"\r\n", b"\t\r\n--boun", b"\r\nThe end.\r\n", b"\r\n\r\n-- bound--"]
)
def test_preambles_and_epilogues_are_passed_over(before: bytes, after: bytes) -> None:
    body = before + CLOSED + after
    check_body([body])
    check_body(split_at(body, range(len(body))))
    check_body([before, CLOSED, after])


def test_a_preamble_is_bounded() -> None:
    check_body([b"x" * (MAX_PREAMBLE_BYTES - 2) + b"\r\n" + BODY])
    for chunks in ([b"x" * (MAX_PREAMBLE_BYTES - 1) + b"\r\n" + BODY], [b"x" * 1000] * 1000):
        result = outcome(MEDIA, chunks)
        assert isinstance(result, RequestError)
        assert result.code == "malformed_multipart"
        assert "none of its first lines is '--bound'" in result.detail


def test_parts_may_be_empty() -> None:
    """Find the closing boundary behind them, too."""
    parts = b"".join(part(name, b"") for name in ("a", "b"))
    for body in (parts + b"--bound--x", BODY.removesuffix(b"--bound--\r\n") + parts + b"--bound--x"):
        for chunks in ([body], split_at(body, range(len(body)))):
            result = outcome(MEDIA, chunks)
            assert isinstance(result, RequestError)
            assert result.code == "invalid_parameter"  # an empty parameter
    empty = form([("logits", npy([]))]).replace(b"--bound--\r\n", part("params", b"{}") + b"--bound--")
    for end, code in ((b"", ""), (b"\r\nbye", ""), (b"x", "trailing_bytes")):
        result = outcome(MEDIA, [empty + end])
        assert (result.code if isinstance(result, RequestError) else "") == code


def part(name: str, text: bytes) -> bytes:
    """Return a part without a file name, as curl -F name=text writes it."""
    return f'--bound\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + text + b"\r\n"


FILES = form([("logits", npy(LOGITS)), ("targets", npy(TARGETS))])


def with_fields(*fields: tuple[str, bytes]) -> bytes:
    """Return a form of two files, with fields of text before and between them."""
    first, second = FILES.split(b"\r\n--bound\r\n")
    between = b"".join(part(*field) for field in fields[1:])
    return part(*fields[0]) + first + b"\r\n" + between + b"--bound\r\n" + second


def test_fields_of_text_are_parameters() -> None:
    fields: list[tuple[str, bytes, object]] = [
        ("gamma", b"2", 2),
        ("alpha", b"null", None),
        ("reduction", b"sum", "sum"),
        ("pos_weight", b"1,2.5", [1, 2.5]),
        ("axis", b"[0, -1]", [0, -1]),
        ("allow_nan", b" true\n", True),
        ("ignore_index", b"nan", "nan"),
        ("gama", "\u00e9".encode(), "\u00e9"),
    ]
    body = with_fields(*[(name, text) for name, text, _ in fields])
    for chunks in ([body], split_at(body, range(len(body))), split_at(body, range(0, len(body), 37))):
        found = read(MEDIA, chunks)
        assert found.params == {name: value for name, _, value in fields}
        assert same_bits(array_of(found.tensors["logits"], body), LOGITS)
        assert same_bits(array_of(found.tensors["targets"], body), TARGETS)


def test_pos_weight_may_be_a_file_and_a_field() -> None:
    weights = np.array([1.0, 2.0])
    for body in (form([("pos_weight", npy(weights))]), part("pos_weight", npy(weights)) + b"--bound--"):
        for chunks in ([body], split_at(body, range(len(body)))):
            found = read(MEDIA, chunks)
            assert same_bits(array_of(found.tensors["pos_weight"], body), weights)
            assert found.params == {}
    assert read(MEDIA, [part("pos_weight", b"2") + b"--bound--"]).params == {"pos_weight": 2}
    assert isinstance(outcome(MEDIA, [form([("pos_weight", b"2")])]), RequestError)  # not a .npy file


def test_a_field_may_come_beside_params() -> None:
    params = part("params", b'{"gamma": 2}')
    assert read(MEDIA, [params + part("alpha", b"0.5") + b"--bound--"]).params == {"gamma": 2, "alpha": 0.5}
    for parts in ((params, part("gamma", b"2")), (part("gamma", b"2"), params)):
        result = outcome(MEDIA, [b"".join(parts) + b"--bound--"])
        assert isinstance(result, RequestError)
        assert result.code == "invalid_parameter"
        assert "'gamma' is given both in the part params and as a part" in result.detail


def test_what_python_multipart_says_is_not_repeated() -> None:
    for case, words in (
        ("no colon", "a part has a line among its headers that is no header"),
        ("many headers", "more than 8 headers"),
        ("a long header", "a header of more than 4096 bytes"),
    ):
        result = outcome(MEDIA, [BAD[case][0]])
        assert isinstance(result, RequestError)
        assert words in result.detail
        assert "Content-Disposition" in BAD[case][0].decode("latin-1")
        at = int(result.detail.rpartition("at byte ")[2].partition(";")[0])
        assert 0 < at < len(BAD[case][0])
    result = outcome(MEDIA, [BODY.replace(b"\r\n--bound\r\n", b"\r\n--bound x\r\n", 1)])
    assert isinstance(result, RequestError)
    assert "the line of a boundary goes on, at byte" in result.detail


@pytest.mark.parametrize(
    "text", [b"x.npy", b"x", b"", b"/somewhere/preds/" + b"x" * 200 + b".npy", b"[[1, 2]]"]
)
@pytest.mark.parametrize("name", ["logits", "targets", "weight", "mask"])
def test_a_file_without_its_at_sign_gets_a_hint(name: str, text: bytes) -> None:
    body = part(name, text) + b"--bound--"
    for chunks in ([body], split_at(body, range(len(body)))):
        result = outcome(MEDIA, chunks)
        assert isinstance(result, RequestError)
        assert result.code == "malformed_npy"
        assert f"curl -F {name}=@FILE.npy" in result.detail
        assert text[:10].decode() in result.detail
        assert result.errors[0][0] == f"/{name}"


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
    "no line begins with the boundary": (b"hello --bound\r\n" + BODY[9:], "malformed_multipart"),
    "a first boundary of a line feed": (BODY.replace(b"--bound\r\n", b"--bound\n", 1), "malformed_multipart"),
    "a part of another boundary": (BODY.replace(b"--bound\r\n", b"--bounds\r\n", 1), "malformed_multipart"),
    "a part before all boundaries": (b"\r\n".join(BODY.split(b"\r\n")[1:]), "malformed_multipart"),
    "a first boundary that goes on": (
        BODY.replace(b"--bound\r\n", b"--bound x\r\n", 1),
        "malformed_multipart",
    ),
    "a .npy as a field": (part("weigth", npy(LOGITS)) + b"--bound--", "unknown_tensor"),
    "a field that is not UTF-8": (part("gamma", b"\xff") + b"--bound--", "invalid_parameter"),
    "a field that is not finite": (part("gamma", b"NaN") + b"--bound--", "invalid_parameter"),
    "a field cut short": (part("alpha", b"[1, 2") + b"--bound--", "invalid_parameter"),
    "a long field": (part("alpha", b"1" * (MAX_PARAMETER_BYTES + 1)) + b"--bound--", "invalid_parameter"),
    "a long text for a tensor": (part("logits", b"1" * 5_000_000) + b"--bound--", "malformed_npy"),
    "a field twice": (part("gamma", b"1") * 2 + b"--bound--", "malformed_multipart"),
    "many fields": (b"".join(part(f"f{n}", b"1") for n in range(101)) + b"--bound--", "malformed_multipart"),
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
    ways = [[body], split_at(body, range(0, len(body), 17))]
    if len(body) < 10_000:
        ways.append(split_at(body, range(len(body))))
    for chunks in ways:
        result = outcome(MEDIA, chunks)
        assert isinstance(result, RequestError)
        assert result.code == code


def test_an_unknown_part_gets_a_hint() -> None:
    result = outcome(MEDIA, [BAD["unknown part"][0]])
    assert isinstance(result, RequestError)
    assert "did you mean logits?" in result.detail
    assert result.errors[0][0] == "/logit"


@pytest.mark.parametrize("boundary", ["", "a\r\nb", "ends in space ", "x" * 71, "é", 'quo"te'])
def test_bad_boundaries(boundary: str) -> None:
    for options in ({"boundary": boundary}, {}):
        with pytest.raises(RequestError) as caught:
            read(MEDIA, [], options=options)
        assert caught.value.code == "malformed_multipart"
        check_error(caught.value)


@pytest.mark.parametrize("boundary", ["x", "x" * 70, "a b'()+_,./:=?-z"])
def test_good_boundaries(boundary: str) -> None:
    body = form(PARTS, boundary)
    found = read(MEDIA, split_at(body, range(len(body))), options={"boundary": boundary})
    assert same_bits(array_of(found.tensors["targets"], body), TARGETS)


def test_empty_arrays_and_padding_after_a_boundary() -> None:
    body = form([("logits", npy([])), ("targets", npy([]))]).replace(
        b"\r\n--bound\r\n", b"\r\n--bound \t\r\n"
    )
    for chunks in ([body], split_at(body, range(len(body)))):
        assert [tensor.shape for tensor in read(MEDIA, chunks).tensors.values()] == [(0,), (0,)]


@given(st.data())
def test_mutants_are_read_or_refused_however_cut(data: st.DataObject) -> None:
    mutant = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        mutant[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    cuts = data.draw(st.lists(st.integers(0, len(mutant)), max_size=6))
    whole, cut = outcome(MEDIA, [bytes(mutant)]), outcome(MEDIA, split_at(bytes(mutant), cuts))
    assert isinstance(whole, Body) == isinstance(cut, Body)
    if isinstance(whole, Body):
        assert whole == cut
