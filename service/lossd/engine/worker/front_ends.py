"""A worker's front ends: their sockets and their arenas, which come and go while it works.

The supervisor says of each new front end over the control socket. One that is gone closes its end. Nothing
here waits but for something to arrive, so that a front end which does not listen holds up nobody else.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Final

from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import (
    MAX_FRAME,
    FromFrontEnd,
    FromWorker,
    FrontEndStarted,
    Ready,
    decode_from_front_end,
    decode_from_supervisor,
    encode,
)
from lossd.engine.ipc.outbox import Outbox


class FrontEnd:
    """A front end, as a worker sees it.

    Args:
        number: Its number.
        link: The socket to it.
        memory: Its arena.

    Attributes:
        gone: Its end of the socket is closed; nobody waits for its slices any more.
    """

    def __init__(self, number: int, link: socket.socket, memory: Memory) -> None:
        self.number: Final = number
        self.link: Final = link
        self.memory: Final = memory
        self.outbox: Final = Outbox(link)
        self.gone = False


class Links:
    """The sockets to the supervisor and to the front ends.

    Args:
        control: The socket to the supervisor.
        ready: What every front end is told first.
        joined: Called with each new front end.
        left: Called with each one that is gone.
    """

    def __init__(
        self,
        control: socket.socket,
        ready: Ready,
        joined: Callable[[FrontEnd], None],
        left: Callable[[FrontEnd], None],
    ) -> None:
        self.ended = False
        """The supervisor is gone, and the worker is to end."""
        self._control = control
        self._ready = ready
        self._joined = joined
        self._left = left
        self._front_ends: dict[int, FrontEnd] = {}  # by descriptor
        self._frame = memoryview(bytearray(MAX_FRAME))
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)

    def receive(self, seconds: float) -> list[tuple[FrontEnd, FromFrontEnd]]:
        """Everything that has arrived; if nothing has, what arrives first within so many seconds."""
        found: list[tuple[FrontEnd, FromFrontEnd]] = []
        events = self._epoll.poll(seconds)
        while events and not self.ended:
            for fd, event in events:
                if fd == self._control.fileno():
                    self._hear_supervisor()
                    continue
                front_end = self._front_ends[fd]
                if event & select.EPOLLOUT and front_end.outbox.flush():
                    self._epoll.modify(fd, select.EPOLLIN)
                if event & ~select.EPOLLOUT:
                    frame = self._hear(front_end)
                    if frame is not None:
                        found.append((front_end, frame))
            events = self._epoll.poll(0)
        return found

    def send(self, front_end: FrontEnd, answer: FromWorker) -> None:
        """Send an answer, now or as soon as the front end takes it."""
        if not front_end.gone and not front_end.outbox.send(encode(answer)):
            self._epoll.modify(front_end.link, select.EPOLLIN | select.EPOLLOUT)

    def close(self) -> None:
        """Close all sockets."""
        for front_end in list(self._front_ends.values()):
            self._part(front_end)
        self._epoll.close()
        self._control.close()

    def _hear(self, front_end: FrontEnd) -> FromFrontEnd | None:
        try:
            size = front_end.link.recv_into(self._frame)
        except ConnectionError:
            size = 0
        if size:
            return decode_from_front_end(self._frame[:size])
        self._part(front_end)
        return None

    def _hear_supervisor(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MAX_FRAME, 2)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self.ended = True
            return
        frame = decode_from_supervisor(data)
        assert isinstance(frame, FrontEndStarted)
        link_fd, arena_fd = fds
        memory = Memory(arena_fd, frame.arena_bytes)
        os.close(arena_fd)  # the mapping keeps the memory
        front_end = FrontEnd(frame.front_end, socket.socket(fileno=link_fd), memory)
        self._front_ends[link_fd] = front_end
        self._epoll.register(link_fd, select.EPOLLIN)
        self._joined(front_end)
        self.send(front_end, self._ready)

    def _part(self, front_end: FrontEnd) -> None:
        del self._front_ends[front_end.link.fileno()]
        self._epoll.unregister(front_end.link)
        front_end.link.close()
        front_end.gone = True
        self._left(front_end)
