"""Ways to feed a reader, and what it found as numpy sees it."""

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
    """What np.save writes."""
    file = BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def form(parts: Iterable[tuple[str, bytes]], boundary: str = BOUNDARY) -> bytes:
    """A form as a plain client writes it."""
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.npy"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in parts
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def pieces(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The body, cut at these places."""
    places = [0, *sorted(cut for cut in cuts if 0 <= cut <= len(body)), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(places)]


def read(
    media: str,
    chunks: Sequence[bytes],
    names: Sequence[str] = ("logits", "targets"),
    options: Mapping[str, str] | None = None,
) -> Body:
    """Feed chunks, one after the other, and finish."""
    given = OPTIONS.get(media, {}) if options is None else options
    reader = FORMATS[media].reader(options=given, names=names)
    laid = bytearray()
    for chunk in chunks:
        for piece in reader.feed(chunk):
            laid += piece
    return reader.finish(memoryview(laid))


def outcome(
    media: str, chunks: Sequence[bytes], names: Sequence[str] = ("logits", "targets")
) -> Body | RequestError:
    """What reading comes to: a body, or a fault; any other exception is the test's failure."""
    try:
        return read(media, chunks, names)
    except RequestError as fault:
        check_fault(fault)
        return fault


def check_fault(fault: RequestError) -> None:
    """A fault's own rules: a code, a sentence, pointers that point."""
    assert fault.code.replace("_", "").isalpha()
    assert 10 < len(fault.detail) < 1000
    assert fault.detail.isprintable()
    for place, detail in fault.errors:
        assert place.startswith("/")
        assert detail


def array_of(tensor: Tensor, body: bytes) -> AnyArray:
    """A received tensor, by numpy (bfloat16 as uint16)."""
    base = {"bfloat16": "uint16"}.get(tensor.dtype, tensor.dtype)
    dtype = np.dtype(base).newbyteorder(">" if tensor.big_endian else "<")
    flat = np.frombuffer(body, dtype=dtype, count=tensor.size, offset=tensor.offset)
    return flat.reshape(tensor.shape, order="F" if tensor.fortran else "C")


def same_bits(one: AnyArray, other: AnyArray) -> bool:
    """Whether two arrays are alike to the bit, in shape and dtype."""
    same = one.shape == other.shape and one.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
    native = one.dtype.newbyteorder("=")
    return same and one.astype(native).tobytes() == other.astype(native).tobytes()
