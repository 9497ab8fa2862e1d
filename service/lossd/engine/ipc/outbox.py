"""Sends frames without ever waiting: what does not fit into the socket now is kept for later."""

from __future__ import annotations

import socket
from collections import deque


class Outbox:
    """The frames for one peer.

    Args:
        link: The socket, which keeps message borders.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._unsent: deque[bytes] = deque()

    def send(self, frame: bytes) -> bool:
        """Send a frame, behind those that are kept; False if it had to be kept, too.

        A peer that is gone gets nothing: whoever reads from it hears of that.
        """
        self._unsent.append(frame)
        return self.flush()

    def flush(self) -> bool:
        """Send what is kept, now that there is room; False if something is kept still."""
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
