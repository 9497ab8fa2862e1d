"""A client's connections, which survive a fork."""

import os
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from lossd_client._http.attempts import RetryState

TransportT = TypeVar("TransportT")


class OwnedServer(Protocol):
    """A server that ends with the client."""

    def stop(self) -> None:
        """End it."""
        ...


class Connections(Generic[TransportT]):
    """A transport and the state of its requests, shared by the clients that `with_options` makes.

    Connections must not be used on both sides of a fork: a child opens its own and leaves its parent's alone.
    """

    def __init__(self, open_transport: Callable[[], TransportT], server: OwnedServer | None = None) -> None:
        self._open = open_transport
        self._server = server
        self._born = os.getpid()
        self._inherited: list[TransportT] = []  # kept, since collecting them might close them
        self._is_closed = False
        self._loop: object = None
        self._pid, self._transport, self._state = os.getpid(), open_transport(), RetryState()

    def get(self) -> tuple[TransportT, RetryState]:
        """Return the transport of this process.

        Raises:
            RuntimeError: It was closed.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        self._own()
        return self._transport, self._state

    def bind(self, loop: object) -> None:
        """Bind the transport to an event loop.

        Raises:
            RuntimeError: It belongs to another.
        """
        self._own()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError(
                "an AsyncLossClient belongs to the event loop in which it is first used, and this is another"
                "; make one in each"
            )

    def close(self) -> TransportT | None:
        """Mark it closed, and return the transport that is still to be closed."""
        if self._is_closed:
            return None
        self._own()
        self._is_closed = True
        return self._transport

    def stop_server(self) -> None:
        """Stop the client's own server, if this process started it."""
        if self._server is not None and self._born == os.getpid():
            self._server.stop()

    def _own(self) -> None:
        if self._pid != os.getpid():
            self._inherited.append(self._transport)
            self._loop = None
            self._pid, self._transport, self._state = os.getpid(), self._open(), RetryState()
