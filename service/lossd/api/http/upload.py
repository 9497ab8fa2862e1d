"""The rest of a long body, read straight into memory, past the HTTP parser.

uvicorn copies a body several times. A body of known length needs no parser, so this protocol reads the
connection while it lasts: into the arena, or if the bytes are not stored as they are, into a buffer so small
that it stays in the processor's cache.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

LEAST_BYTES: Final = 1 << 18
"""The shortest rest that is read this way."""
_SCRATCH_BYTES: Final = 1 << 18
_MOST_SPARE: Final = 32

_spare: Final[list[memoryview]] = []


class Flow(Protocol):
    """Starts and stops the reading of a connection."""

    def pause_reading(self) -> None:
        """Read no more for now."""

    def resume_reading(self) -> None:
        """Read on."""


class Connection(Protocol):
    """A connection, as seen by the upload that reads it."""

    def count_upload(self, nbytes: int) -> None:
        """Count bytes that were received."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the connection is lost."""

    def pause_writing(self) -> None:
        """Stop writing: the caller does not read fast enough."""

    def resume_writing(self) -> None:
        """Go on writing."""


class Upload(asyncio.BufferedProtocol):
    """The rest of a body.

    It is read into a buffer only while somebody waits for it, and the buffer is given back when all of it has
    been used: connections that wait for anything else hold none.

    Args:
        connection: The connection.
        flow: The flow of the connection, which is not being read.
        missing: The bytes that have not been received.

    Attributes:
        missing: The bytes that have not been received.
        lost: The client has hung up.
    """

    def __init__(self, connection: Connection, flow: Flow, missing: int) -> None:
        self.missing = missing
        self.lost = False
        self._connection = connection
        self._flow = flow
        self._aimed = False  # it is read to where it is needed
        self._view: memoryview | None = None  # the memory that is being filled
        self._filled = 0  # bytes of it
        self._taken = 0  # bytes of it that have been handed out
        self._paused = True
        self._arrived = asyncio.Event()

    @property
    def ended(self) -> bool:
        """All of it has been received and handed out."""
        return not self.missing and self._taken == self._filled

    def aim(self, view: memoryview) -> None:
        """Read into memory that is large enough for all. To be called before the first `chunk`."""
        self._view, self._aimed = view, True
        self._go_on()

    async def chunk(self) -> memoryview:
        """Return the bytes since the last call, valid until the next; none if the caller has hung up."""
        if not self._aimed and self._taken == self._filled:
            self.close()
        while self._taken == self._filled and not self.lost:
            self._go_on()
            self._arrived.clear()
            await self._arrived.wait()
        if self._view is None:
            return memoryview(b"")
        chunk = self._view[self._taken : self._filled]
        self._taken = self._filled
        return chunk

    def close(self) -> None:
        """Return the buffer: the last chunk is not used any more."""
        if self._view is not None and not self._aimed and len(_spare) < _MOST_SPARE:
            _spare.append(self._view)
        self._view, self._filled, self._taken = None, 0, 0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory for the next bytes."""
        if self._view is None:
            self._view = _spare.pop() if _spare else memoryview(bytearray(_SCRATCH_BYTES))
        return self._view[self._filled : self._filled + self.missing]

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that were received."""
        self._filled += nbytes
        self.missing -= nbytes
        self._connection.count_upload(nbytes)
        if not (self._aimed and self.missing):
            self._paused = True
            self._flow.pause_reading()
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self.lost = True
        self._arrived.set()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._connection.resume_writing()

    def _go_on(self) -> None:
        if self._paused and self.missing:
            self._paused = False
            self._flow.resume_reading()
