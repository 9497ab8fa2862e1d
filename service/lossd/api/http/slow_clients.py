"""Limits on how long a caller may keep its connection waiting.

Each connection is looked at a few times a second (`lossd.api.http.connections`), so that no request costs a
timer.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final, Protocol

from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError

_LEAST_READ: Final = 1 << 16
"""Bytes of an answer that a caller must read now and then, or its connection counts as stuck."""
_REST_SECONDS: Final = 1.0
"""Time for the rest of a short, unwanted body."""


class Stage(Enum):
    """The stages of a connection, by what it waits for."""

    NOTHING = "nothing that its caller could delay"
    REQUEST = "the next request"
    HEAD = "the rest of a head"
    BODY = "more of a body"
    REST = "the rest of a body, after the answer"
    ANSWER = "the caller to read an answer"


class Connection(Protocol):
    """A connection, as seen by its guard.

    Attributes:
        transport: Its transport.
        requests: Heads that have been received.
        body_bytes: Bytes of the last request's body that have been received.
    """

    transport: asyncio.Transport
    requests: int
    body_bytes: int

    @property
    def stage(self) -> Stage:
        """The stage that it is in."""

    def idle_too_long(self, now: float) -> bool:
        """Return whether it has waited too long for the next request, by the loop's clock."""

    def hang_up(self) -> None:
        """Abort it, and what answers its request."""

    def linger(self) -> None:
        """Close it once the caller has stopped sending."""

    def refuse(self, error: RequestError) -> None:
        """Read no further, and answer with an error."""


class SlowClientGuard:
    """Ends one connection if its caller is too slow."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._request = 0  # the number of the request that the rest belongs to
        self._late_seconds = 0.0  # since its head began, or its unwanted rest
        self._credit = 0.0  # bytes that its upload is ahead of the least rate
        self._counted_bytes = 0  # bytes of its body that are in the credit
        self._stuck_seconds = 0.0  # since the caller last read enough of an answer
        self._unread_bytes = 0  # of the answer, at that time

    def client_read(self) -> None:
        """Record that the caller has read what was written."""
        self._stuck_seconds = 0.0

    def look(self, connection: Connection, now: float, seconds: float) -> None:
        """End a connection that has waited for too long.

        Args:
            connection: The connection.
            now: The loop's clock.
            seconds: The time since the last look.
        """
        settings, stage = self._settings, connection.stage
        if connection.requests != self._request:
            self._request, self._late_seconds, self._counted_bytes = connection.requests, 0.0, 0
            self._credit = settings.upload_grace_seconds * settings.upload_bytes_per_second
        if stage is Stage.ANSWER:
            self._charge_answer(connection, seconds)
            return
        self._stuck_seconds = 0.0
        if stage is Stage.REQUEST:
            if connection.idle_too_long(now):
                connection.transport.close()
        elif stage is Stage.BODY:
            self._charge_body(connection, seconds)
        elif stage is not Stage.NOTHING:
            self._late_seconds += seconds
            if stage is Stage.REST:
                if self._late_seconds > _REST_SECONDS:
                    connection.linger()
            elif self._late_seconds > settings.header_seconds:
                seconds_allowed = settings.header_seconds
                detail = f"the request head did not arrive within {seconds_allowed:g} s; send it in one piece"
                connection.refuse(RequestError(ErrorCode.UPLOAD_TOO_SLOW, detail))

    def _charge_answer(self, connection: Connection, seconds: float) -> None:
        unread = connection.transport.get_write_buffer_size()
        if not self._stuck_seconds or unread <= self._unread_bytes - _LEAST_READ:
            self._stuck_seconds, self._unread_bytes = 0.0, unread
        self._stuck_seconds += seconds
        if self._stuck_seconds > self._settings.stall_seconds:
            connection.hang_up()

    def _charge_body(self, connection: Connection, seconds: float) -> None:
        """Charge an upload for the time in which the server was reading it."""
        received = connection.body_bytes
        rate, pause = self._settings.upload_bytes_per_second, self._settings.upload_pause_seconds
        ahead = min(self._credit + received - self._counted_bytes, rate * pause)
        self._counted_bytes, self._credit = received, ahead - rate * seconds
        if self._credit < 0.0:
            detail = (
                f"the upload is too slow: {received} bytes so far; at least {rate} bytes/s are required, "
                f"apart from pauses up to {pause:g} s; send it faster, or in smaller requests"
            )
            connection.refuse(RequestError(ErrorCode.UPLOAD_TOO_SLOW, detail))
