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
_FEW: Final = 4
"""An address with no more than this has no more than others: a client makes some at once."""
_SECONDS: Final = 0.2e-3
"""About the time of the event loop that it takes to begin a handshake."""


class Handshakes:
    """Connections whose callers have not begun TLS, and handshakes under way.

    No TLS object exists before the first byte has arrived. When there are too many, the oldest one of the
    address that has most gives way, or the oldest of all if each address has few. Those whose callers have
    sent something go last.

    Args:
        connect: Begins a handshake, of a socket and whose it is; the task ends with it.
        seconds: How long a caller may take to begin.
        room: Returns how many connections there is room for.
        turns: Shares the event loop's time.
    """

    def __init__(
        self,
        connect: Callable[[socket.socket, str], asyncio.Task[object]],
        seconds: float,
        room: Callable[[], int],
        turns: LoopTurns,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._seconds = seconds
        self._room = room
        self._turns = turns
        self._silent: _ByOwner[asyncio.TimerHandle] = _ByOwner()
        self._ready: _ByOwner[asyncio.TimerHandle] = _ByOwner()  # they have begun, and wait for their turn
        self._begun: _ByOwner[asyncio.Task[object]] = _ByOwner()

    def add(self, accepted: socket.socket, owner: str) -> None:
        """Wait until the caller of a new connection begins."""
        if len(self._silent) + len(self._ready) + len(self._begun) >= max(_LEAST, self._room()):
            if self._silent:
                self._drop(self._silent.oldest())
            elif self._begun:
                self._abort_oldest()
            else:
                self._drop(self._ready.oldest())
        self._loop.add_reader(accepted, self._prepare, accepted, owner)
        timeout = self._loop.call_later(self._seconds, self._drop, accepted)
        self._silent.put(accepted, owner, timeout)

    def _drop(self, accepted: socket.socket) -> None:
        """Close a connection without a TLS object."""
        if (timeout := self._silent.pop(accepted)) is not None:
            self._loop.remove_reader(accepted)
        else:
            timeout = self._ready.pop(accepted)
        if timeout is not None:
            timeout.cancel()
        accepted.close()

    def _prepare(self, accepted: socket.socket, owner: str) -> None:
        """Queue a handshake, fairly by owner: each keeps the event loop busy for a while."""
        self._loop.remove_reader(accepted)
        timeout = self._silent.pop(accepted)
        assert timeout is not None
        self._ready.put(accepted, owner, timeout)
        self._turns.add("", 1.0, owner, partial(self._begin, accepted, owner))

    def _begin(self, accepted: socket.socket, owner: str) -> None:
        timeout = self._ready.pop(accepted)
        if timeout is None:
            return  # it has been closed meanwhile
        timeout.cancel()
        if len(self._begun) >= _MOST_BEGUN:
            self._abort_oldest()
        self._turns.spend(_SECONDS)
        handshake = self._connect(accepted, owner)
        self._begun.put(accepted, owner, handshake)
        handshake.add_done_callback(lambda _: self._begun.pop(accepted))

    def _abort_oldest(self) -> None:
        handshake = self._begun.pop(self._begun.oldest())
        if handshake is not None:
            handshake.cancel()


class _ByOwner(Generic[Held]):
    """Something for each socket, by its owner, in order of arrival."""

    def __init__(self) -> None:
        self._all: dict[socket.socket, tuple[str, Held]] = {}
        self._owners: dict[str, dict[socket.socket, None]] = {}
        self._sizes: dict[int, dict[str, None]] = {}  # the owners, by how many sockets they have
        self._most = 0

    def __len__(self) -> int:
        return len(self._all)

    def put(self, accepted: socket.socket, owner: str, held: Held) -> None:
        self._all[accepted] = owner, held
        own = self._owners.setdefault(owner, {})
        own[accepted] = None
        self._resize(owner, len(own) - 1, len(own))

    def pop(self, accepted: socket.socket) -> Held | None:
        """Remove a socket, and return what is held for it; None if it is not there."""
        owner, held = self._all.pop(accepted, ("", None))
        if held is not None:
            own = self._owners[owner]
            del own[accepted]
            self._resize(owner, len(own) + 1, len(own))
            if not own:
                del self._owners[owner]
        return held

    def _resize(self, owner: str, before: int, now: int) -> None:
        if before:
            del self._sizes[before][owner]
            if not self._sizes[before]:
                del self._sizes[before]
        if now:
            self._sizes.setdefault(now, {})[owner] = None
        if now > self._most or self._most not in self._sizes:
            self._most = now

    def oldest(self) -> socket.socket:
        """Return the oldest socket of the owner that has most, or of all if each has few."""
        if self._most <= _FEW:
            return next(iter(self._all))
        return next(iter(self._owners[next(iter(self._sizes[self._most]))]))
