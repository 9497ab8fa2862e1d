"""The rest of a long body, read straight into memory, past the HTTP parser.

uvicorn hands a body over by way of several objects, each of them a copy. In a body whose length is known
there is nothing to parse, so while it lasts its connection is read by this protocol instead: into the arena,
or where its bytes are not laid down as they come, into buffers so small that they stay in the processor's
cache.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

LEAST_BYTES: Final = 1 << 18
"""A shorter rest is not worth it."""
_SCRATCH_BYTES: Final = 1 << 18
_MOST_SPARE: Final = 32

_spare: Final[list[memoryview]] = []


class Connection(Protocol):
    """What an upload needs of the connection that it reads."""

    def pause_upload(self) -> None:
        """Read no more for now."""

    def resume_upload(self) -> None:
        """Read on."""

    def count_upload(self, nbytes: int) -> None:
        """Take note that so many bytes have come."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is lost."""

    def pause_writing(self) -> None:
        """What is written does not go out fast enough."""

    def resume_writing(self) -> None:
        """It does again."""


class Upload(asyncio.BufferedProtocol):
    """A body's rest.

    Args:
        connection: What it comes over.
        missing: How many bytes are to come.
    """

    def __init__(self, connection: Connection, missing: int) -> None:
        self.missing = missing
        """How many bytes are still to come."""
        self.lost = False
        """The caller has hung up."""
        self._connection = connection
        self._buffers = [_spare.pop() if _spare else memoryview(bytearray(_SCRATCH_BYTES)) for _ in range(2)]
        self._view = self._buffers[0]  # what is being filled
        self._filled = 0  # of it
        self._taken = 0  # how many bytes have been handed out of what is asked for next
        self._full: memoryview | None = None  # the other buffer, while there is something in it to hand out
        self._paused = False
        self._arrived = asyncio.Event()

    @property
    def ended(self) -> bool:
        """All of it has come and been handed out."""
        return not self.missing and self._full is None and self._taken == self._filled

    def aim(self, view: memoryview) -> None:
        """Read into some memory, which is large enough for all; said before the first chunk is asked for."""
        nbytes = 0
        for part in (self._full or b"", self._view[: self._filled]):
            view[nbytes : nbytes + len(part)] = part
            nbytes += len(part)
        self._view, self._filled, self._full = view, nbytes, None
        self._give_buffers_back()
        self._go_on()

    async def chunk(self) -> memoryview:
        """What has come since the last call, valid until the next one; nothing if the caller is gone."""
        if self._full is not None:
            if self._taken == len(self._full):  # what was handed out last may be looked at until now
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
        """Take note that nobody looks at what has come any more."""
        self._give_buffers_back()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        del sizehint
        return self._view[self._filled : self._filled + self.missing]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note that so many bytes have come."""
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
        """Have a buffer that is full handed out, and fill the other one meanwhile."""
        self._full, self._view, self._filled = self._view, self._other, 0

    def _pause(self) -> None:
        self._paused = True
        self._connection.pause_upload()

    def _go_on(self) -> None:
        if self._paused and self.missing:
            self._paused = False
            self._connection.resume_upload()

    def _give_buffers_back(self) -> None:
        if len(_spare) + 2 <= _MOST_SPARE:
            _spare.extend(self._buffers)
        self._buffers = []
