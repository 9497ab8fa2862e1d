"""The Unix socket that the service listens on beside its port, and the file that stands for it."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

_LONGEST_PATH: Final = 107
"""Bytes of a Unix socket's path, at most."""
_MODE: Final = 0o660
"""Who may connect: the server's user and group. The folder may let in fewer."""
_ANSWER_SECONDS: Final = 5.0


class UnixSocketError(Exception):
    """A Unix socket cannot be used; says why, and what to do."""


class UnixListener:
    """A listening Unix socket with its file."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self.path: Final = path
        self.socket: Final = listener
        self._file = _find(path)

    def remove(self) -> None:
        """Remove the file, unless another server's has taken its place."""
        if self._file is not None and _find(self.path) == self._file:
            self.path.unlink(missing_ok=True)


def take_over(path: Path | None, passed: socket.socket, giver: str) -> UnixListener:
    """Return the Unix socket that the server before this one passes.

    Args:
        path: Where this server is to listen.
        passed: The socket.
        giver: Who passes it.

    Raises:
        UnixSocketError: It is at another path.
    """
    there = Path(os.fsdecode(passed.getsockname()))
    if there != path:
        msg = (
            f"the server at {giver} listens on {there} too, but LOSSD_UNIX_SOCKET is "
            f"{path or 'not set'}; make them agree, or stop that server first"
        )
        raise UnixSocketError(msg)
    return UnixListener(there, passed)


def listen_at(path: Path, waiting: int) -> UnixListener:
    """Return a socket that listens at a path.

    Args:
        path: The path. A socket's file that a dead server left there is replaced.
        waiting: The most connections that have not been accepted.

    Raises:
        UnixSocketError: It cannot, or a server listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(str(path))
        path.chmod(_MODE)  # nobody can connect before it listens
        listener.listen(waiting)
    except OSError as error:
        listener.close()
        raise _refusal(path, *why_unusable(path, error)) from None
    except UnixSocketError:
        listener.close()
        raise
    return UnixListener(path, listener)


def _find(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path, if there is one."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _clear(path: Path) -> None:
    """Remove a socket's file to which nobody listens.

    Raises:
        UnixSocketError: A server listens, or it is something else.
        OSError: It cannot be looked at, or removed.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _refusal(path, "something else than a socket is there", "remove it, or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            if error.errno not in (errno.EPROTOTYPE, errno.EAGAIN, errno.ETIMEDOUT):
                raise
    raise _refusal(path, "another program listens there", "end it, or name another path")


def why_unusable(path: Path, error: OSError) -> tuple[str, str]:
    """Return why there can be no socket at a path, and what to do."""
    why, remedy = error.strerror or str(error), "name a path in a folder that this user may write"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        remedy = f"name one of at most {_LONGEST_PATH} bytes"
    elif error.errno == errno.ENOENT:
        why, remedy = f"there is no folder {path.parent}", "make it, or name another path"
    return why, remedy


def _refusal(path: Path, why: str, remedy: str) -> UnixSocketError:
    return UnixSocketError(f"cannot listen on {path} (LOSSD_UNIX_SOCKET): {why}; {remedy}")
