"""Content codings of a request body (RFC 9110, 8.4.1): gzip, deflate and zstd, decoded as the bytes arrive.

Decoded bytes are handed out in chunks of bounded size. Each is decoded only when it is asked for, so that the
caller can stop at a limit.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from lossd.error_text import shown
from lossd.types import ErrorCode, RequestError
from lossd.wire.reader import Chunk

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES: Final = 256 << 10
"""The most decoded bytes of a chunk."""

STEP_BYTES: Final = 64 << 10
"""The most coded bytes that a decompressor is given at once: it copies those it cannot use yet, each time."""

MAX_MEMBERS: Final = 1 << 15
"""The most gzip members or zstd frames in a body. One takes 9 bytes, and time to set up."""

ZSTD_WINDOW_LOG: Final = 23
"""The largest window of a zstd frame: 8 MiB, the limit of RFC 9659, 3."""

MOST_INFLATED: Final = 1032
"""The most bytes that one deflated byte can expand to (https://zlib.net/zlib_tech.html)."""

Stream: TypeAlias = "zlib._Decompress | zstd.ZstdDecompressor"


@dataclass(frozen=True, slots=True)
class _Coding:
    """A content coding.

    Attributes:
        name: Its name in error details.
        stream: Maker of a decompressor for one stream.
        again: The bytes that may begin a further stream.
        most: The most bytes that one coded byte can expand to; None where there is no useful bound.
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
    frozenset({0x28, *range(0x50, 0x60)}),  # Zstandard and skippable frames: RFC 8878, 3.1
    None,
)
_CODINGS: Final[Mapping[str, _Coding]] = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,  # equivalent to gzip: RFC 9110, 8.4.1.3
    "deflate": _DEFLATE,
    "zstd": _ZSTD,
}


class Decoder:
    """Decoder of one body."""

    def __init__(self, coding: _Coding) -> None:
        self._coding = coding
        self._stream: Stream | None = None  # None between two streams
        self._streams = 0
        self._position = 0

    def most(self, coded: int) -> int | None:
        """Return the most bytes that coded bytes can expand to; None where there is no useful bound."""
        return None if self._coding.most is None else self._coding.most * coded

    def feed(self, chunk: Chunk) -> Iterator[bytes]:
        """Decode the body's next bytes.

        Returns:
            The decoded bytes, in chunks of at most `CHUNK_BYTES`, each decoded as the iterator is used. Use
            them up before the next call.

        Raises:
            RequestError: ``bad_request`` where the bytes are not of the coding; ``trailing_bytes`` where
                others follow its end; ``unsupported_encoding`` where zstd needs a larger window.
        """
        rest = memoryview(chunk)
        while rest:
            stream = self._stream or self._begin(rest[0])
            coded = rest[:STEP_BYTES]
            yield b""  # so that the caller can check its limits even if all streams are empty
            try:
                yield from expand(stream, coded)
            except (zlib.error, zstd.ZstdError) as error:
                raise self._error(error, len(coded)) from None
            used = len(coded) - len(stream.unused_data)
            self._stream = None if stream.eof else stream
            self._position += used
            rest = rest[used:]

    def finish(self) -> None:
        """Check that the body is complete, after the last byte was fed.

        Raises:
            RequestError: ``truncated_body``.
        """
        if self._stream is not None or not self._streams:
            seen = f"the body's {self._coding.name} coding is cut short after {self._position} bytes"
            raise RequestError(ErrorCode.TRUNCATED_BODY, f"{seen}; send all of it")

    def _begin(self, first: int) -> Stream:
        """Return a decompressor for the stream that begins here.

        RFC 1952, 2.2, and RFC 8878, 3, allow several streams in one body; RFC 1950 does not.

        Args:
            first: The stream's first byte.
        """
        if self._streams and first not in self._coding.again:
            seen = f"bytes follow the end of the {self._coding.name} coding, from byte {self._position} on"
            raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; end the body there")
        if self._streams == MAX_MEMBERS:
            seen = f"the body is more than {MAX_MEMBERS} {self._coding.name} streams, one after the other"
            raise RequestError(ErrorCode.BAD_REQUEST, f"{seen}; compress it as one")
        self._streams += 1
        return self._coding.stream()

    def _error(self, error: Exception, length: int) -> RequestError:
        reason = str(error).rpartition(": ")[2]
        between = f"between bytes {self._position} and {self._position + length}"
        if "too much memory" in reason:
            seen = f"a zstd frame {between} has a window over {1 << ZSTD_WINDOW_LOG - 20} MiB"
            remedy = f"compress with a window log of at most {ZSTD_WINDOW_LOG}, such as at level 3"
            return RequestError(ErrorCode.UNSUPPORTED_ENCODING, f"{seen}; {remedy}")
        detail = f"the body is not valid {self._coding.name} {between}: {reason}; compress it again"
        return RequestError(ErrorCode.BAD_REQUEST, detail)


def make_decoder(value: str | None) -> Decoder | None:
    """Return a decoder for the value of Content-Encoding, if any; None where the body is not coded.

    Raises:
        RequestError: ``unsupported_encoding``: the coding is unknown, or there are several.
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
    """Yield what coded bytes expand to, in chunks of 1 to `CHUNK_BYTES`, up to the stream's end.

    Args:
        stream: A stream that has not ended.
        coded: Its next bytes; few, as the decompressor may copy them for each chunk.

    Raises:
        zlib.error: The bytes are wrong.
        zstd.ZstdError: The bytes are wrong.
    """
    chunk = stream.decompress(coded, CHUNK_BYTES)
    while chunk:
        yield chunk
        if stream.eof:
            return
        # zlib returns the bytes that it has not used, zstd keeps them. Either may still hold output.
        tail = b"" if isinstance(stream, zstd.ZstdDecompressor) else stream.unconsumed_tail
        chunk = stream.decompress(tail, CHUNK_BYTES)
