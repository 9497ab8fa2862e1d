"""Callers that hang up while nothing is read from their connections."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress


class DisconnectWatcher:
    """Watches sockets for peers that have closed them, with an epoll of its own.

    The event loop notices that only while it reads from a socket. Each event loop has one such watcher.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._notify)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the peer has hung up, or has closed its half."""
        self._callbacks[fd] = callback
        events = select.EPOLLRDHUP | select.EPOLLONESHOT  # errors are always reported
        try:
            self._epoll.register(fd, events)
        except FileExistsError:  # from an earlier request of the same connection
            self._epoll.modify(fd, events)

    def forget(self, fd: int, callback: Callable[[], None]) -> None:
        """Do not call ``callback`` any more."""
        if self._callbacks.get(fd) != callback:
            return  # the descriptor is another connection's by now
        del self._callbacks[fd]
        with suppress(OSError):  # the socket was closed, which ended the watch
            self._epoll.unregister(fd)

    def _notify(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()
