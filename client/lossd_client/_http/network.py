"""Connections for httpx: their reads and writes end when their thread is cancelled."""

import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import httpcore

from lossd_client._http.threads import own_cancellation


class Backend(httpcore.NetworkBackend):
    """A network backend whose reads and writes end when their thread is cancelled."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect by TCP."""
        return _Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Connect to a Unix socket."""
        return _Stream(_UnixStream(_connected(path, timeout)))

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with self._held():
            return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._held():
            self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with self._held():
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        return self._inner.get_extra_info(info)

    def _held(self) -> AbstractContextManager[None]:
        cancellation = own_cancellation()
        if cancellation is None:
            return nullcontext()
        return cancellation.holding(self._inner.get_extra_info("socket"))


class _UnixStream(httpcore.NetworkStream):
    """A connection to a Unix socket. httpcore's own leaves the socket open where it cannot connect."""

    def __init__(self, link: socket.socket) -> None:
        self._socket = link

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _own_errors(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = memoryview(buffer)
        with _own_errors(httpcore.WriteTimeout, httpcore.WriteError):
            self._socket.settimeout(timeout)
            while left:
                left = left[self._socket.send(left) :]

    def close(self) -> None:
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        if info == "socket":
            return self._socket
        if info != "is_readable":
            return None
        found = select.poll()
        found.register(self._socket, select.POLLIN)
        return bool(found.poll(0))


def _connected(path: str, timeout: float | None) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _own_errors(httpcore.ConnectTimeout, httpcore.ConnectError):
            link.settimeout(timeout)
            link.connect(path)
    except BaseException:
        link.close()
        raise
    return link


@contextmanager
def _own_errors(timed_out: type[Exception], failed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timed_out(error) from error
    except OSError as error:
        raise failed(error) from error
