"""How long bodies may be: as they come, and as they are laid down."""

from __future__ import annotations

from dataclasses import dataclass

from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError
from lossd.wire import MOST_INFLATED, Decoder


@dataclass(frozen=True, slots=True)
class Room:
    """The most bytes that a body may have as it is laid down.

    Attributes:
        nbytes: So many.
        code: The fault of a body that has more.
        detail: What that fault says.
    """

    nbytes: int
    code: ErrorCode
    detail: str

    @property
    def as_declared(self) -> bool:
        """It is the length that the request tells, of a body that is laid down as it is sent."""
        return self.code == ErrorCode.TRUNCATED_BODY

    def check(self, nbytes: int) -> None:
        """Refuse a body that has, or announces, more bytes.

        Raises:
            RequestError: With the code.
        """
        if nbytes > self.nbytes:
            raise RequestError(self.code, self.detail)

    def check_announced(self, nbytes: int) -> None:
        """Refuse a body that announces more bytes, unless it is certain to end before: its reader says where.

        Raises:
            RequestError: With the code.
        """
        if not self.as_declared:
            self.check(nbytes)


def room_as_sent(declared: int | None, limit: int, settings: Settings) -> Room:
    """The room of a body as it is sent.

    Args:
        declared: Its length, if the request tells it.
        limit: The most that such a body may have.
        settings: The server's.

    Raises:
        RequestError: ``body_too_large``, by the declared length.
    """
    if declared is None:
        limit = min(limit, settings.max_chunked_bytes)
        detail = f"a body without Content-Length may have {limit} bytes; say how long it is, or send less"
        return Room(limit, ErrorCode.BODY_TOO_LARGE, detail)
    if declared > limit:
        detail = f"the body has {declared} bytes, at most {limit} are taken; send it in several requests"
        raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
    detail = f"the body goes on behind the {declared} bytes of Content-Length"
    return Room(declared, ErrorCode.TRUNCATED_BODY, detail)


def room_expanded(limit: int, settings: Settings, most: int | None = None) -> Room:
    """The room of a body that is laid down expanded.

    Args:
        limit: The most that a body of its format may have.
        settings: The server's.
        most: What its bytes can come to at most, if that is known.
    """
    nbytes = min(limit, settings.max_expanded_bytes)
    return _expanded(nbytes if most is None else min(nbytes, most))


def _expanded(nbytes: int) -> Room:
    detail = (
        f"the body expands to more than {nbytes} bytes; send it in several requests, or in a binary format "
        "without compression"
    )
    return Room(nbytes, ErrorCode.EXPANDED_TOO_LARGE, detail)


def room_of(
    declared: int | None, limit: int, decoder: Decoder | None, settings: Settings, *, expands: bool = False
) -> Room:
    """The room of a body that is laid down as a whole.

    Args:
        declared: Its length, if the request tells it.
        limit: The most that a body of its format may have.
        decoder: Of its coding, if it has one.
        settings: The server's.
        expands: What is laid down may be longer than what was sent, whatever the coding.

    Raises:
        RequestError: ``body_too_large``, by the declared length.
    """
    sent = room_as_sent(declared, limit, settings)
    if decoder is not None:
        inflated = None if declared is None or expands else decoder.most(declared)
        return room_expanded(limit, settings, inflated)
    if expands:  # what is not compressed in it has the room of any body
        expanded = room_expanded(limit, settings, MOST_INFLATED * sent.nbytes)
        return _expanded(max(expanded.nbytes, sent.nbytes))
    return sent
