"""Interfaces between a connection and what answers its requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from starlette.types import Scope

from lossd.api.http.upload import Upload
from lossd.types import RequestError

SHORT_BYTES: Final = 1 << 16
"""Unwanted bodies up to this length are read so that the connection can be reused."""


class Connection(Protocol):
    """A connection, as seen by what answers one of its requests.

    Attributes:
        received_at: When what it took last had arrived, by time.monotonic().
    """

    received_at: float

    def when_interrupted(self, callback: Callable[[RequestError | None], None]) -> Callable[[], None]:
        """Call ``callback`` if the request cannot go on.

        It is called with None if the caller has hung up, or with the error if the body cannot be read on.

        Returns:
            A function that ends this.
        """

    def set_reading(self, reading: bool) -> None:
        """Say whether more of the body is awaited, for which the caller may not take too long."""

    def begin_upload(self, scope: Scope, missing: int) -> Upload | None:
        """Read the rest of a body past the parser.

        Args:
            scope: The request's.
            missing: The bytes of its body that have not been received.

        Returns:
            None where that is not possible.
        """

    def end_upload(self, upload: Upload) -> None:
        """Let the parser read again, after an upload or the rest of an unwanted one."""


class Lane(Protocol):
    """A second way for the requests of one connection, which they may take before they are parsed."""

    @property
    def busy(self) -> bool:
        """There is a request on it that has not been answered."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes while it is busy, or between two requests; return those it does not want."""

    def lost(self) -> None:
        """End: the caller has hung up."""

    def stop(self) -> None:
        """Answer at once: the server is about to end."""
