"""``application/x-npy``: .npy files one after the other, and the parser of one file.

`NpyReader` reads a body such as ``cat logits.npy targets.npy`` makes. Each file's header says how long the
file is, so nothing stands between two files. The caller names the tensors.

`NpyParser` reads one file. A header is a Python literal. It is read here by a tokeniser that accepts only the
dict that numpy writes, in any order and spacing. Nothing is evaluated or unpickled. All claims of a header
are checked before they are used: its own length, the digits of each number, the number of dimensions, the
bytes of the array.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html (below: "the format").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lossd.error_text import pointer, shown, unknown_tensor
from lossd.types import (
    ITEMSIZE,
    MAX_DIMENSIONS,
    TENSOR_DTYPES,
    Body,
    ErrorCode,
    RequestError,
    Tensor,
    is_addressable,
)
from lossd.wire.reader import Chunk

DTYPES: Final[Mapping[str, str]] = {
    "b1": "bool",
    "u1": "uint8",
    "u2": "uint16",
    "u4": "uint32",
    "u8": "uint64",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
    "V2": "bfloat16",  # numpy has none; ml_dtypes saves it as two bytes of no type
}
"""The dtypes taken, by numpy's code: kind and bytes. A further one also needs a size in `types.ITEMSIZE`."""

MAX_HEADER_BYTES: Final = 10_000
"""The most bytes of a header's dict: numpy's own limit for files that it does not trust."""

_MAGIC: Final = b"\x93NUMPY"
_PREFIX: Final = len(_MAGIC) + 2  # and the version's two numbers
_LENGTH_BYTES: Final[Mapping[bytes, int]] = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}

# dtype.str begins with the byte order: "|" where there is none, as of one byte. numpy never writes "=".
_ORDERS: Final[Mapping[str, Sequence[str]]] = {"b1": "|", "u1": "|", "i1": "|", "V2": ("", "|", "<")}
_DESCRIPTORS: Final[Mapping[str, tuple[str, bool]]] = {
    order + code: (dtype, order == ">") for code, dtype in DTYPES.items() for order in _ORDERS.get(code, "<>")
}

_S: Final = r"[ \t\r\n]*+"
_OPEN: Final = re.compile(rf"{_S}\{{{_S}")
_KEY: Final = re.compile(rf"""(['"])(descr|fortran_order|shape)\1{_S}:{_S}""")
_NEXT: Final = re.compile(rf"{_S}(?:,{_S})?+")
_CLOSE: Final = re.compile(rf"\}}{_S}\Z")
_TEXT: Final = re.compile(r"""'([^'"\\]*+)'|"([^'"\\]*+)\"""")
_BOOL: Final = re.compile(r"True|False")
_SHAPE: Final = re.compile(rf"\({_S}((?:[0-9]++{_S},{_S})*+(?:[0-9]++{_S})?+)\)")


class NpyReader:
    """Reader of .npy files one after the other."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect the arrays of some tensors.

        Args:
            options: Ignored.
            names: The tensors' names, in order.

        Raises:
            RequestError: ``unknown_tensor``; ``invalid_parameter`` where a name is repeated or there is none.
        """
        _check_names(names)
        self._names = tuple(names)
        self._tensors: dict[str, Tensor] = {}
        self._position = 0
        self._end = 0  # of the last complete array
        self._parser = NpyParser(self._names[0], 0)

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """The end of the current array."""
        return self._position + self._parser.wanted

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """Take the body's next bytes, and return them.

        Raises:
            RequestError: As `NpyParser.feed` does, or ``trailing_bytes``.
        """
        rest = memoryview(chunk)
        while rest:
            if len(self._tensors) == len(self._names):
                last = self._names[-1]
                seen = f"bytes follow the last array, {last}, from byte {self._position} on"
                remedy = "name every array in its order with tensors=..., or send none beyond those named"
                raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; {remedy}", [(pointer(last), seen)])
            used = self._parser.feed(rest)
            self._position += used
            rest = rest[used:]
            if self._parser.complete:
                self._next()
        return (chunk,)

    def outline(self, length: int | None) -> Body | None:
        """Return the tensors once the last one's header has arrived."""
        last = self._parser.tensor
        if last is None or self._parser.name != self._names[-1]:
            return None
        return Body(tensors={**self._tensors, self._names[-1]: last})

    def finish(self, stored: memoryview) -> Body:
        """Return the tensors.

        Raises:
            RequestError: ``truncated_body``.
        """
        if len(self._tensors) < len(self._names):
            name = self._parser.name
            if self._position == self._end:
                detail = (
                    f"the body ends before {name}: {len(self._tensors)} of {len(self._names)} arrays came; "
                    f"send {', '.join(self._names)} one after the other"
                )
                raise RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(name), "missing")])
            self._parser.finish()
        return Body(tensors=dict(self._tensors))

    def _next(self) -> None:
        self._tensors[self._parser.name] = self._parser.finish()
        self._end = self._position
        if len(self._tensors) < len(self._names):
            self._parser = NpyParser(self._names[len(self._tensors)], self._position)


def _check_names(names: Sequence[str]) -> None:
    if not names:
        detail = "tensors names no array; name them in their order, as in tensors=logits,targets"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer("tensors"), "empty")])
    for name in names:
        if name not in TENSOR_DTYPES:
            raise unknown_tensor(name)
        if names.count(name) > 1:
            detail = f"tensors names {name} twice; name each array once, in their order"
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail, [(pointer("tensors"), f"{name} is given twice")]
            )


class NpyParser:
    """Parser of one .npy file, fed in chunks of any length.

    Attributes:
        name: The tensor's name, for errors.
        tensor: The tensor that the header announces; None until the header is complete.
        descr: The header's dtype, accepted or not; of a structured one the opening bracket alone. Empty until
            it is read.
    """

    def __init__(self, name: str, start: int) -> None:
        """Expect a file.

        Args:
            name: The tensor's name.
            start: The position of the file's first byte in the body.
        """
        self.name = name
        self.tensor: Tensor | None = None
        self.descr = ""
        self._start = start
        self._head = bytearray()
        self._head_bytes = _PREFIX  # the known length of the head
        self._received = 0  # bytes of the array

    @property
    def wanted(self) -> int:
        """The bytes of the array that are still missing; 0 until the header is complete."""
        return self.tensor.nbytes - self._received if self.tensor is not None else 0

    @property
    def complete(self) -> bool:
        """Whether the whole file has arrived."""
        return self.tensor is not None and self._received == self.tensor.nbytes

    def feed(self, data: Chunk) -> int:
        """Take the next bytes.

        Returns:
            The number of them that belong to this file: all, or fewer where the file ends.

        Raises:
            RequestError: ``malformed_npy``, ``dtype_not_allowed`` or ``bad_shape``.
        """
        used = 0
        while self.tensor is None and used < len(data):
            taken = data[used : used + self._head_bytes - len(self._head)]
            self._head += taken
            used += len(taken)
            if len(self._head) == self._head_bytes:
                self._read_head()
        taken_bytes = min(len(data) - used, self.wanted)
        self._received += taken_bytes
        return used + taken_bytes

    def finish(self) -> Tensor:
        """Return the tensor, after the last byte was fed.

        Raises:
            RequestError: ``truncated_body``.
        """
        if self.tensor is None:
            detail = f"{self.name} ends after {len(self._head)} bytes, within its .npy header"
            raise RequestError(
                ErrorCode.TRUNCATED_BODY,
                f"{detail}; send all of the file",
                [(pointer(self.name), "the header is cut short")],
            )
        if not self.complete:
            raise cut_short(self.name, self.tensor, self._received, "the file")
        return self.tensor

    def _read_head(self) -> None:
        """Read the part of the head that is now complete: prefix, length or dict."""
        if self._head_bytes == _PREFIX:
            self._head_bytes += self._length_bytes()
            return
        length_end = _PREFIX + self._length_bytes()
        if self._head_bytes == length_end:
            length = int.from_bytes(self._head[_PREFIX:], "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                at = self._start + _PREFIX
                raise self._malformed(f"a header of {length} bytes at byte {at}, not 1 to {MAX_HEADER_BYTES}")
            self._head_bytes += length
            return
        self.tensor = self._parse(bytes(self._head[length_end:]), self._start + length_end)
        self._head.clear()

    def _length_bytes(self) -> int:
        """Return the size of the header's length. The format: 2 bytes in version 1.0, 4 in 2.0 and 3.0."""
        if not self._head.startswith(_MAGIC):
            hint = "; this is a zip: is it an .npz?" if self._head.startswith(b"PK") else ""
            seen = f"{self._head[:6].hex(' ')} at byte {self._start}, not {_MAGIC.hex(' ')}{hint}"
            raise self._malformed(seen)
        version = bytes(self._head[len(_MAGIC) : _PREFIX])
        if version not in _LENGTH_BYTES:
            at = self._start + len(_MAGIC)
            raise self._malformed(f"version {version[0]}.{version[1]} at byte {at}, not 1.0, 2.0 or 3.0")
        return _LENGTH_BYTES[version]

    def _parse(self, header: bytes, at: int) -> Tensor:
        """Return the tensor that a header announces.

        The format: a dict of exactly the keys descr, fortran_order and shape.

        Args:
            header: The dict's text.
            at: Its position in the body.
        """
        if not header.isascii():
            raise self._malformed(f"a byte that is not ASCII in the header at byte {at}")
        text = header.decode("ascii")
        values: dict[str, str] = {}
        opening = _OPEN.match(text)
        end = opening.end() if opening else 0
        while opening and (key := _KEY.match(text, end)):
            if key[2] in values:
                raise self._malformed(f"{key[2]} twice in the header, again at byte {at + key.start()}")
            values[key[2]], end = self._value(key[2], text, key.end(), at)
            after = _NEXT.match(text, end)
            assert after is not None  # it matches the empty text
            end = after.end()
            if "," not in after[0]:
                break
        if len(values) < 3 or not _CLOSE.match(text, end):
            seen = f"{shown(text[end : end + 40])} at byte {at + end}, in a header that is not numpy's dict"
            raise self._malformed(seen)
        dtype, big_endian = self._dtype(values["descr"])
        shape = self._shape(values["shape"], dtype)
        offset = at + len(header)
        return Tensor(dtype, shape, offset, fortran=values["fortran_order"] == "True", big_endian=big_endian)

    def _value(self, key: str, text: str, begin: int, at: int) -> tuple[str, int]:
        """Return the text of a key's value, and where it ends."""
        if key == "descr" and text[begin : begin + 1] in ("[", "("):
            self.descr = text[begin]
            raise self._refuse_dtype("a structured dtype")
        pattern = {"descr": _TEXT, "fortran_order": _BOOL, "shape": _SHAPE}[key]
        found = pattern.match(text, begin)
        if not found:
            raise self._malformed(f"{shown(text[begin : begin + 40])} at byte {at + begin} for {key}")
        if key == "descr":
            return found[1] if found[1] is not None else found[2], found.end()
        return found[found.re.groups], found.end()

    def _dtype(self, descr: str) -> tuple[str, bool]:
        """Return a descriptor's dtype, and whether it is big-endian."""
        self.descr = descr
        if descr not in _DESCRIPTORS:
            raise self._refuse_dtype(f"the dtype {shown(descr)}", objects=descr.endswith("O"))
        return _DESCRIPTORS[descr]

    def _shape(self, text: str, dtype: str) -> tuple[int, ...]:
        numbers = re.findall(r"[0-9]+", text)
        if len(numbers) == 1 and "," not in text:
            raise self._malformed(f"({numbers[0][:20]}) for shape, which is not a tuple")
        if len(numbers) > MAX_DIMENSIONS:
            raise self._bad_shape(f"{len(numbers)} dimensions, at most {MAX_DIMENSIONS} are taken")
        if any(len(number) > 19 for number in numbers):  # int() is slow for very many digits
            raise self._bad_shape("a dimension past 2^63")
        if any(number != "0" and number.startswith("0") for number in numbers):
            raise self._malformed(f"({text[:40]}) for shape, with a leading zero")
        shape = tuple(map(int, numbers))
        if not is_addressable(shape, dtype):
            raise self._bad_shape(f"shape {list(shape)}, whose bytes pass 2^63")
        return shape

    def _malformed(self, seen: str) -> RequestError:
        detail = f"{self.name} is not a .npy file that numpy writes: {seen}; write it with np.save"
        return RequestError(ErrorCode.MALFORMED_NPY, detail, [(pointer(self.name), seen)])

    def _refuse_dtype(self, seen: str, *, objects: bool = False) -> RequestError:
        remedy = f"send one of {', '.join(ITEMSIZE)}, such as np.save(file, x.astype(np.float64))"
        if objects:
            remedy = f"objects are never unpickled; {remedy}"
        detail = f"{self.name} has {seen}, which is not taken; {remedy}"
        return RequestError(
            ErrorCode.DTYPE_NOT_ALLOWED, detail, [(pointer(self.name), f"{seen} is not taken")]
        )

    def _bad_shape(self, seen: str) -> RequestError:
        detail = f"{self.name} has {seen}; send the array's real shape, of 1 to {MAX_DIMENSIONS} dimensions"
        return RequestError(ErrorCode.BAD_SHAPE, detail, [(pointer(self.name), seen)])


def cut_short(name: str, tensor: Tensor, received: int, whole: str) -> RequestError:
    """Return the error of a tensor whose last bytes are missing.

    Args:
        name: The tensor's name.
        tensor: The tensor as announced.
        received: The number of its bytes that arrived.
        whole: The thing to send in full, such as ``the file``.
    """
    came = f"{received} of {tensor.nbytes} bytes"
    detail = f"{name} is {tensor.dtype} {list(tensor.shape)}, but only {came} came; send all of {whole}"
    return RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(name), came)])
