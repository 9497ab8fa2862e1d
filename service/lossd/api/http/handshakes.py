"""Connections whose TLS handshakes have not ended, bounded in number and memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Final, Generic, TypeVar

from lossd.engine.scheduler import LoopTurns

Held = TypeVar("Held")

_LEAST: Final = 64
"""Handshakes there may be though there is no room for connections: an idle one gives way once one is done."""
_MOST_BEGUN: Final = 256
"""Handshakes that may have begun. Each has 50 KB of buffers."""
_SECONDS: Final = 1e-3
"""About the time of the event loop that a handshake takes."""


class Handshakes:
    """Connections whose callers have not begun TLS, and handshakes under way.

    No TLS object exists before the first byte has arrived. When there are too many, the oldest one of the
    address that has most gives way.

    Args:
        connect: Begins a handshake; the task ends with it.
        seconds: How long a caller may take to begin.
        room: Returns how many connections there is room for.
        turns: Shares the event loop's time.
    """

    def __init__(
        self,
        connect: Callable[[socket.socket], asyncio.Task[object]],
        seconds: float,
        room: Callable[[], int],
        turns: LoopTurns,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._seconds = seconds
        self._room = room
        self._turns = turns
        self._silent: _ByAddress[asyncio.TimerHandle] = _ByAddress()
        self._begun: _ByAddress[asyncio.Task[object]] = _ByAddress()

    def add(self, accepted: socket.socket, address: str) -> None:
        """Wait until the caller of a new connection begins."""
        if len(self._silent) + len(self._begun) >= max(_LEAST, self._room()):
            if self._silent:
                self._drop(*self._silent.oldest())
            else:
                self._abort_oldest()
        self._loop.add_reader(accepted, self._prepare, accepted, address)
        timeout = self._loop.call_later(self._seconds, self._drop, accepted, address)
        self._silent.put(accepted, address, timeout)

    def _drop(self, accepted: socket.socket, address: str) -> None:
        """Close a connection that has not begun."""
        self._leave_silent(accepted, address)
        accepted.close()

    def _leave_silent(self, accepted: socket.socket, address: str) -> bool:
        timeout = self._silent.pop(accepted, address)
        if timeout is None:
            return False
        timeout.cancel()
        self._loop.remove_reader(accepted)
        return True

    def _prepare(self, accepted: socket.socket, address: str) -> None:
        """Queue a handshake, fairly by address: each keeps the event loop busy for a while."""
        self._loop.remove_reader(accepted)
        self._turns.add("", 1.0, f"address {address}", partial(self._begin, accepted, address))

    def _begin(self, accepted: socket.socket, address: str) -> None:
        if not self._leave_silent(accepted, address):
            return  # it has been closed meanwhile
        if len(self._begun) >= _MOST_BEGUN:
            self._abort_oldest()
        self._turns.spend(_SECONDS)
        handshake = self._connect(accepted)
        self._begun.put(accepted, address, handshake)
        handshake.add_done_callback(lambda _: self._begun.pop(accepted, address))

    def _abort_oldest(self) -> None:
        handshake = self._begun.pop(*self._begun.oldest())
        if handshake is not None:
            handshake.cancel()


class _ByAddress(Generic[Held]):
    """Something for each socket, by its caller's address, and for each address in order of arrival."""

    def __init__(self) -> None:
        self._addresses: dict[str, dict[socket.socket, Held]] = {}
        self._sockets = 0

    def __len__(self) -> int:
        return self._sockets

    def put(self, accepted: socket.socket, address: str, held: Held) -> None:
        self._addresses.setdefault(address, {})[accepted] = held
        self._sockets += 1

    def pop(self, accepted: socket.socket, address: str) -> Held | None:
        """Remove a socket, and return what is held for it; None if it is not there."""
        sockets = self._addresses.get(address, {})
        held = sockets.pop(accepted, None)
        if held is not None:
            self._sockets -= 1
            if not sockets:
                del self._addresses[address]
        return held

    def oldest(self) -> tuple[socket.socket, str]:
        """Return the oldest socket of the address that has most, and the address."""
        address = max(self._addresses, key=lambda address: len(self._addresses[address]))
        return next(iter(self._addresses[address])), address
