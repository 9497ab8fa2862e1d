"""Content codings of a request body (RFC 9110, 8.4.1): gzip, deflate and zstd, decoded as the bytes come.

What a few bytes expand to is handed out in pieces of bounded size, each made when it is asked for, so that
whoever counts them can stop at a limit.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from lossd.error_text import shown
from lossd.types import ErrorCode, RequestError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 256 << 10
"""The most bytes that are handed out at once."""

STEP_BYTES: Final = 64 << 10
"""The most coded bytes that a decompressor is given at once: it copies what it cannot use yet, each time."""

MAX_MEMBERS: Final = 1 << 15
"""The most gzip members or zstd frames in a body. One takes 9 bytes, and time to set up."""

ZSTD_WINDOW_LOG: Final = 23
"""The largest window of a zstd frame: 8 MiB, all that RFC 9659 lets this coding ask for."""

MOST_INFLATED: Final = 1032
"""The most bytes that a deflated byte comes to (https://zlib.net/zlib_tech.html)."""

Stream: TypeAlias = "zlib._Decompress | zstd.ZstdDecompressor"


@dataclass(frozen=True, slots=True)
class _Coding:
    """A content coding.

    Attributes:
        name: As details call it.
        stream: Makes a decompressor for one stream of it.
        again: The first bytes by which another stream may follow one.
        most: What a coded byte can come to at most, in bytes; None where there is no useful bound.
    """

    name: str
    stream: Callable[[], Stream]
    again: frozenset[int]
    most: int | None


_GZIP: Final = _Coding(
    "gzip", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), frozenset({0x1F}), MOST_INFLATED
)
_DEFLATE: Final = _Coding("deflate (zlib, RFC 1950)", zlib.decompressobj, frozenset(), MOST_INFLATED)
_ZSTD: Final = _Coding(
    "zstd",
    lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}),
    frozenset({0x28, *range(0x50, 0x60)}),  # of a frame, and of one to be skipped
    None,
)
_CODINGS: Final[Mapping[str, _Coding]] = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,  # the same by RFC 9110, 8.4.1.3
    "deflate": _DEFLATE,
    "zstd": _ZSTD,
}


class Decoder:
    """Decodes one body."""

    def __init__(self, coding: _Coding) -> None:
        """Expect a body.

        Args:
            coding: The body's.
        """
        self._coding = coding
        self._stream: Stream | None = None  # None between two streams
        self._streams = 0
        self._position = 0

    def most(self, coded: int) -> int | None:
        """The most bytes that so many coded ones can come to; None where there is no useful bound."""
        return None if self._coding.most is None else self._coding.most * coded

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """Decode the body's next bytes, of any length.

        Returns:
            What they stand for, in pieces of at most `PIECE_BYTES`, decoded as the iterator is used. To be
            used up before the next call.

        Raises:
            RequestError: ``bad_request`` where the bytes are not what the coding makes, ``trailing_bytes``
            where
                others follow them, ``unsupported_encoding`` where zstd needs a larger window.
        """
        rest = memoryview(chunk)
        while rest:
            stream = self._stream or self._begin(rest[0])
            coded = rest[:STEP_BYTES]
            yield b""  # where streams are empty, too, whoever counts gets its turn
            try:
                yield from expand(stream, coded)
            except (zlib.error, zstd.ZstdError) as error:
                raise self._fault(error, len(coded)) from None
            used = len(coded) - len(stream.unused_data)
            self._stream = None if stream.eof else stream
            self._position += used
            rest = rest[used:]

    def finish(self) -> None:
        """Take note that all of the body has been fed.

        Raises:
            RequestError: ``truncated_body``.
        """
        if self._stream is not None or not self._streams:
            seen = f"the body's {self._coding.name} coding is cut short after {self._position} bytes"
            raise RequestError(ErrorCode.TRUNCATED_BODY, f"{seen}; send all of it")

    def _begin(self, first: int) -> Stream:
        """A decompressor for the stream that begins here.

        Args:
            first: The first byte that comes.
        """
        if self._streams and first not in self._coding.again:
            seen = f"bytes follow the end of the {self._coding.name} coding, from byte {self._position} on"
            raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; end the body there")
        if self._streams == MAX_MEMBERS:
            seen = f"the body is more than {MAX_MEMBERS} {self._coding.name} streams, one after the other"
            raise RequestError(ErrorCode.BAD_REQUEST, f"{seen}; compress it as one")
        self._streams += 1
        return self._coding.stream()

    def _fault(self, error: Exception, length: int) -> RequestError:
        reason = str(error).rpartition(": ")[2]
        between = f"between bytes {self._position} and {self._position + length}"
        if "too much memory" in reason:
            seen = f"a zstd frame {between} has a window over {1 << ZSTD_WINDOW_LOG - 20} MiB"
            remedy = f"compress with a window log of at most {ZSTD_WINDOW_LOG}, such as at level 3"
            return RequestError(ErrorCode.UNSUPPORTED_ENCODING, f"{seen}; {remedy}")
        detail = f"the body is not valid {self._coding.name} {between}: {reason}; compress it again"
        return RequestError(ErrorCode.BAD_REQUEST, detail)


def make_decoder(value: str | None) -> Decoder | None:
    """A decoder for a request's Content-Encoding.

    Args:
        value: Of the header; None where there is none.

    Returns:
        None where the body is not coded.

    Raises:
        RequestError: ``unsupported_encoding``: a coding that is not known, or several.
    """
    name = (value or "").strip().lower()
    if name in ("", "identity"):
        return None
    if name not in _CODINGS:
        remedy = "send one of identity, gzip, deflate and zstd, applied once"
        raise RequestError(
            ErrorCode.UNSUPPORTED_ENCODING, f"the Content-Encoding {shown(name)} is not taken; {remedy}"
        )
    return Decoder(_CODINGS[name])


def expand(stream: Stream, coded: memoryview) -> Iterator[bytes]:
    """What coded bytes come to, in pieces of 1 to `PIECE_BYTES`, up to the stream's end.

    Args:
        stream: Which has not ended.
        coded: The next of its bytes; few, as the decompressor may copy them for each piece.

    Raises:
        zlib.error: They are wrong.
        zstd.ZstdError: Likewise.
    """
    piece = stream.decompress(coded, PIECE_BYTES)
    while piece:
        yield piece
        if stream.eof:
            return
        # zlib hands back what it has not used, zstd keeps it. Either may hold output still with nothing left.
        tail = b"" if isinstance(stream, zstd.ZstdDecompressor) else stream.unconsumed_tail
        piece = stream.decompress(tail, PIECE_BYTES)
