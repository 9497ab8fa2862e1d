"""Which slice a worker runs next. Pure bookkeeping: no sockets, no clock."""

from __future__ import annotations

from collections import deque

from lossd.engine.frames import Slice


class TurnQueue:
    """One slice of each request in turn, so that a large request does not hold up a small one."""

    def __init__(self) -> None:
        self._slices: dict[int, deque[Slice]] = {}  # by request, in the order of their turns

    def __len__(self) -> int:
        return sum(len(slices) for slices in self._slices.values())

    def push(self, piece: Slice) -> None:
        """Put a slice behind the others of its request."""
        self._slices.setdefault(piece.request, deque()).append(piece)

    def pop(self) -> Slice:
        """Take the next slice; its request goes to the back. There must be one."""
        request = next(iter(self._slices))
        slices = self._slices.pop(request)
        piece = slices.popleft()
        if slices:
            self._slices[request] = slices
        return piece
