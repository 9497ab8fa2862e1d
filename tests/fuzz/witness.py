"""Independent readers that confirm what a reader found: json, numpy, zipfile, email, pyarrow."""

from __future__ import annotations

import email
import gzip
import io
import json
import math
import re
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np
import pyarrow as pa

from fuzz.corpus import Sample
from fuzz.reading import Found, alike, outcome, outcome_in_place, packed
from lossd.types import RequestError
from wire.feeding import BOUNDARY, AnyArray, same_bits, split_at

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_DECODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": zstd.decompress,
}
_DATATYPES: Final[Mapping[str, Any]] = {
    "FP16": np.float16, "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64, "BOOL": np.bool_,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
}  # fmt: skip


class UnreadableError(Exception):
    """An independent reader does not support a body that ours accepts."""


def confirm(sample: Sample, whole: Found | RequestError, cuts: Iterable[int]) -> None:
    """Check that a body gives the same in chunks, and with an independent reader.

    Args:
        sample: The body.
        whole: What reading it whole gave.
        cuts: Where to cut it.

    Raises:
        AssertionError: It does not.
        Exception: The independent reader fails.
    """
    cut = outcome(sample, split_at(sample.body, cuts))
    assert alike(whole, cut, sample), f"{whole!r}, but {cut!r} in chunks"
    if sample.format == "json" and sample.coding is None:
        expected, in_place = _as_taken(whole), outcome_in_place(sample)
        both = isinstance(expected, RequestError) and isinstance(in_place, RequestError)
        assert both or alike(expected, in_place, sample), f"{expected!r}, but {in_place!r} in place"
    if isinstance(whole, Found):
        with suppress(UnreadableError):
            _agree(sample, whole)


def _as_taken(whole: Found | RequestError) -> Found | RequestError:
    """Return what was found in a document, with the dtypes that the losses take."""
    if isinstance(whole, RequestError):
        return whole
    tensors = dict(whole.tensors)
    if "mask" in tensors:
        tensors["mask"] = tensors["mask"].astype(np.bool_)
    return Found(tensors, whole.params)


def _agree(sample: Sample, found: Found) -> None:
    body = sample.body if sample.coding is None else _DECODERS[sample.coding](sample.body)
    tensors, params = _READERS[sample.format](body, sample, found)
    assert set(tensors) == set(found.tensors)
    for name, array in found.tensors.items():
        other = tensors[name]
        plain = other.view(np.uint16) if other.dtype in (ml_dtypes.bfloat16, np.dtype("V2")) else other
        assert same_bits(array, plain), f"{name} is {array!r}, but {plain!r}"
    assert found.params == params
    assert sample.format == "npz" or not found.notes


_Reading: TypeAlias = tuple[dict[str, AnyArray], dict[str, object]]
"""The tensors and the parameters of the body."""


def _read_json(body: bytes, sample: Sample, found: Found) -> _Reading:
    document = json.loads(body)
    tensors: dict[str, AnyArray] = {}
    for name in found.tensors:
        value = _numbers(document.pop(name), name)
        array = np.array(value)
        if name in ("groups", "ids"):
            tensors[name] = np.array(value, dtype=np.int64)
            continue
        # An integer 0 has no sign.
        tensors[name] = array if array.dtype == bool and array.size else np.array(value, dtype=np.float64)
    return tensors, document


def _numbers(value: Any, name: str) -> Any:  # noqa: ANN401 -- what JSON has
    """Return a tensor's value with numbers for the strings that name them, which a mask may not have."""
    if isinstance(value, list):
        return [_numbers(item, name) for item in value]
    if value is None:
        assert name == "targets"
        return math.nan
    if isinstance(value, str):
        assert name != "mask"
        return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[value]
    return value


def _read_npy(body: bytes, sample: Sample, found: Found) -> _Reading:
    file = io.BytesIO(body)
    tensors = {name: _load(file) for name in found.tensors}
    assert not file.read()
    return tensors, {}


def _load(file: io.BytesIO) -> AnyArray:
    with warnings.catch_warnings(category=UserWarning, action="ignore"):  # of spaces as Python 2 wrote them
        array: AnyArray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _read_npz(body: bytes, sample: Sample, found: Found) -> _Reading:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except NotImplementedError:  # by the version that the header requires
        raise UnreadableError from None
    except zipfile.BadZipFile:
        if body.count(b"PK\x05\x06") == 1:
            raise
        raise UnreadableError from None  # it takes the last record for the end, even one in the comment
    tensors = {}
    for file, data in files.items():
        name = file.removesuffix(".npy")
        if name in found.tensors:
            tensors[name] = _load(io.BytesIO(data))
        else:
            assert _dtype_in(data).kind in "OUSTMmV"
            [note] = found.notes
            assert name in note or " more" in note or not name.isascii() or not name.isprintable()
    return tensors, {}


def _dtype_in(data: bytes) -> np.dtype[Any]:
    """Read the dtype of a .npy file with numpy."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:  # numpy reads that one with the array alone
        raise UnreadableError
    return header[version](file)[2]


def _read_multipart(body: bytes, sample: Sample, found: Found) -> _Reading:
    tensors: dict[str, AnyArray] = {}
    params: dict[str, object] = {}
    for part in (b"\r\n" + body).split(f"\r\n--{BOUNDARY}".encode())[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if re.search(rb"\r(?!\n)|(?<!\r)\n", head):  # it takes either for the end of a line
            raise UnreadableError
        options = email.message_from_bytes(head).get_params(header="content-disposition") or []
        name, *others = [value for option, value in options if option == "name"]
        if others:  # it would take the first
            raise UnreadableError
        if name == "params":
            params |= json.loads(data)
        elif name in found.tensors:
            tensors[name] = _load(io.BytesIO(data))
        else:
            params[name] = _parameter(data, found.params[name])
    return tensors, params


def _parameter(text: bytes, value: object) -> object:
    """Read a field's text as JSON. What other words mean is for the server to decide."""
    try:
        return json.loads(text)
    except ValueError:
        return value


def _read_arrow(body: bytes, sample: Sample, found: Found) -> _Reading:
    try:
        table = pa.ipc.open_stream(body).read_all()
        table.validate(full=True)
    except (pa.ArrowInvalid, OSError):  # it requires alignment, and checks parts that are not used here
        raise UnreadableError from None
    return {name: _array(table.column(name)) for name in table.column_names}, {}


def _array(column: pa.ChunkedArray[Any]) -> AnyArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type in (pa.string(), pa.large_string(), pa.string_view()):
        return packed(str(text) for text in column.to_pylist())
    if not pa.types.is_fixed_size_list(column.type):
        return _flat(column)
    lists: list[Any] = column.chunks  # the stubs do not know that they are
    flat = pa.chunked_array([chunk.flatten() for chunk in lists], type=column.type.value_type)
    return _flat(flat).reshape(len(column), column.type.list_size)


def _flat(column: pa.ChunkedArray[Any]) -> AnyArray:
    parts = [chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts) if parts else column.type.to_pandas_dtype()(())


def _read_v2(body: bytes, sample: Sample, found: Found) -> _Reading:
    end = sample.header_length
    document = json.loads(body[:end])
    tensors = {}
    at = len(body) if end is None else end
    for given in document["inputs"]:
        dtype, shape = np.dtype(_DATATYPES[given["datatype"]]), given["shape"]
        if given.get("data") is not None:
            array = np.array(_numbers(given["data"], given["name"])).reshape(shape)
            held = array.astype(np.float64 if dtype.kind in "iu" else dtype)
            whole = given["name"] in ("groups", "ids")
            tensors[given["name"]] = (
                array.astype(np.int64) if whole else held if held.dtype == bool else held.astype(np.float64)
            )
        else:
            tensors[given["name"]] = np.frombuffer(body, dtype, int(np.prod(shape)), at).reshape(shape)
            at += given["parameters"]["binary_data_size"]
    assert at == len(body)
    # What strings mean is for the server to decide.
    params = {
        name: found.params[name] if isinstance(value, str) else value
        for name, value in (document.get("parameters") or {}).items()
        if name in found.params
    }
    return tensors, params


_READERS: Final[Mapping[str, Callable[[bytes, Sample, Found], _Reading]]] = {
    "json": _read_json,
    "npy": _read_npy,
    "npz": _read_npz,
    "multipart": _read_multipart,
    "arrow": _read_arrow,
    "v2": _read_v2,
}
