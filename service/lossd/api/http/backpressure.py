"""Backpressure on one connection: it is not read while something that was received cannot be taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lossd.api.http.disconnects import DisconnectWatcher


class Backpressure:
    """Stops and starts the reading of a connection, and notices a hang-up while it is not read.

    There are two reasons not to read, each known apart: uvicorn's flow control, which sees this in place of
    the transport, and received bytes that wait for their turn.

    Args:
        transport: The transport of the connection.
        disconnects: The event loop's watcher.
        wanted: Returns whether a hang-up matters now.
        hang_up: Called once the peer has hung up.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        disconnects: DisconnectWatcher,
        wanted: Callable[[], bool],
        hang_up: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._disconnects = disconnects
        self._wanted = wanted
        self._hang_up = hang_up
        self._paused = False  # by uvicorn's flow control
        self._held = False  # something waits for its turn

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not (self._paused or self._held):
            self._transport.pause_reading()
        self._paused = True
        self._watch_if_wanted()

    def hold(self) -> None:
        """Read no more until `release`, even after `resume_reading`: received bytes wait to be taken."""
        if not (self._paused or self._held):
            self._transport.pause_reading()
        self._held = True
        self._watch_if_wanted()

    def _watch_if_wanted(self) -> None:
        if self._wanted():
            self.watch()

    def watch(self) -> None:
        """Watch for a hang-up, unless the connection is read: then the event loop notices it."""
        if (self._paused or self._held) and not self._transport.is_closing():
            self._disconnects.watch(self._fd, self._hang_up)

    def resume_reading(self) -> None:
        """Read again, unless something waits for its turn."""
        self._paused = False
        if not self._held:
            self._read()

    def release(self) -> None:
        """Read again, unless uvicorn's flow control has paused it: nothing waits."""
        if self._held:
            self._held = False
            if not self._paused:
                self._read()

    def _read(self) -> None:
        self._disconnects.forget(self._fd, self._hang_up)
        self._transport.resume_reading()

    def close(self) -> None:
        """Watch no more: the connection is lost."""
        self._disconnects.forget(self._fd, self._hang_up)
