"""The listening socket: bound here, passed by systemd, or handed over by the server before."""

from __future__ import annotations

import socket
from typing import Any, Final, NamedTuple

from lossd.engine.supervisor.handover import Handover, HandoverError, Predecessor, ask, open_door
from lossd.engine.supervisor.systemd import passed_listener
from lossd.settings import Settings

_UNSENT_BYTES: Final = 1 << 18
"""Bytes that the kernel buffers of an answer that cannot be sent yet. By default it buffers megabytes for a
caller who does not read."""
_WAITING: Final = 2048  # connections that have not been accepted


class ListenError(Exception):
    """There is no socket to listen on; says why, and what to do."""


class Listening(NamedTuple):
    """The listening socket, and where it comes from.

    Attributes:
        socket: The socket.
        stays: Whether systemd keeps it open when this server ends.
        predecessor: The server that still accepts from it, if any.
        handover: The way to hand it to the next server, if there is one.
    """

    socket: socket.socket
    stays: bool = False
    predecessor: Predecessor | None = None
    handover: Handover | None = None


def open_listener(settings: Settings) -> Listening:
    """Return a listening socket.

    Raises:
        ListenError: There is none.
    """
    predecessor = None
    try:
        if settings.handover is not None:
            predecessor = ask(settings.handover)
        passed = passed_listener() if predecessor is None else predecessor.listener
        listener = passed or _bind(settings.host, settings.port)
        if passed is not None:
            _check_address(passed, settings, "systemd" if predecessor is None else str(settings.handover))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.listen(_WAITING)
        handover = None
        if settings.handover is not None:
            door = open_door(settings.handover) if predecessor is None else predecessor.door
            handover = Handover(settings.handover, door, listener, owned=predecessor is None)
    except HandoverError as error:
        raise ListenError(str(error)) from None
    except OSError as error:
        msg = f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"
        raise ListenError(msg) from None
    return Listening(listener, passed is not None and predecessor is None, predecessor, handover)


def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        OSError: The address is in use, or not one of this machine's.
    """
    family, address = _resolve(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _check_address(listener: socket.socket, settings: Settings, giver: str) -> None:
    """Check that a socket that was passed listens where the settings say.

    Raises:
        ListenError: It listens elsewhere, where this server may be meant to keep off.
    """
    host, port = listener.getsockname()[:2]
    _, address = _resolve(settings.host, settings.port)
    if address[0] != host or settings.port not in (0, port):
        msg = (
            f"the socket that {giver} passes listens on {host} port {port}, but LOSSD_HOST and LOSSD_PORT "
            f"say {settings.host} port {settings.port}; make them agree"
        )
        raise ListenError(msg)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Return a host's family of addresses and its first address, as sockets have it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return found[0], found[4]
