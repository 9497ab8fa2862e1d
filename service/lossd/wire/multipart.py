"""``multipart/form-data`` (RFC 7578): a part a tensor, each a .npy file, and a part ``params`` of JSON.

python-multipart finds the parts; what is kept of a part is the place of its first byte and the .npy header.
The parser holds back bytes that may be the beginning of a boundary, and hands them out of a buffer of its own
once they turn out to be data: such bytes lie just before the chunk that settled the matter.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lossd.names import pointer, shown, unknown_tensor
from lossd.request import TENSOR_DTYPES, Body, Fault, Tensor
from lossd.wire.npy import NpyParser
from lossd.wire.reader import Piece
from lossd.wire.values import MAX_PARAMETER_BYTES, parse_params

MAX_PART_HEADERS: Final = 8
MAX_PART_HEADER_BYTES: Final = 4096

_PARAMS: Final = "params"

# RFC 2046, 5.1.1: 1 to 70 of these, and the last is no space. None is CR, which the parser relies on.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")

# RFC 7578, 4.7, deprecates the header; only the values that change nothing can be taken.
_PLAIN_ENCODINGS: Final = frozenset({b"binary", b"8bit", b"7bit"})

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NAMES: Final = re.compile(rb";[ \t]*name[ \t]*=", re.IGNORECASE)

# A body at fault is the caller's affair, which the answer tells; the parser would log a warning besides.
_SILENT: Final = logging.getLogger("lossd.wire.multipart")
_SILENT.disabled = True


class MultipartReader:
    """Reads the parts of a form."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect a form.

        Args:
            options: The boundary.
            names: Not needed; the parts bear names.

        Raises:
            Fault: ``malformed_multipart``: there is no boundary, or none that RFC 2046 allows.
        """
        del names
        boundary = options.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            seen = f"the boundary {shown(boundary)}" if boundary else "no boundary"
            remedy = "send Content-Type: multipart/form-data; boundary=... as an HTTP library makes it"
            raise Fault("malformed_multipart", f"the Content-Type has {seen}; {remedy}")
        self._delimiter = b"--" + boundary.encode("ascii")
        self._parser = self._make_parser(boundary)
        self._chunk = b""
        self._base = 0  # where the chunk begins in the body
        self._ended = False
        self._part: _Part | None = None
        self._field = bytearray()
        self._value = bytearray()
        self._body = Body()
        self._names: set[str] = set()

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """Up to the end of the array that is coming."""
        return self._base + (self._part.wanted if self._part is not None else 0)

    def feed(self, chunk: Piece) -> Iterable[Piece]:
        """Take the body's next bytes, which are laid down as they are.

        Raises:
            Fault: ``malformed_multipart``, ``unknown_tensor``, ``malformed_json``, ``trailing_bytes``, or as
                `NpyParser` does.
        """
        self._chunk = bytes(chunk)  # the parser takes nothing else
        try:
            self._parser.write(self._chunk)
        except FormParserError as error:
            raise _malformed(
                f"{error}, near byte {self._base + max(getattr(error, 'offset', 0), 0)}"
            ) from None
        self._base += len(chunk)
        self._chunk = b""
        return (chunk,)

    def outline(self, length: int | None) -> Body | None:
        """The parts, once a tensor has begun behind which there is room for the closing boundary alone."""
        last = None if self._part is None or length is None else self._part.announced
        if self._part is None or length is None or last is None:
            return None
        closing = len(b"\r\n") + len(self._delimiter) + len(b"--")
        if length - (last.offset + last.nbytes) not in (closing, closing + len(b"\r\n")):
            return None
        return Body(tensors={**self._body.tensors, self._part.name: last}, params=self._body.params)

    def finish(self, laid: memoryview) -> Body:
        """The parts that came.

        Raises:
            Fault: ``truncated_body`` where the closing boundary is missing, ``trailing_bytes`` where more
                than a line end follows it.
        """
        if not self._ended:
            detail = f"the form ends before its closing boundary, after {self._base} bytes; send all of it"
            raise Fault("truncated_body", detail)
        if bytes(laid[: len(self._delimiter)]) != self._delimiter:
            raise _malformed("the body does not begin with the boundary")
        if self._part is None:
            raise _malformed("the form has no parts; send logits and targets, each a .npy file")
        end = self._part.end + len(b"\r\n") + len(self._delimiter) + len(b"--")
        if bytes(laid[end : end + 3]) not in (b"", b"\r\n"):
            seen = f"{len(laid) - end} bytes follow the closing boundary, from byte {end} on"
            raise Fault("trailing_bytes", f"{seen}; end the form there")
        return self._body

    def _make_parser(self, boundary: str) -> MultipartParser:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_field,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_PART_HEADER_BYTES,
        )
        parser.logger = _SILENT
        return parser

    def _begin_part(self) -> None:
        self._part = _Part()

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        field, value = bytes(self._field).lower(), bytes(self._value)
        self._field.clear()
        self._value.clear()
        assert self._part is not None
        if field == b"content-disposition":
            if self._part.name:
                raise _malformed("a part has two Content-Disposition headers")
            self._part.name = _part_name(value)
        elif field == b"content-transfer-encoding" and value.strip().lower() not in _PLAIN_ENCODINGS:
            raise _malformed(f"a part has Content-Transfer-Encoding {shown(value)}; send it as binary")

    def _end_headers(self) -> None:
        part = self._part
        assert part is not None
        if not part.name:
            raise _malformed('a part has no name; send Content-Disposition: form-data; name="logits"')
        if part.name in self._names:
            raise _malformed(f"there are two parts {part.name}; send one")
        self._names.add(part.name)
        if part.name != _PARAMS and part.name not in TENSOR_DTYPES:
            raise unknown_tensor(part.name, "; send parameters in the query or in the JSON part params")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        held_back = data is not self._chunk
        position = self._base - (end - start) if held_back else self._base + start
        self._part.feed(memoryview(data)[start:end], position)

    def _end_part(self) -> None:
        assert self._part is not None
        if self._part.name == _PARAMS:
            self._body.params = self._part.params()
        else:
            self._body.tensors[self._part.name] = self._part.tensor()

    def _end(self) -> None:
        self._ended = True


class _Part:
    """One part: its name, and what has come of it."""

    def __init__(self) -> None:
        self.name = ""
        self.end = 0  # where in the body its data ended so far
        self._parser: NpyParser | None = None
        self._json = bytearray()

    @property
    def announced(self) -> Tensor | None:
        """The tensor that its header announced, once that has come."""
        return None if self._parser is None else self._parser.tensor

    @property
    def wanted(self) -> int:
        """The bytes of its array that are still to come."""
        return 0 if self._parser is None else self._parser.wanted

    def feed(self, data: memoryview, position: int) -> None:
        """Take the next bytes of the data, which lie at a position in the body."""
        self.end = position + len(data)
        if self.name == _PARAMS:
            # One byte more than is allowed is enough to tell.
            self._json += data[: MAX_PARAMETER_BYTES + 1 - len(self._json)]
            return
        if self._parser is None:
            self._parser = NpyParser(self.name, position)
        used = self._parser.feed(data)
        if used < len(data):
            seen = f"bytes follow the array of the part {self.name}, from byte {position + used} on"
            raise Fault("trailing_bytes", f"{seen}; send one .npy file a part", [(pointer(self.name), seen)])

    def tensor(self) -> Tensor:
        """The tensor, at the part's end."""
        return (self._parser or NpyParser(self.name, self.end)).finish()

    def params(self) -> dict[str, object]:
        """The parameters, at the part's end."""
        return parse_params(bytes(self._json), "the part params")


def arena_bytes(content_length: int) -> int:
    """The memory that a body needs: the tensors lie in it as they came."""
    return content_length


def _part_name(disposition: bytes) -> str:
    if _CONTROL.search(disposition):
        raise _malformed(f"a part has a control character in Content-Disposition {shown(disposition)}")
    if len(_NAMES.findall(disposition)) > 1:
        raise _malformed(f"a part has two names: {shown(disposition)}")
    kind, options = parse_options_header(disposition)
    if kind != b"form-data":
        raise _malformed(f"a part has Content-Disposition {shown(disposition)}, which is not form-data")
    try:
        return options.get(b"name", b"").decode()
    except UnicodeDecodeError:
        raise _malformed(f"a part's name is not UTF-8: {shown(disposition)}") from None


def _malformed(seen: str) -> Fault:
    return Fault("malformed_multipart", f"the form is malformed: {seen}")
