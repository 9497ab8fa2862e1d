"""The preamble and the epilogue of a form: ignored text before and behind its parts (RFC 2046, 5.1.1).

Neither may hold the boundary or the header of a part. That would be a part written wrongly, and ignoring it
would change the answer.
"""

from __future__ import annotations

import re
from typing import Final

from lossd.error_text import shown
from lossd.types import ErrorCode, RequestError

MAX_PREAMBLE_BYTES: Final = 1 << 16
"""The most bytes before the first boundary."""
MAX_EPILOGUE_BYTES: Final = 1 << 16
"""The most bytes behind the closing boundary."""

_MAX_PADDING: Final = 100
_HEAD: Final = re.compile(rb"content-disposition[ \t]*+:", re.IGNORECASE)


class Preamble:
    """Finder of the first boundary, fed in chunks of any length.

    Attributes:
        empty: Whether the first boundary is also the closing one.
    """

    def __init__(self, delimiter: bytes) -> None:
        """Expect a body.

        Args:
            delimiter: The boundary with the hyphens before it.
        """
        self.empty = False
        self._delimiter = delimiter
        # RFC 2046, 5.1.1: the boundary begins a line; spaces may follow it.
        self._line = re.compile(rb"(?:\A|(?<=\r\n))" + re.escape(delimiter) + rb"(?:(--)|[ \t]*+\r\n)")
        self._begun = bytearray()
        self._looked = 0  # no boundary begins before

    def feed(self, data: bytes) -> bytes | None:
        """Take the next bytes.

        Returns:
            The bytes behind the first boundary's line; None until that line is complete.

        Raises:
            RequestError: ``malformed_multipart``: there is no boundary within `MAX_PREAMBLE_BYTES`.
        """
        self._begun += data
        found = self._line.search(self._begun, self._looked)
        if found is not None and found.start() <= MAX_PREAMBLE_BYTES:
            self._check(bytes(self._begun[: found.start()]))
            self.empty = found[1] is not None
            return bytes(self._begun[found.end() :])
        if len(self._begun) > MAX_PREAMBLE_BYTES + len(self._delimiter) + _MAX_PADDING:
            raise self._missing()
        self._looked = max(0, len(self._begun) - len(self._delimiter) - _MAX_PADDING)
        return None

    def _check(self, preamble: bytes) -> None:
        """Refuse a preamble that looks like a part.

        Raises:
            RequestError: ``malformed_multipart``.
        """
        at = preamble.find(self._delimiter)
        if at >= 0:
            raise self._missing(f"{shown(self._delimiter)} is no line of its own at byte {at}")
        if head := _HEAD.search(preamble):
            raise self._missing(
                f"there is a part at byte {head.start()}, before the first line of the boundary"
            )

    def finish(self) -> None:
        """Refuse a body that has ended before its first boundary's line.

        Raises:
            RequestError: ``truncated_body`` or ``malformed_multipart``.
        """
        line = bytes(self._begun[self._begun.rfind(b"\r\n") + 2 :] if b"\r\n" in self._begun else self._begun)
        if not self._begun or (line and (self._delimiter + b"\r\n").startswith(line)):
            detail = f"the form ends before its first part, after {len(self._begun)} bytes; send all of it"
            raise RequestError(ErrorCode.TRUNCATED_BODY, detail)
        raise self._missing()

    def _missing(self, seen: str = "") -> RequestError:
        seen = seen or (
            f"none of its first lines is {shown(self._delimiter)}, the boundary that Content-Type names; it "
            f"begins with {shown(bytes(self._begun[:40]))}"
        )
        remedy = "have an HTTP library write both the form and Content-Type"
        return RequestError(ErrorCode.MALFORMED_MULTIPART, f"the form is malformed: {seen}; {remedy}")


def check_epilogue(rest: bytes, at: int, delimiter: bytes) -> None:
    """Check the bytes behind the closing boundary.

    Args:
        rest: The bytes.
        at: Their position in the body.
        delimiter: The boundary with the hyphens before it.

    Raises:
        RequestError: ``trailing_bytes``.
    """
    epilogue = rest.lstrip(b" \t")
    if not epilogue:
        return
    if not epilogue.startswith(b"\r\n"):
        seen = f"the line of the closing boundary goes on, from byte {at} on"
        raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; end the form there")
    if delimiter in epilogue or _HEAD.search(epilogue):
        seen = f"more parts follow the closing boundary, from byte {at} on"
        raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; send one form, and each tensor once")
    if len(rest) > MAX_EPILOGUE_BYTES:
        raise epilogue_too_long()


def epilogue_too_long() -> RequestError:
    """Return the error of too many bytes behind the closing boundary."""
    seen = f"more than {MAX_EPILOGUE_BYTES} bytes follow the closing boundary"
    return RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; end the form there")
