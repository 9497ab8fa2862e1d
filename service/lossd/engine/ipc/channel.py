"""Sockets between front ends, workers and supervisor."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import Final

MAX_MESSAGE_BYTES: Final = 1 << 17
_SPARE_DESCRIPTORS: Final = 4


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that keep message borders: a message is one send and one recv."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MAX_MESSAGE_BYTES)
    return ours, theirs


class Sender:
    """Sends messages over a socket without blocking; those that find no room wait here, in order."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._unsent: deque[bytes] = deque()

    def send(self, message: bytes) -> bool:
        """Send a message after those that wait; return False if it has to wait, too.

        Messages to a closed peer are dropped: the reader of the socket notices that it is closed.
        """
        self._unsent.append(message)
        return self.flush()

    def flush(self) -> bool:
        """Send the waiting messages as far as there is room; return False if some still wait."""
        while self._unsent:
            try:
                self._link.send(self._unsent[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except ConnectionError:
                self._unsent.clear()
                break
            self._unsent.popleft()
        return True


class SpareDescriptors:
    """A few open file descriptors, closed when others must be received.

    A process at its limit of descriptors cannot receive another one: the kernel drops it, and the message it
    came with is useless. Connections take all that they can get, so room has to be kept for it.
    """

    def __init__(self) -> None:
        self._fds: list[int] = []
        self.refill()

    def free_one(self) -> None:
        """Make room for one descriptor."""
        if self._fds:
            os.close(self._fds.pop())

    def refill(self) -> None:
        """Open spare descriptors again, as far as the limit allows."""
        try:
            while len(self._fds) < _SPARE_DESCRIPTORS:
                self._fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return

    def close(self) -> None:
        """Close all."""
        while self._fds:
            os.close(self._fds.pop())
