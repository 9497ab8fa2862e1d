"""The listening sockets: bound here, passed by systemd, or handed over by the server before."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from lossd.engine.supervisor.handover import Handover, Predecessor, ask, open_door
from lossd.engine.supervisor.systemd import passed_listener
from lossd.engine.supervisor.unix_socket import UnixListener, UnixSocketError, listen_at, take_over
from lossd.settings import Settings

_UNSENT_BYTES: Final = 1 << 18
"""Bytes that the kernel buffers of an answer that cannot be sent yet. By default it buffers megabytes for a
caller who does not read."""
_WAITING: Final = 2048  # connections that have not been accepted


class ListenError(Exception):
    """There is no socket to listen on; says why, and what to do."""


class Listening(NamedTuple):
    """The listening sockets, and where they come from.

    Attributes:
        tcp: The service's socket.
        unix: The service's Unix socket, if it is wanted.
        admin: The admin listener's, if it is wanted.
        stays: Whether systemd keeps it open when this server ends.
        predecessor: The server that still accepts from it, if any.
        handover: The way to hand it to the next server, if there is one.
    """

    tcp: socket.socket
    unix: UnixListener | None = None
    admin: socket.socket | None = None
    stays: bool = False
    predecessor: Predecessor | None = None
    handover: Handover | None = None

    @property
    def service(self) -> Sequence[socket.socket]:
        """The sockets that the front ends accept from."""
        return [self.tcp] if self.unix is None else [self.tcp, self.unix.socket]

    def close(self) -> None:
        """Close the service's sockets in this process; the front ends still have them."""
        for listener in self.service:
            listener.close()

    def remove(self) -> None:
        """Remove the files of the Unix sockets, unless another server has taken them over."""
        if self.unix is not None and (self.handover is None or self.handover.owned):
            self.unix.remove()
        if self.handover is not None:
            self.handover.close()


def open_listener(settings: Settings) -> Listening:
    """Return the listening sockets.

    Raises:
        ListenError: There are none.
    """
    predecessor = None
    try:
        if settings.handover is not None:
            predecessor = ask(settings.handover)
        passed = passed_listener() if predecessor is None else predecessor.listener
        giver = "systemd" if predecessor is None else str(settings.handover)
        listener = _open(settings.host, settings.port, passed, giver, "")
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        admin = None
        if settings.admin_port is not None:
            before = predecessor.admin if predecessor is not None else None
            admin = _open(settings.admin_host, settings.admin_port, before, giver, "ADMIN_")
        unix = _open_unix(settings, predecessor)
        handover = None
        if settings.handover is not None:
            door = open_door(settings.handover) if predecessor is None else predecessor.door
            others = (admin, None if unix is None else unix.socket)
            listeners = [listener, *(other for other in others if other is not None)]
            handover = Handover(settings.handover, door, listeners, owned=predecessor is None)
    except (UnixSocketError, OSError) as error:
        raise ListenError(str(error)) from None
    stays = passed is not None and predecessor is None
    return Listening(listener, unix, admin, stays, predecessor, handover)


def _open_unix(settings: Settings, predecessor: Predecessor | None) -> UnixListener | None:
    """Return the service's Unix socket: the one that was passed, or else a new one, if it is wanted.

    Raises:
        UnixSocketError: It cannot be listened on, or the one that was passed is elsewhere.
    """
    if predecessor is not None and predecessor.unix is not None:
        return take_over(settings.unix_socket, predecessor.unix, str(settings.handover))
    return None if settings.unix_socket is None else listen_at(settings.unix_socket, _WAITING)


def _open(host: str, port: int, passed: socket.socket | None, giver: str, setting: str) -> socket.socket:
    """Return a socket that listens on an address: the one that was passed, or else a new one.

    Args:
        host: The host.
        port: The port.
        passed: The socket that was passed, if any.
        giver: Who passed it.
        setting: What the settings of this address begin with.

    Raises:
        ListenError: It cannot be listened on, or the socket that was passed listens elsewhere.
    """
    try:
        listener = _bind(host, port) if passed is None else passed
        if passed is not None:
            _check_address(passed, host, port, giver, setting)
        listener.listen(_WAITING)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = f"end what listens there ('ss -ltnp sport = :{port}' names it), or choose another port"
        else:
            remedy = "choose an address of this machine, and a port that this user may listen on"
        msg = (
            f"cannot listen on {host} port {port} (LOSSD_{setting}HOST and LOSSD_{setting}PORT): "
            f"{error.strerror or error}; {remedy}"
        )
        raise ListenError(msg) from None
    return listener


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


def _check_address(passed: socket.socket, host: str, port: int, giver: str, setting: str) -> None:
    """Check that a socket that was passed listens where the settings say.

    Raises:
        ListenError: It listens elsewhere, perhaps where strangers can reach it.
    """
    there, at = passed.getsockname()[:2]
    _, address = _resolve(host, port)
    if address[0] != there or port not in (0, at):
        msg = (
            f"the socket that {giver} passes listens on {there} port {at}, but LOSSD_{setting}HOST and "
            f"LOSSD_{setting}PORT say {host} port {port}; make them agree"
        )
        raise ListenError(msg)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Return a host's family of addresses and its first address, as sockets have it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return found[0], found[4]
