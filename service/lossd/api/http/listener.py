"""The listening socket of a front end: accepts all who wait, however busy the others are."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, cast

from lossd.api.http.connections import owner_of
from lossd.api.http.handshakes import Handshakes
from lossd.api.http.secured import Secured, Turning
from lossd.api.http.tls import Certificate
from lossd.engine.scheduler import TURN_SECONDS, LoopTurns

logger = logging.getLogger(__name__)

_ACCEPTS: Final = 32
"""Connections accepted in one turn of the event loop, if there is time. With one, as uvloop itself has it,
the last of 64 callers would wait for 64 turns."""
_PAUSE_SECONDS: Final = 0.1
"""Pause after an error, such as that there are no descriptors left."""
_SAY_SECONDS: Final = 1.0


class Listener:
    """A listening socket, whose connections this event loop accepts, some in each turn.

    Args:
        listener: The socket.
        protocol: Makes the protocol of a connection.
        certificate: The certificate, if the connections are for TLS.
        handshake_seconds: How long a caller may take to begin TLS, and then for the handshake.
        room: Returns how many connections there is room for.
        turns: Shares the event loop's time.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        certificate: Certificate | None,
        handshake_seconds: float,
        room: Callable[[], int],
        turns: LoopTurns,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._turns = turns
        self._handshake_seconds = handshake_seconds
        self._handshakes: Handshakes | None = None
        if certificate is not None:
            secure = partial(self._secure, certificate.context)
            self._handshakes = Handshakes(secure, handshake_seconds, room, turns)
        self._connecting: set[asyncio.Task[object]] = set()
        self._pausing: asyncio.TimerHandle | None = None
        self._said_at = -_SAY_SECONDS
        listener.setblocking(False)
        self._go_on()

    def close(self) -> None:
        """Accept all who wait, and then no others."""
        if self._listener.fileno() < 0:
            return
        while self._accept():
            pass
        if self._pausing is not None:
            self._pausing.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _go_on(self) -> None:
        self._pausing = None
        self._loop.add_reader(self._listener, self._accept_some)

    def _accept_some(self) -> None:
        until = time.monotonic() + TURN_SECONDS
        for _ in range(_ACCEPTS):
            if not self._accept() or time.monotonic() > until:
                return

    def _accept(self) -> bool:
        """Accept a connection; return whether there was one."""
        try:
            accepted, address = self._listener.accept()
        except BlockingIOError:  # another front end has been faster
            return False
        except OSError as error:
            self._pause(error)
            return False
        accepted.setblocking(False)
        if self._handshakes is None:
            self._keep(accepted, self._loop.connect_accepted_socket(self._protocol, accepted))
        else:
            self._handshakes.add(accepted, owner_of(str(address[0])))
        return True

    def _secure(self, context: ssl.SSLContext, accepted: socket.socket, owner: str) -> asyncio.Task[object]:
        return self._keep(accepted, self._shake_hands(context, accepted, owner))

    async def _shake_hands(self, context: ssl.SSLContext, accepted: socket.socket, owner: str) -> None:
        """Hand a connection to the event loop, and wait until its TLS handshake has ended."""
        handshake = self._loop.create_future()
        connection = self._protocol()
        turning = cast(Turning, connection)
        turning.owner = owner
        secured = Secured(turning, context, handshake, self._handshake_seconds, self._turns)
        transport, _ = await self._loop.connect_accepted_socket(lambda: secured, accepted)
        try:
            await handshake
        except BaseException:
            transport.abort()
            raise

    def _keep(self, accepted: socket.socket, connect: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Begin to hand a connection to the event loop; the task ends once it has one."""
        connecting: asyncio.Task[object] = self._loop.create_task(connect)
        self._connecting.add(connecting)

        def end(connecting: asyncio.Task[object]) -> None:
            self._connecting.discard(connecting)
            if connecting.cancelled() or connecting.exception() is not None:  # its caller has failed
                accepted.close()

        connecting.add_done_callback(end)
        return connecting

    def _pause(self, error: OSError) -> None:
        if self._pausing is None:
            self._loop.remove_reader(self._listener)
            self._pausing = self._loop.call_later(_PAUSE_SECONDS, self._go_on)
        now = self._loop.time()
        if now - self._said_at >= _SAY_SECONDS:
            self._said_at = now
            logger.error(
                "cannot accept connections: %s; raise the limit of open files (ulimit -n), or lower "
                "LOSSD_MAX_CONNECTIONS",
                error.strerror or error,
            )
