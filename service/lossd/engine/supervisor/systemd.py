"""What systemd passes to a service, and what it is told (sd_listen_fds, sd_notify, sd_watchdog_enabled).

If systemd did not start this process, nothing here does anything.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

_FIRST_FD: Final = 3


def passed_listener() -> socket.socket | None:
    """Return the listening socket of the socket unit; None if there is none.

    Raises:
        OSError: There are several sockets, or it is no listening stream socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "0")
    if count != "1":
        msg = f"systemd passes {count} sockets; give the socket unit one ListenStream"
        raise OSError(msg)
    os.set_inheritable(_FIRST_FD, False)
    listener = socket.socket(fileno=_FIRST_FD)
    streams = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not (streams and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
        msg = "systemd passes a socket that is no TCP socket that listens; use ListenStream=PORT, Accept=no"
        raise OSError(msg)
    return listener


def notify(*lines: str) -> None:
    """Tell systemd about the service's state, such as ``READY=1``."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.setblocking(False)
        link.sendto("\n".join(lines).encode(), address)


async def keep_alive() -> None:
    """Tell systemd again and again that the event loop runs, if the unit has WatchdogSec."""
    is_meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    seconds = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6 if is_meant else 0.0
    while seconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)
    await asyncio.Event().wait()
