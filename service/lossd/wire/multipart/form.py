"""``multipart/form-data`` (RFC 7578): a part for each tensor, as a .npy file, and parts for parameters.

Parameters come as one part ``params`` of JSON, or each as a part of text. Text before the first boundary and
behind the closing one is ignored (RFC 2046, 5.1.1), within limits.

python-multipart finds the parts. Of a tensor's part only the position and the .npy header are kept. The
library holds back bytes that may begin a boundary. If they turn out to be data, it passes them from a buffer
of its own; they lie just before the current chunk.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lossd.error_text import pointer, shown
from lossd.types import Body, ErrorCode, RequestError, Tensor
from lossd.wire.multipart.part import FormPart
from lossd.wire.multipart.preamble import MAX_EPILOGUE_BYTES, Preamble, check_epilogue, epilogue_too_long
from lossd.wire.reader import Chunk

MAX_PARTS: Final = 100
MAX_PART_HEADERS: Final = 8
MAX_PART_HEADER_BYTES: Final = 4096

# RFC 2046, 5.1.1: 1 to 70 of these characters, and the last is no space. The parser needs that none is CR.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")

# RFC 7578, 4.7, deprecates the header. Only values that do not change the data are accepted.
_PLAIN_ENCODINGS: Final = frozenset({b"binary", b"8bit", b"7bit"})

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NAMES: Final = re.compile(rb";[ \t]*name[ \t]*=", re.IGNORECASE)

# The parser would log a warning for a wrong body. The answer reports it already.
_SILENT: Final = logging.getLogger("lossd.wire.multipart.form")
_SILENT.disabled = True


class MultipartReader:
    """Reader of a form."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect a form.

        Args:
            options: The boundary.
            names: Ignored: parts have names.

        Raises:
            RequestError: ``malformed_multipart``: there is no boundary, or none that RFC 2046 allows.
        """
        boundary = options.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            seen = f"the boundary {shown(boundary)}" if boundary else "no boundary"
            remedy = "send Content-Type: multipart/form-data; boundary=... as an HTTP library makes it"
            raise RequestError(ErrorCode.MALFORMED_MULTIPART, f"the Content-Type has {seen}; {remedy}")
        self._delimiter = b"--" + boundary.encode("ascii")
        self._preamble: Preamble | None = Preamble(self._delimiter)  # until the first boundary
        self._parser = self._make_parser(boundary)
        self._chunk = b""
        self._base = 0  # the chunk's position in the body
        self._data_end = 0  # the end of the last data of a part
        self._ended = False
        self._epilogue = 0  # bytes in chunks after the one in which the form ended
        self._part: FormPart | None = None
        self._field = bytearray()
        self._value = bytearray()
        self._body = Body()
        self._names: set[str] = set()

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """The end of the current array."""
        return self._base + (self._part.wanted if self._part is not None else 0)

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """Take the body's next bytes, and return them.

        Raises:
            RequestError: ``malformed_multipart``, ``unknown_tensor``, ``malformed_json``, ``trailing_bytes``,
                or as `NpyParser` does.
        """
        data = bytes(chunk)  # the parser takes only bytes
        if self._ended:
            self._epilogue += len(data)
            if self._epilogue > MAX_EPILOGUE_BYTES:
                raise epilogue_too_long()
        elif self._preamble is None:
            self._parse(data, self._base)
        else:
            self._look_for_parts(self._preamble, data)
        self._base += len(data)
        return (chunk,)

    def outline(self, length: int | None) -> Body | None:
        """Return the parts, once a tensor has begun behind which only the closing boundary fits."""
        last = None if self._part is None or length is None else self._part.announced
        if self._part is None or length is None or last is None:
            return None
        closing = len(b"\r\n") + len(self._delimiter) + len(b"--")
        if length - (last.offset + last.nbytes) not in (closing, closing + len(b"\r\n")):
            return None
        return Body(tensors={**self._body.tensors, self._part.name: last}, params=self._body.params)

    def finish(self, stored: memoryview) -> Body:
        """Return the parts.

        Raises:
            RequestError: ``truncated_body`` where the closing boundary is missing, ``trailing_bytes`` where
                something follows it that cannot be ignored.
        """
        if self._preamble is not None:
            self._preamble.finish()
        if not self._ended:
            detail = f"the form ends before its closing boundary, after {self._base} bytes; send all of it"
            raise RequestError(ErrorCode.TRUNCATED_BODY, detail)
        if self._part is None:
            raise _malformed("the form has no parts", "send logits and targets, each a .npy file")
        closing = b"\r\n" + self._delimiter + b"--"
        rest = bytes(stored[self._data_end :])  # with the headers of parts without data, if there are any
        end = rest.index(closing) + len(closing)
        check_epilogue(rest[end:], self._data_end + end, self._delimiter)
        return self._body

    def _look_for_parts(self, preamble: Preamble, data: bytes) -> None:
        """Go on to the parts once the first boundary's line is complete."""
        rest = preamble.feed(data)
        if rest is None:
            return
        self._preamble = None
        if preamble.empty:
            self._ended = True
            return
        self._parser.write(self._delimiter + b"\r\n")
        self._parse(rest, self._base + len(data) - len(rest))

    def _parse(self, data: bytes, base: int) -> None:
        """Pass the next bytes to the parser.

        Args:
            data: Bytes from the first part's headers on.
            base: Their position in the body.
        """
        self._chunk, chunk_base, self._base = data, self._base, base
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _unparsed(error, base) from None
        self._chunk, self._base = b"", chunk_base

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
        self._part = FormPart()

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
            self._part.name, self._part.is_file = _read_disposition(value)
        elif field == b"content-transfer-encoding" and value.strip().lower() not in _PLAIN_ENCODINGS:
            seen = f"a part has Content-Transfer-Encoding {shown(value)}"
            raise _malformed(seen, "send it as binary")

    def _end_headers(self) -> None:
        part = self._part
        assert part is not None
        if not part.name:
            raise _malformed("a part has no name", 'send Content-Disposition: form-data; name="logits"')
        if part.name in self._names:
            raise _malformed(f"there are two parts {shown(part.name)}", "send one")
        if len(self._names) == MAX_PARTS:
            raise _malformed(f"there are more than {MAX_PARTS} parts", "send tensors and parameters only")
        self._names.add(part.name)
        part.begin()

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        held_back = data is not self._chunk
        position = self._base - (end - start) if held_back else self._base + start
        self._data_end = position + end - start
        self._part.feed(memoryview(data)[start:end], position)

    def _end_part(self) -> None:
        assert self._part is not None
        held = self._part.finish()
        if isinstance(held, Tensor):
            self._body.tensors[self._part.name] = held
            return
        for name, value in held.items():
            if name in self._body.params:
                detail = f"{shown(name)} is given both in the part params and as a part; leave one out"
                raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), "given twice")])
            self._body.params[name] = value

    def _end(self) -> None:
        self._ended = True


def _read_disposition(disposition: bytes) -> tuple[str, bool]:
    """Return a part's name, and whether it has a file name (RFC 7578, 4.2)."""
    if _CONTROL.search(disposition):
        raise _malformed(f"a part has a control character in Content-Disposition {shown(disposition)}")
    if len(_NAMES.findall(disposition)) > 1:
        raise _malformed(f"a part has two names: {shown(disposition)}")
    kind, options = parse_options_header(disposition)
    if kind != b"form-data":
        raise _malformed(f"a part has Content-Disposition {shown(disposition)}, which is not form-data")
    try:
        return options.get(b"name", b"").decode(), b"filename" in options
    except UnicodeDecodeError:
        raise _malformed(f"a part's name is not UTF-8: {shown(disposition)}") from None


def _unparsed(error: FormParserError, base: int) -> RequestError:
    """Return the error of a form that the parser refuses, in plain words.

    Args:
        error: The parser's error.
        base: The position of the bytes that it was given last.
    """
    reason = str(error)
    if reason.startswith("Maximum header count"):
        seen = f"a part has more than {MAX_PART_HEADERS} headers"
    elif reason.startswith("Maximum header size"):
        seen = f"a part has a header of more than {MAX_PART_HEADER_BYTES} bytes"
    elif "boundary" in reason:
        seen = "the line of a boundary goes on"
    else:
        seen = "a part has a line among its headers that is no header, such as Content-Type: text/plain"
    return _malformed(f"{seen}, at byte {base + max(getattr(error, 'offset', 0), 0)}")


def _malformed(seen: str, remedy: str = "have an HTTP library write it") -> RequestError:
    return RequestError(ErrorCode.MALFORMED_MULTIPART, f"the form is malformed: {seen}; {remedy}")
