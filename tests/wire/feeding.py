"""Functions that feed readers, and that return what they found as numpy arrays."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt

from lossd.types import Body, RequestError, Tensor
from lossd.wire import FORMATS

AnyArray = npt.NDArray[np.generic]

BOUNDARY = "bound"
OPTIONS = {"multipart/form-data": {"boundary": BOUNDARY}}


def npy(array: npt.ArrayLike) -> bytes:
    """Write an array with np.save."""
    file = BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def form(parts: Iterable[tuple[str, bytes]], boundary: str = BOUNDARY) -> bytes:
    """Write a form as a simple client does."""
    written = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.npy"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in parts
    ]
    return b"".join(written) + f"--{boundary}--\r\n".encode()


def split_at(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut a body at these places."""
    places = [0, *sorted(cut for cut in cuts if 0 <= cut <= len(body)), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(places)]


def read(
    media: str,
    chunks: Sequence[bytes],
    names: Sequence[str] = ("logits", "targets"),
    options: Mapping[str, str] | None = None,
) -> Body:
    """Feed chunks to a reader, and finish."""
    given = OPTIONS.get(media, {}) if options is None else options
    reader = FORMATS[media].reader(options=given, names=names)
    stored = bytearray()
    for chunk in chunks:
        for part in reader.feed(chunk):
            stored += part
    return reader.finish(memoryview(stored))


def outcome(
    media: str, chunks: Sequence[bytes], names: Sequence[str] = ("logits", "targets")
) -> Body | RequestError:
    """Return the body or the error; any other exception is the test's failure."""
    try:
        return read(media, chunks, names)
    except RequestError as error:
        check_error(error)
        return error


def check_error(error: RequestError) -> None:
    """Check that an error has a code, a sentence, and valid pointers."""
    assert error.code.replace("_", "").isalpha()
    assert 10 < len(error.detail) < 1000
    assert error.detail.isprintable()
    for place, detail in error.errors:
        assert place.startswith("/")
        assert detail


def array_of(tensor: Tensor, body: bytes) -> AnyArray:
    """Return a received tensor as an array (bfloat16 as uint16)."""
    base = {"bfloat16": "uint16"}.get(tensor.dtype, tensor.dtype)
    dtype = np.dtype(base).newbyteorder(">" if tensor.big_endian else "<")
    flat = np.frombuffer(body, dtype=dtype, count=tensor.size, offset=tensor.offset)
    return flat.reshape(tensor.shape, order="F" if tensor.fortran else "C")


def same_bits(one: AnyArray, other: AnyArray) -> bool:
    """Return whether two arrays have the same bits, shape and dtype."""
    same = one.shape == other.shape and one.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
    native = one.dtype.newbyteorder("=")
    return same and one.astype(native).tobytes() == other.astype(native).tobytes()
