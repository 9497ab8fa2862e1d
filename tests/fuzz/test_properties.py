"""Bodies built field by field, right or wrong: they are read as independent readers do, or refused."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from dataclasses import replace
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fuzz.corpus import CODINGS, Sample, corpus, query, spelled
from fuzz.reading import Found, outcome
from fuzz.witness import confirm
from lossd.types import TENSOR_DTYPES, RequestError
from lossd.wire import parse_query
from lossd.wire.inference.objects import DATATYPES
from wire.feeding import BOUNDARY, check_error, npy

EXAMPLES = settings(max_examples=200)


One = TypeVar("One")
Other = TypeVar("Other")

WIDTHS = {"BF16": "u2", **{name: dtype for name, dtype in DATATYPES.items() if dtype != "bfloat16"}}


def mostly(right: st.SearchStrategy[One], wrong: st.SearchStrategy[Other]) -> st.SearchStrategy[One | Other]:
    """Draw a right value nine times out of ten, so that many fields are often right together."""
    return st.sampled_from([right] * 9 + [wrong]).flatmap(lambda chosen: chosen)


def check(sample: Sample) -> Found | RequestError:
    """Read a body whole, in chunks, and with an independent reader."""
    whole = outcome(sample, [sample.body])
    confirm(sample, whole, range(0, len(sample.body), 7))
    return whole


JUNK = st.binary(max_size=20)
TEXTS = st.text(max_size=6) | st.sampled_from(["logits.npy", "Logits", "x" * 200, "\u00e9", "../targets"])
NAMES = mostly(st.sampled_from([*TENSOR_DTYPES]), TEXTS)
DTYPES = ["|b1", "|u1", "|i1"] + [
    order + code for order in "<>" for code in ("f2", "f4", "f8", "u2", "u4", "u8", "i2", "i4", "i8")
]
ARRAYS = hnp.arrays(
    st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
)

SPACES = st.sampled_from(["", " ", "\n", "\t ", "  "])
DESCRS = mostly(
    st.sampled_from([("'<f4'", 4), ('"<f8"', 8), ("'|b1'", 1), ("'>i2'", 2), ("'V2'", 2)]),
    st.sampled_from(["'f4'", "'|O'", "'<c8'", "[('a', '<f4')]", "None", "'<f4", "b'<f4'", "'=f4'", "''"]).map(
        lambda text: (text, 4)
    ),
)
ORDERS = mostly(
    st.sampled_from(["False", "True"]), st.sampled_from(["0", "false", "None", "Falsee", "not True"])
)
SHAPES = mostly(
    st.lists(st.integers(0, 3), max_size=4).map(lambda shape: (repr(tuple(shape)), math.prod(shape))),
    st.sampled_from(["(2)", "[2]", "2", "(2, 1,)", "(-2,)", "(2L,)", "(02,)", "(2.0,)", "(True,)", "(,)"])
    .map(lambda text: (text, 2))
    | st.lists(st.integers(0, 2**70), max_size=10).map(lambda shape: (repr(tuple(shape)), 0)),
)  # fmt: skip


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    """Draw a .npy file, any of whose fields may be wrong."""
    (descr, itemsize), (shape, count) = draw(DESCRS), draw(SHAPES)
    given_fields = [("'descr'", descr), ("'fortran_order'", draw(ORDERS)), ('"shape"', shape)]
    fields = draw(st.permutations(given_fields))
    fields = draw(
        mostly(st.just(fields), st.sampled_from([fields[1:], fields + fields[:1], [*fields, ("'x'", "1")]]))
    )
    items = [draw(SPACES) + key + draw(SPACES) + ":" + draw(SPACES) + value for key, value in fields]
    end = draw(mostly(st.sampled_from(["}", ",}", " , }"]), st.sampled_from(["", ",,}", "}}", "} + {}"])))
    header = ("{" + ",".join(items) + end + draw(SPACES) + "\n").encode()
    version = draw(
        mostly(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00"]), st.binary(min_size=2, max_size=2))
    )
    length = len(header) + draw(mostly(st.just(0), st.integers(-9, 9)))
    head = b"\x93NUMPY" + version + struct.pack("<H" if version == b"\x01\x00" else "<I", length) + header
    return head + bytes(count * itemsize)


@EXAMPLES
@given(st.lists(npy_files(), min_size=1, max_size=2), mostly(st.just(b""), JUNK))
def test_npy(files: list[bytes], rest: bytes) -> None:
    names = ",".join(["logits", "targets"][: len(files)])
    check(Sample("", "npy", b"".join(files) + rest, query=query({"tensors": names})))


FILES = mostly(ARRAYS.map(npy), npy_files() | JUNK)


def saved(array: npt.NDArray[Any]) -> bytes:
    """Write a member that is no tensor, as np.savez does."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SAVED = st.sampled_from(
    [
        np.array({"epoch": 3}, dtype=object), np.array(["cat", "dog"]), np.array([b"a"] * 30),
        np.array(["2024-05-01"], "M8[D]"), np.zeros(2, [("x", "f4")]),
    ]
).map(saved)  # fmt: skip


class Unseekable(io.BytesIO):
    """File for a zip that is written as a stream, with sizes behind the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


@st.composite
def zip_files(draw: st.DrawFn) -> bytes:
    """Draw a zip by zipfile, with a field that is sometimes changed."""
    file = draw(st.sampled_from([io.BytesIO, Unseekable]))()
    others = st.sampled_from(["meta", "class names", "paths", "weigth"])
    names = draw(st.lists((NAMES | others).map(lambda name: f"{name}.npy"), max_size=4, unique=True))
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            method = draw(
                mostly(
                    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.just(zipfile.ZIP_BZIP2)
                )
            )
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            member.extra = draw(st.sampled_from([b"", b"\x99\x99\x02\x00ab", b"\x99\x99\x09"]))
            member.comment = draw(JUNK)
            with archive.open(member, "w", force_zip64=draw(st.booleans())) as opened:
                opened.write(
                    draw(mostly(FILES, SAVED) if name[:-4] in TENSOR_DTYPES else mostly(SAVED, FILES))
                )
        archive.comment = draw(JUNK)
    body = bytearray(file.getvalue())
    if draw(st.booleans()):
        signature = draw(st.sampled_from([b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x07\x08"]))
        record = body.find(signature)
        offset, number = draw(st.integers(4, 44)), draw(st.sampled_from([0, 1, 8, 9, 0xFFFF, 0xFFFFFFFF]))
        if 0 <= record < len(body) - 48:
            width = 2 if number <= 0xFFFF else 4
            body[record + offset : record + offset + width] = number.to_bytes(width, "little")
    return bytes(body) + draw(mostly(st.just(b""), JUNK))


@EXAMPLES
@given(zip_files())
def test_npz(body: bytes) -> None:
    check(Sample("", "npz", body))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
PARAMS = st.dictionaries(
    mostly(st.sampled_from(["gamma", "alpha", "axis", "reduction", "class_axis", "normalizer"]), TEXTS),
    mostly(st.sampled_from([0, 1, -1, [0, -1], "sum", "count", 0.5]), VALUES),
    max_size=3,
)


FIELDS = mostly(
    st.sampled_from([b"2", b"null", b"sum", b"1,2", b"[0.5, 1]", b" 1\n", b'"none"']), JUNK | st.just(b"NaN")
)


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Draw a form that more or less follows RFC 7578."""
    end = draw(mostly(st.just(b"\r\n"), st.sampled_from([b"\n", b"\r", b"\r\n "])))
    body = draw(mostly(st.just(b""), JUNK.map(lambda junk: junk + b"\r\n")))
    fields = st.sampled_from(["gamma", "alpha", "pos_weight", "params", "reduction"])
    for name in draw(st.lists(NAMES | fields, max_size=4, unique=True)):
        kind = draw(mostly(st.just("form-data"), st.sampled_from(["attachment", "", "form-data;;"])))
        quoted = draw(
            mostly(st.just(f'"{name}"'), st.sampled_from([name, f'"{name}', f"'{name}'", f'"\\{name}"']))
        )
        lines = [f"Content-Disposition: {kind}; name={quoted}"]
        lines[0] += draw(st.sampled_from(["", f'; filename="{name}.npy"', "; filename*=utf-8''a", ";"]))
        others = ["content-type: application/octet-stream", "X: y", "Content-Transfer-Encoding: binary"]
        wrong = ["Content-Transfer-Encoding: base64", lines[0], ": x", "x", " folded", "X" * 5000 + ": y"]
        lines += draw(st.lists(mostly(st.sampled_from(others), st.sampled_from(wrong)), max_size=2))
        data = json.dumps(draw(PARAMS)).encode() if name == "params" else draw(mostly(FILES, FIELDS))
        if name in ("gamma", "alpha", "reduction"):
            data = draw(mostly(FIELDS, FILES))
        head = end.join(line.encode() for line in draw(st.permutations(lines)))
        body += f"--{BOUNDARY}".encode() + end + head + end + end + data + end
    closing = f"--{BOUNDARY}--".encode()
    return body + draw(
        mostly(st.sampled_from([closing, closing + b"\r\n"]), JUNK | JUNK.map(lambda junk: closing + junk))
    )


@EXAMPLES
@given(forms())
def test_multipart(body: bytes) -> None:
    check(Sample("", "multipart", body))


NUMBERS: list[pa.DataType] = [
    pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.int8(), pa.int16(), pa.int32(), pa.int64(),
]  # fmt: skip
OTHERS: list[pa.DataType] = [
    pa.null(), pa.string(), pa.binary(), pa.date32(), pa.binary(4),
    pa.timestamp("us"), pa.decimal128(5), pa.list_(pa.float32()), pa.large_list(pa.float32()),
    pa.struct([("a", pa.float32())]), pa.dictionary(pa.int8(), pa.string()), pa.list_view(pa.int8()),
    pa.dictionary(pa.int8(), pa.float32()), pa.list_(pa.list_(pa.float32(), 2), 2), pa.string_view(),
    pa.map_(pa.int8(), pa.int8()), pa.run_end_encoded(pa.int16(), pa.float32()), pa.duration("s"),
]  # fmt: skip
TYPES = mostly(
    st.sampled_from(NUMBERS)
    | st.tuples(st.sampled_from(NUMBERS), st.integers(0, 4)).map(lambda pair: pa.list_(*pair)),
    st.sampled_from(OTHERS),
)
STRINGS: list[pa.DataType] = [pa.string(), pa.large_string(), pa.string_view()]
LABELS = mostly(
    st.sampled_from([*STRINGS, pa.int8(), pa.uint16(), pa.int64(), pa.uint64()])
    | st.tuples(
        st.sampled_from([pa.int8(), pa.uint16(), pa.int32(), pa.uint64()]),
        st.sampled_from([pa.string(), pa.large_string(), pa.int64(), pa.uint16()]),
    ).map(lambda pair: pa.dictionary(*pair)),
    st.sampled_from([*NUMBERS, *OTHERS]),
)
"""The types of columns of groups and ids."""
METADATA = mostly(
    st.none(),
    st.sampled_from(
        [{"lossd.dtype": "bfloat16"}, {"ARROW:extension:name": "x"}, {"a": "b"}, {"lossd.dtype": "int8"}]
    ),
)


LABELLED = ["group.a", "group.b", "ids"]
TEXT = "\u00e9tiquette"


def column(data_type: pa.DataType, rows: int, seed: int, nulls: bool) -> pa.Array[Any]:
    """Draw a column of values; of nulls or empty for a type without numbers."""
    random = np.random.default_rng(seed)
    if pa.types.is_fixed_size_list(data_type) and data_type.value_type in NUMBERS and data_type.list_size:
        items = column(data_type.value_type, rows * data_type.list_size, seed, nulls)
        return pa.FixedSizeListArray.from_arrays(items, data_type.list_size)
    if data_type in STRINGS:
        texts = [TEXT * number for number in random.integers(0, 5, rows).tolist()]
        return pa.array(texts, data_type, mask=random.random(rows) < 0.2 if nulls else None)
    if isinstance(data_type, pa.DictionaryType) and data_type.value_type in [*NUMBERS, *STRINGS]:
        entries = column(data_type.value_type, rows, seed, False).dictionary_encode()
        indices = column(data_type.index_type, rows, seed, nulls)
        return pa.DictionaryArray.from_arrays(
            pa.array(
                [
                    None if index is None else index % max(1, len(entries.dictionary))
                    for index in indices.to_pylist()
                ],
                data_type.index_type,
            ),
            entries.dictionary,
        )
    if data_type not in NUMBERS:
        return pa.array([None] * rows if nulls else [], data_type)
    numbers = random.integers(0, 100, rows).astype(data_type.to_pandas_dtype())
    return pa.array(numbers, data_type, mask=random.random(rows) < 0.2 if nulls else None)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw an Arrow stream of columns of any types, slices and batches."""
    names = draw(st.lists(NAMES | st.sampled_from(LABELLED), max_size=4))
    rows, seed = draw(st.integers(0, 20)), draw(st.integers(0, 9))
    types = [draw(LABELS if name in LABELLED else TYPES) for name in names]
    columns = [column(made, rows, seed, draw(mostly(st.just(False), st.just(True)))) for made in types]
    fields = [
        pa.field(name, made.type, metadata=draw(METADATA)) for name, made in zip(names, columns, strict=True)
    ]
    shortest = min(map(len, columns), default=0)
    options = pa.ipc.IpcWriteOptions(
        metadata_version=draw(st.sampled_from([pa.ipc.MetadataVersion.V4, pa.ipc.MetadataVersion.V5])),
        use_legacy_format=draw(mostly(st.just(False), st.just(True))),
        compression=draw(mostly(st.none(), st.sampled_from(["lz4", "zstd"]))),
        emit_dictionary_deltas=draw(st.booleans()),
    )
    sink = io.BytesIO()
    metadata: st.SearchStrategy[dict[bytes | str, bytes | str]] = st.just({"pandas": "{}"})
    schema = pa.schema(fields, metadata=draw(st.none() | metadata))
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, shortest))
            length = draw(st.integers(0, shortest - start))
            parts = [made.slice(start, length) for made in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(parts, schema=schema))
    return sink.getvalue() + draw(mostly(st.just(b""), JUNK))


@EXAMPLES
@given(streams())
def test_arrow(body: bytes) -> None:
    check(Sample("", "arrow", body))


NESTED = st.integers(0, 3).flatmap(
    lambda dimensions: hnp.arrays(
        st.sampled_from([np.dtype(bool), np.dtype(np.int64), np.dtype(np.float64)]),
        st.shared(hnp.array_shapes(min_dims=dimensions, max_dims=dimensions, min_side=0, max_side=3)),
    ).flatmap(lambda array: st.booleans().map(lambda null: spelled(array.tolist(), null=null)))
)
WORDS = st.sampled_from(["NaN", "Infinity", "-Infinity", "nan", "NaN\n"])
RAGGED = st.recursive(SCALARS | WORDS, lambda inner: st.lists(inner, max_size=3))
TOKENS = st.sampled_from(
    ["[", "]", "{", "}", ",", ":", '"', "0", "-", ".", "e5", "1e999", "9" * 30, "true", "null", "NaN", "\\",
     '"NaN"', '"Infinity",',
     "\ufeff", "\n", "\x00", '"logits":', "[]", ",,", "/**/", "\ud800", "+1", "01", "1.", ".5", "Infinity"]
)  # fmt: skip


@st.composite
def json_texts(draw: st.DrawFn, documents: st.SearchStrategy[object]) -> bytes:
    """Draw a JSON text, perhaps with a wrong token."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")]))
    text = json.dumps(draw(documents), separators=separators, ensure_ascii=draw(st.booleans()))
    for _ in range(draw(mostly(st.just(0), st.integers(1, 2)))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(TOKENS) + text[start + draw(st.integers(0, 3)) :]
    return text.encode("utf-8", "surrogatepass")


def is_json(body: bytes) -> bool:
    """Return whether a body follows RFC 8259, without names given twice or numbers that overflow."""

    def refuse(token: str) -> NoReturn:
        raise ValueError(token)

    def finite(token: str) -> float:
        return float(token) if math.isfinite(float(token)) else refuse(token)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return dict(pairs) if len(dict(pairs)) == len(pairs) else refuse("twice")

    try:
        json.loads(body.decode(), parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    except ValueError:
        return False
    return True


DOCUMENTS = mostly(
    st.dictionaries(NAMES, mostly(NESTED, RAGGED), max_size=4).flatmap(
        lambda tensors: PARAMS.map(lambda params: {**params, **tensors})
    ),
    VALUES,
)


@EXAMPLES
@given(json_texts(DOCUMENTS))
def test_json(body: bytes) -> None:
    found = check(Sample("", "json", body))
    assert isinstance(found, RequestError) or is_json(body.removeprefix(b"\xef\xbb\xbf"))


@st.composite
def inputs(draw: st.DrawFn) -> tuple[dict[str, object], bytes]:
    """Draw an input of the Open Inference Protocol, and its binary data."""
    name = draw(NAMES)
    allowed = [
        datatype
        for datatype, dtype in DATATYPES.items()
        if dtype in TENSOR_DTYPES.get(name, DATATYPES.values())
    ]
    datatype = draw(
        mostly(st.sampled_from(allowed), st.sampled_from([*DATATYPES, "BYTES", "UINT4", "fp32", "", 4]))
    )
    shape = draw(
        mostly(st.lists(st.integers(0, 3), max_size=3), st.lists(st.integers() | SCALARS, max_size=9))
    )
    given: dict[str, object] = {"name": name, "datatype": datatype, "shape": shape}
    lengths = [int(length) for length in shape if isinstance(length, int) and 0 <= length <= 3][:3]
    count = math.prod(lengths)
    binary = b""
    if draw(st.booleans()):
        numbers = st.booleans() if datatype == "BOOL" else st.integers(0, 1) | st.floats(-4, 4)
        flat = st.lists(numbers, min_size=count, max_size=count)
        nested = flat.map(lambda data: np.array(data).reshape(lengths).tolist())
        given["data"] = draw(mostly(flat | nested, RAGGED))
    else:
        binary = bytes(count * np.dtype(WIDTHS.get(str(datatype), "u2")).itemsize)
        given["parameters"] = {"binary_data_size": draw(mostly(st.just(len(binary)), st.integers(-1, 50)))}
    given.update(
        draw(mostly(st.just({}), st.dictionaries(st.sampled_from(["data", "parameters", "x"]), VALUES)))
    )
    return given, binary


@st.composite
def inference_requests(draw: st.DrawFn) -> Sample:
    """Draw a request of the Open Inference Protocol, any of whose fields may be wrong."""
    described = draw(st.lists(inputs(), max_size=3))
    document: dict[str, object] = {"inputs": [given for given, _ in described]}
    outputs = st.fixed_dictionaries(
        {"name": mostly(st.sampled_from(["loss", "sum", "count"]), TEXTS)},
        optional={"parameters": mostly(st.just({"binary_data": True}), VALUES)},
    )
    fields = {
        "id": mostly(TEXTS, VALUES),
        "parameters": mostly(
            PARAMS, st.dictionaries(st.sampled_from(["timeout", "sequence_id", "priority"]), SCALARS)
        ),
        "outputs": mostly(st.lists(outputs, max_size=2), VALUES),
        "x": VALUES,
    }
    for name in draw(st.lists(st.sampled_from([*fields]), max_size=2, unique=True)):
        document[name] = draw(fields[name])
    head = draw(json_texts(st.just(document)))
    binary = b"".join(data for _, data in described)
    length = len(head) + draw(mostly(st.just(0), st.integers(-5, 5)))
    given = None if not binary and draw(st.booleans()) else max(0, length)
    return Sample("", "v2", head + binary + draw(mostly(st.just(b""), JUNK)), header_length=given)


@EXAMPLES
@given(inference_requests())
def test_v2(sample: Sample) -> None:
    found = check(sample)
    assert isinstance(found, RequestError) or is_json(sample.body[: sample.header_length])


@given(st.sampled_from([*CODINGS]), st.lists(JUNK, max_size=3), mostly(st.just(b""), JUNK), st.data())
def test_codings(coding: str, parts: list[bytes], rest: bytes, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(corpus()[coding]))
    body = sample.body[: data.draw(mostly(st.just(len(sample.body)), st.integers(0, len(sample.body))))]
    check(replace(sample, body=body + b"".join(map(CODINGS[coding], parts)) + rest))


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_a_query_of_json_values(params: dict[str, object]) -> None:
    texts = {name: json.dumps(value) for name, value in params.items()}
    given = "&".join(f"{quote(name)}={quote(text)}" for name, text in texts.items()).encode()
    if all(is_json(text.encode()) for text in texts.values()):
        assert parse_query(given) == params
        return
    with pytest.raises(RequestError) as caught:  # NaN, Infinity
        parse_query(given)
    check_error(caught.value)
    assert caught.value.code == "invalid_parameter"


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_a_query_of_anything(query_string: bytes) -> None:
    check(replace(corpus()["query"][0], query=query_string))
