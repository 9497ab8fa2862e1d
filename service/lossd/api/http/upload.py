"""The rest of a long body, read straight into memory, past the HTTP parser.

uvicorn copies a body several times. A body of known length needs no parser, so this protocol reads the
connection while it lasts: into the arena, or if the bytes are not stored as they are, into buffers so small
that they stay in the processor's cache.
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

    Args:
        connection: The connection.
        flow: The flow of the connection.
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
        self._buffers = [_spare.pop() if _spare else memoryview(bytearray(_SCRATCH_BYTES)) for _ in range(2)]
        self._view = self._buffers[0]  # the memory that is being filled
        self._filled = 0  # bytes of it
        self._taken = 0  # bytes of the next chunk's memory that have been handed out
        self._full: memoryview | None = None  # the other buffer, while it holds bytes to hand out
        self._paused = False
        self._arrived = asyncio.Event()

    @property
    def ended(self) -> bool:
        """All of it has been received and handed out."""
        return not self.missing and self._full is None and self._taken == self._filled

    def aim(self, view: memoryview) -> None:
        """Read into memory that is large enough for all. To be called before the first `chunk`."""
        nbytes = 0
        for part in (self._full or b"", self._view[: self._filled]):
            view[nbytes : nbytes + len(part)] = part
            nbytes += len(part)
        self._view, self._filled, self._full = view, nbytes, None
        self._give_buffers_back()
        self._go_on()

    async def chunk(self) -> memoryview:
        """Return the bytes since the last call, valid until the next; none if the caller has hung up."""
        if self._full is not None:
            if self._taken == len(self._full):  # the last chunk was valid until now
                self._full, self._taken = None, 0
                if self.missing and self._filled == len(self._view):
                    self._turn()
                self._go_on()
        elif self._buffers and self._taken == self._filled:
            self._view = self._other
            self._filled = self._taken = 0
            self._go_on()
        while self._full is None and self._taken == self._filled and not self.lost:
            self._arrived.clear()
            await self._arrived.wait()
        if self._full is not None:
            chunk = self._full[self._taken :]
            self._taken = len(self._full)
        else:
            chunk = self._view[self._taken : self._filled]
            self._taken = self._filled
        return chunk

    def close(self) -> None:
        """Return the buffers: no chunk is used any more."""
        self._give_buffers_back()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory for the next bytes."""
        del sizehint
        return self._view[self._filled : self._filled + self.missing]

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that were received."""
        self._filled += nbytes
        self.missing -= nbytes
        self._connection.count_upload(nbytes)
        if not self.missing:
            self._pause()
        elif self._filled == len(self._view):
            if self._full is None:
                self._turn()
            else:
                self._pause()
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

    @property
    def _other(self) -> memoryview:
        return self._buffers[self._view is self._buffers[0]]

    def _turn(self) -> None:
        """Hand out the full buffer, and fill the other."""
        self._full, self._view, self._filled = self._view, self._other, 0

    def _pause(self) -> None:
        self._paused = True
        self._flow.pause_reading()

    def _go_on(self) -> None:
        if self._paused and self.missing:
            self._paused = False
            self._flow.resume_reading()

    def _give_buffers_back(self) -> None:
        if len(_spare) + 2 <= _MOST_SPARE:
            _spare.extend(self._buffers)
        self._buffers = []
