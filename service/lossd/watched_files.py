"""Files that are looked at again and again, to notice when one has been written or replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path


class WatchedFiles:
    """Some files, and their state at the last look.

    Args:
        paths: The files, which need not exist. A link counts as the file that it leads to.
        seconds: Time between two looks.
    """

    def __init__(self, *paths: Path, seconds: float) -> None:
        self._paths = paths
        self._seconds = seconds
        self._seen = self._states()

    async def changes(self) -> AsyncIterator[None]:
        """Yield after each change since the last look."""
        while True:
            await asyncio.sleep(self._seconds)
            states = await asyncio.to_thread(self._states)  # a network's disk may be slow
            if states != self._seen:
                self._seen = states
                yield

    def _states(self) -> list[tuple[int, ...]]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> tuple[int, ...]:
    """Return numbers that differ once a file has been written or replaced."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
