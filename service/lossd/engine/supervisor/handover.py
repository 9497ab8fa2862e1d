"""Handing the listening sockets to a new server, over a Unix socket at a path that both know.

1. The new server connects, and gets the listening sockets and the Unix socket itself. The old one goes on.
2. Once the new one accepts requests, it says so. The old one stops listening, and closes the connection.
3. The new one goes on to hand over to the next.

If the new one ends before 2, nothing has happened. Both must belong to the same user.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from lossd.engine.supervisor.unix_socket import UnixSocketError, why_unusable

logger = logging.getLogger(__name__)

_READY: Final = b"ready"
_MOST_BYTES: Final = 64
_MOST_SOCKETS: Final = 4
_ANSWER_SECONDS: Final = 5.0
_CREDENTIALS: Final = struct.Struct("=iII")  # process, user, group


class Handover:
    """The Unix socket by which this server hands over to the next.

    Args:
        path: Where it is.
        door: The socket.
        listeners: What is handed over: the service's listening socket, then the admin's and the service's
            Unix socket, if there are any.
        owned: Whether it is this server's already, not still the one's before.
    """

    def __init__(
        self, path: Path, door: socket.socket, listeners: Sequence[socket.socket], *, owned: bool
    ) -> None:
        self._path = path
        self._door = door
        self._listeners = listeners
        self._owned = owned
        door.setblocking(False)

    async def serve(self, when_taken: Callable[[], None]) -> None:
        """Offer the sockets to one after the other, until one accepts from them; then call ``when_taken``."""
        loop = asyncio.get_running_loop()
        while True:
            self._owned = True
            link, _ = await loop.sock_accept(self._door)
            with link:
                link.setblocking(False)
                pid, user = _peer(link)
                if user != os.geteuid():
                    logger.error("user %d may not take the port over: it is not this server's", user)
                    continue
                logger.info("process %d is about to take the port over", pid)
                answer = b""
                with suppress(ConnectionError):
                    fds = [self._door.fileno(), *(listener.fileno() for listener in self._listeners)]
                    socket.send_fds(link, [str(os.getpid()).encode()], fds)
                    self._owned = False
                    answer = await loop.sock_recv(link, _MOST_BYTES)
                if answer == _READY:
                    when_taken()
                    logger.info("process %d has taken the port over", pid)
                    return
                logger.warning("process %d ended before it was ready; this server goes on", pid)

    @property
    def owned(self) -> bool:
        """Whether what is handed over is this server's: neither still the one's before, nor the next's."""
        return self._owned

    def close(self) -> None:
        """Remove the Unix socket, unless another server has it."""
        self._door.close()
        if self._owned:
            self._path.unlink(missing_ok=True)


class Predecessor:
    """The server that this one takes over from.

    Args:
        link: The connection to it.
        pid: Its process id.
        door: The Unix socket.
        listener: The service's listening socket.
        others: The admin listener's and the service's Unix socket, if there are any.
    """

    def __init__(
        self,
        link: socket.socket,
        pid: int,
        door: socket.socket,
        listener: socket.socket,
        *others: socket.socket,
    ) -> None:
        self._link = link
        self._pid = pid
        self.door: Final = door
        self.listener: Final = listener
        self.admin: Final = next((one for one in others if one.family != socket.AF_UNIX), None)
        self.unix: Final = next((one for one in others if one.family == socket.AF_UNIX), None)
        link.setblocking(False)

    async def replace(self) -> None:
        """Tell it that this server accepts requests, and wait until it has stopped listening."""
        loop = asyncio.get_running_loop()
        with self._link, suppress(ConnectionError):  # it may have ended
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await loop.sock_sendall(self._link, _READY)
                    await loop.sock_recv(self._link, _MOST_BYTES)
            except TimeoutError:
                logger.error("process %d does not let go of the port; end it with kill -9", self._pid)
                return
        logger.info("took the port over from process %d", self._pid)


def ask(path: Path) -> Predecessor | None:
    """Return the server that answers at a path, with its sockets; None if there is none.

    Raises:
        UnixSocketError: It cannot be asked, does not answer, or is another user's.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(_ANSWER_SECONDS)
    try:
        link.connect(str(path))
        _, user = _peer(link)
        if user != os.geteuid():
            link.close()
            msg = (
                f"the server at {path} (LOSSD_HANDOVER) is user {user}'s, this one user {os.geteuid()}'s; "
                "run both as one user"
            )
            raise UnixSocketError(msg)
        data, fds, _, _ = socket.recv_fds(link, _MOST_BYTES, _MOST_SOCKETS)
    except (FileNotFoundError, ConnectionError):
        link.close()
        return None
    except TimeoutError:
        link.close()
        msg = (
            f"the server at {path} (LOSSD_HANDOVER) does not answer; if no other new server takes it over "
            "right now, it hangs: end it"
        )
        raise UnixSocketError(msg) from None
    except OSError as error:
        link.close()
        raise _unusable(path, error) from None
    if not data:  # it is just ending
        link.close()
        return None
    for fd in fds:
        os.set_inheritable(fd, False)
    return Predecessor(link, int(data), *(socket.socket(fileno=fd) for fd in fds))


def open_door(path: Path) -> socket.socket:
    """Return a Unix socket at a path, for this user only.

    Raises:
        UnixSocketError: There cannot be one.
    """
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()  # of a server that was killed
        door.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens
        door.listen()
    except OSError as error:
        door.close()
        raise _unusable(path, error) from None
    return door


def _unusable(path: Path, error: OSError) -> UnixSocketError:
    """Return the error that says why there can be no Unix socket at a path, and what to do."""
    why, remedy = why_unusable(path, error)
    if error.errno == errno.EADDRINUSE:
        why, remedy = "it is a file, not a socket", "remove it, or name another path"
    elif error.errno == errno.EPROTOTYPE:
        why, remedy = "it is another program's socket", "name another path"
    return UnixSocketError(f"LOSSD_HANDOVER={path} cannot be used for the handover: {why}; {remedy}")


def _peer(link: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(raw)
    return pid, user
