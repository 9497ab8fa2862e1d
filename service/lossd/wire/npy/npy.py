"""One .npy file, read as its bytes come.

The header is a Python literal by its format; it is read here by a tokeniser that knows the one dict that
numpy writes, in any order and spacing, and nothing else. Nothing is evaluated and nothing is unpickled. What
a header may claim is bounded before anything is done with it: its own length, the digits of each number, the
number of dimensions, the bytes of the array.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from lossd.error_text import pointer, shown
from lossd.types import ITEMSIZE, MAX_DIMENSIONS, ErrorCode, RequestError, Tensor

MAX_HEADER_BYTES: Final = 10_000
"""The most bytes that a header's dict may have: numpy's own limit for files it does not trust."""

_MAGIC: Final = b"\x93NUMPY"
_PREFIX: Final = len(_MAGIC) + 2  # and the version's two numbers
_LENGTH_BYTES: Final[Mapping[bytes, int]] = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_LIMIT: Final = 1 << 63

# numpy writes dtype.str, where "|" stands for no byte order, as of one byte; it never writes "=".
_DTYPES: Final[Mapping[str, tuple[str, bool]]] = {
    "|b1": ("bool", False),
    "|u1": ("uint8", False),
    "|i1": ("int8", False),
    # numpy has no bfloat16: ml_dtypes' is saved as two bytes of no type.
    "V2": ("bfloat16", False),
    "|V2": ("bfloat16", False),
    "<V2": ("bfloat16", False),
} | {
    order + code: (dtype, order == ">")
    for order in "<>"
    for code, dtype in {
        "f2": "float16",
        "f4": "float32",
        "f8": "float64",
        "u2": "uint16",
        "u4": "uint32",
        "u8": "uint64",
        "i2": "int16",
        "i4": "int32",
        "i8": "int64",
    }.items()
}

_S: Final = r"[ \t\r\n]*+"
_OPEN: Final = re.compile(rf"{_S}\{{{_S}")
_KEY: Final = re.compile(rf"""(['"])(descr|fortran_order|shape)\1{_S}:{_S}""")
_NEXT: Final = re.compile(rf"{_S}(?:,{_S})?+")
_CLOSE: Final = re.compile(rf"\}}{_S}\Z")
_TEXT: Final = re.compile(r"""'([^'"\\]*+)'|"([^'"\\]*+)\"""")
_BOOL: Final = re.compile(r"True|False")
_SHAPE: Final = re.compile(rf"\({_S}((?:[0-9]++{_S},{_S})*+(?:[0-9]++{_S})?+)\)")


class NpyParser:
    """Reads one .npy file, fed in pieces of any length.

    Attributes:
        name: The tensor's name, for faults.
        tensor: What the header said; None until all of it has come.
        descr: The dtype as the header has it, also one that is not taken, of which a structured one is but
            the bracket that it begins with; empty until it is read.
    """

    def __init__(self, name: str, start: int) -> None:
        """Expect a file.

        Args:
            name: The tensor's name.
            start: Where in the body the file's first byte lies.
        """
        self.name = name
        self.tensor: Tensor | None = None
        self.descr = ""
        self._start = start
        self._head = bytearray()
        self._head_bytes = _PREFIX  # as far as the head is known to go
        self._received = 0  # bytes of the array

    @property
    def wanted(self) -> int:
        """The bytes of the array that are still to come; 0 while the header is not known."""
        return self.tensor.nbytes - self._received if self.tensor is not None else 0

    @property
    def complete(self) -> bool:
        """Whether the whole file has come."""
        return self.tensor is not None and self._received == self.tensor.nbytes

    def feed(self, data: bytes | memoryview) -> int:
        """Take the next bytes.

        Returns:
            How many of them belong to this file; less than all only where the file ends before them.

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
        """The tensor, when all bytes have been fed.

        Raises:
            RequestError: ``truncated_body``.
        """
        if self.tensor is None:
            came = f"{len(self._head)} bytes"
            detail = f"{self.name} ends after {came}, within its .npy header; send all of the file"
            raise RequestError(
                ErrorCode.TRUNCATED_BODY, detail, [(pointer(self.name), "the header is cut short")]
            )
        if not self.complete:
            came = f"{self._received} of {self.tensor.nbytes} bytes"
            shape = list(self.tensor.shape)
            detail = f"{self.name} is {self.tensor.dtype} {shape}, but only {came} came; send all of the file"
            raise RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(self.name), came)])
        return self.tensor

    def _read_head(self) -> None:
        """Go on from a part of the head that is complete: prefix, length, dict."""
        if self._head_bytes == _PREFIX:
            self._head_bytes += self._length_bytes()
            return
        length_end = _PREFIX + self._length_bytes()
        if self._head_bytes == length_end:
            length = int.from_bytes(self._head[_PREFIX:], "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                seen = (
                    f"a header of {length} bytes at byte {self._start + _PREFIX}, not 1 to {MAX_HEADER_BYTES}"
                )
                raise self._malformed(seen)
            self._head_bytes += length
            return
        self.tensor = self._parse(bytes(self._head[length_end:]), self._start + length_end)
        self._head.clear()

    def _length_bytes(self) -> int:
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
        """The tensor that a header describes.

        Args:
            header: The dict's text.
            at: Where in the body it begins.
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
        shape = self._shape(values["shape"], ITEMSIZE[dtype])
        offset = at + len(header)
        return Tensor(dtype, shape, offset, fortran=values["fortran_order"] == "True", big_endian=big_endian)

    def _value(self, key: str, text: str, begin: int, at: int) -> tuple[str, int]:
        """The text of a key's value and where it ends."""
        if key == "descr" and text[begin : begin + 1] in ("[", "("):
            self.descr = text[begin]
            raise self._dtype_fault("a structured dtype")
        pattern = {"descr": _TEXT, "fortran_order": _BOOL, "shape": _SHAPE}[key]
        found = pattern.match(text, begin)
        if not found:
            raise self._malformed(f"{shown(text[begin : begin + 40])} at byte {at + begin} for {key}")
        if key == "descr":
            return found[1] if found[1] is not None else found[2], found.end()
        return found[found.re.groups], found.end()

    def _dtype(self, descr: str) -> tuple[str, bool]:
        self.descr = descr
        if descr not in _DTYPES:
            raise self._dtype_fault(f"the dtype {shown(descr)}", objects=descr.endswith("O"))
        return _DTYPES[descr]

    def _shape(self, text: str, itemsize: int) -> tuple[int, ...]:
        numbers = re.findall(r"[0-9]+", text)
        if len(numbers) == 1 and "," not in text:
            raise self._malformed(f"({numbers[0][:20]}) for shape, which is not a tuple")
        if len(numbers) > MAX_DIMENSIONS:
            raise self._bad_shape(f"{len(numbers)} dimensions, at most {MAX_DIMENSIONS} are taken")
        if any(len(number) > 19 for number in numbers):  # before int(), which takes its time
            raise self._bad_shape("a dimension past 2^63")
        if any(number != "0" and number.startswith("0") for number in numbers):
            raise self._malformed(f"({text[:40]}) for shape, with a leading zero")
        shape = tuple(int(number) for number in numbers)
        # Zeros do not save the others: whoever reckons strides multiplies them all.
        if max(shape, default=0) >= _LIMIT or math.prod(n for n in shape if n) * itemsize >= _LIMIT:
            raise self._bad_shape(f"shape {list(shape)}, whose bytes pass 2^63")
        return shape

    def _malformed(self, seen: str) -> RequestError:
        detail = f"{self.name} is not a .npy file that numpy writes: {seen}; write it with np.save"
        return RequestError(ErrorCode.MALFORMED_NPY, detail, [(pointer(self.name), seen)])

    def _dtype_fault(self, seen: str, *, objects: bool = False) -> RequestError:
        remedy = f"send one of {', '.join(ITEMSIZE)}, such as np.save(file, x.astype(np.float64))"
        if objects:
            remedy = f"objects are never unpickled; {remedy}"
        detail = f"{self.name} has {seen}, which is not taken; {remedy}"
        return RequestError(
            ErrorCode.DTYPE_NOT_ALLOWED, detail, [(pointer(self.name), f"{seen} is not taken")]
        )

    def _bad_shape(self, seen: str) -> RequestError:
        detail = (
            f"{self.name} has {seen}; send 1 to {MAX_DIMENSIONS} dimensions of what the array really holds"
        )
        return RequestError(ErrorCode.BAD_SHAPE, detail, [(pointer(self.name), seen)])
