"""The door that requests for a loss come in by: it counts who is inside, and can be closed."""

from __future__ import annotations

import asyncio

from lossd.types import ErrorCode, RequestError


class Door:
    """Open until the server is to stop; from then on those inside are served, and nobody else."""

    def __init__(self) -> None:
        self.closed = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self) -> None:
        """Come in.

        Raises:
            RequestError: ``draining``: it is closed.
        """
        if self.closed:
            raise RequestError(
                ErrorCode.DRAINING, "the server is being stopped; send this to another, or again later"
            )
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Go, after having come in."""
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    async def close(self, seconds: float) -> None:
        """Let nobody in any more, and wait until all have left, for so many seconds at most."""
        self.closed = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return
