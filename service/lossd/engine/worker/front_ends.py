"""A worker's connections to its front ends, which come and go while it works.

The supervisor sends each new front end's socket and arena over the control socket. A front end that ends
closes its socket. Sending never blocks, so that a front end that does not read delays nobody else.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Final

from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, Sender
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import (
    FromFrontEnd,
    FromWorker,
    FrontEndStarted,
    Ready,
    decode_from_front_end,
    decode_from_supervisor,
    encode,
)


class FrontEnd:
    """A front end, as a worker sees it.

    Args:
        number: Its number.
        link: The socket to it.
        memory: Its arena.

    Attributes:
        gone: Whether its socket is closed, so that nobody waits for its slices any more.
    """

    def __init__(self, number: int, link: socket.socket, memory: Memory) -> None:
        self.number: Final = number
        self.link: Final = link
        self.memory: Final = memory
        self.sender: Final = Sender(link)
        self.gone = False


class FrontEnds:
    """The sockets to the supervisor and to the front ends.

    Args:
        control: The socket to the supervisor.
        ready: The first message to every front end.
        joined: Called with each new front end.
        left: Called with each front end that is gone.
    """

    def __init__(
        self,
        control: socket.socket,
        ready: Ready,
        joined: Callable[[FrontEnd], None],
        left: Callable[[FrontEnd], None],
    ) -> None:
        self.ended = False
        """Whether the supervisor has closed its end, and the worker is to end."""
        self._control = control
        self._ready = ready
        self._joined = joined
        self._left = left
        self._front_ends: dict[int, FrontEnd] = {}  # by descriptor
        self._buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)

    def receive(self, seconds: float) -> list[tuple[FrontEnd, FromFrontEnd]]:
        """Return all messages that have arrived, waiting up to some seconds for the first."""
        found: list[tuple[FrontEnd, FromFrontEnd]] = []
        events = self._epoll.poll(seconds)
        while events and not self.ended:
            for fd, event in events:
                if fd == self._control.fileno():
                    self._read_supervisor()
                    continue
                front_end = self._front_ends[fd]
                if event & select.EPOLLOUT and front_end.sender.flush():
                    self._epoll.modify(fd, select.EPOLLIN)
                if event & ~select.EPOLLOUT:
                    message = self._read(front_end)
                    if message is not None:
                        found.append((front_end, message))
            events = self._epoll.poll(0)
        return found

    def send(self, front_end: FrontEnd, answer: FromWorker) -> None:
        """Send an answer, now or as soon as there is room."""
        if not front_end.gone and not front_end.sender.send(encode(answer)):
            self._epoll.modify(front_end.link, select.EPOLLIN | select.EPOLLOUT)

    def close(self) -> None:
        """Close all sockets."""
        for front_end in list(self._front_ends.values()):
            self._remove(front_end)
        self._epoll.close()
        self._control.close()

    def _read(self, front_end: FrontEnd) -> FromFrontEnd | None:
        try:
            size = front_end.link.recv_into(self._buffer)
        except ConnectionError:
            size = 0
        if size:
            return decode_from_front_end(self._buffer[:size])
        self._remove(front_end)
        return None

    def _read_supervisor(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 2)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self.ended = True
            return
        message = decode_from_supervisor(data)
        assert isinstance(message, FrontEndStarted)
        link_fd, arena_fd = fds
        memory = Memory(arena_fd, message.arena_bytes)
        os.close(arena_fd)  # the mapping keeps the memory
        front_end = FrontEnd(message.front_end, socket.socket(fileno=link_fd), memory)
        self._front_ends[link_fd] = front_end
        self._epoll.register(link_fd, select.EPOLLIN)
        self._joined(front_end)
        self.send(front_end, self._ready)

    def _remove(self, front_end: FrontEnd) -> None:
        del self._front_ends[front_end.link.fileno()]
        self._epoll.unregister(front_end.link)
        front_end.link.close()
        front_end.gone = True
        self._left(front_end)
