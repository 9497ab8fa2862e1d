"""Descriptors that are kept for others to come."""

from __future__ import annotations

import os
from typing import Final

_KEPT: Final = 4


class Spares:
    """A few descriptors of nothing, so that there is room for one that must be taken.

    A process whose connections have taken all that it may have cannot receive another: the kernel drops it,
    and what it was sent for is lost.
    """

    def __init__(self) -> None:
        self._fds: list[int] = []
        self.refill()

    def give(self) -> None:
        """Make room for one."""
        if self._fds:
            os.close(self._fds.pop())

    def refill(self) -> None:
        """Keep as many as before again, or as many as there is room for."""
        try:
            while len(self._fds) < _KEPT:
                self._fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return

    def close(self) -> None:
        """Let go of all."""
        while self._fds:
            os.close(self._fds.pop())
