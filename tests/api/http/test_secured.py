"""TLS of connections: the parts of the standard library's that it overrides or uses, and its turns."""

from __future__ import annotations

import asyncio
import inspect
import platform
import shutil
import socket
import ssl
import time
from asyncio import sslproto
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import uvloop

from certificates import make_certificate
from lossd.api.http.listener import Listener
from lossd.api.http.tls import Certificate
from lossd.engine.scheduler import LoopTurns

REMEDY = f"compare lossd.api.http.secured with the ssl of Python {platform.python_version()}"


def test_what_is_overridden_or_called_is_there() -> None:
    names = (
        "get_buffer buffer_updated _get_app_transport _do_read _do_read__copied _resume_reading "
        "_control_ssl_reading _set_read_buffer_limits _call_eof_received _start_shutdown _write_appdata"
    )
    missing = [name for name in names.split() if not hasattr(sslproto.SSLProtocol, name)]
    assert not missing, f"there is no {', '.join(missing)}; {REMEDY}"


def test_what_is_read_or_set_is_there() -> None:
    names = (
        "_transport _app_protocol _app_transport _app_transport_created _incoming _sslobj _ssl_buffer_view "
        "_ssl_reading_paused _app_reading_paused _loop"
    )
    source = inspect.getsource(sslproto.SSLProtocol)
    missing = [name for name in names.split() if f"self.{name}" not in source]
    assert not missing, f"there is no {', '.join(missing)}; {REMEDY}"
    assert "self._closed" in inspect.getsource(sslproto._SSLProtocolTransport.close), REMEDY


class Keeper(asyncio.Protocol):
    """A connection that keeps what it gets, and has its turn soon."""

    owner = ""
    last: Keeper

    def __init__(self) -> None:
        Keeper.last = self
        self.received = bytearray()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def wait_for_turn(self, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(work)


class Busy(LoopTurns):
    """Turns of a loop that has no time at once."""

    def has_time(self, now: float) -> bool:
        return False


def run(tmp_path: Path, turns: type[LoopTurns], test: Callable[[ssl.SSLSocket], None]) -> None:
    """Run a test with a connection, in another thread."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    files = make_certificate(tmp_path, "first")
    context = ssl.create_default_context(cafile=files[0])

    async def main() -> None:
        raw = socket.create_server(("127.0.0.1", 0))
        port = raw.getsockname()[1]
        loop = asyncio.get_running_loop()
        failed: list[object] = []
        loop.set_exception_handler(lambda _, context: failed.append(context))
        listener = Listener(
            raw, Keeper, Certificate(*files), 10, lambda: 10, turns(loop.call_soon, time.monotonic)
        )

        def ask() -> None:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
            ):
                test(secured)

        await asyncio.to_thread(ask)
        listener.close()
        await asyncio.sleep(0.1)
        assert not failed

    uvloop.run(main())


def call(connection: Keeper, function: Callable[[], object]) -> None:
    """Call something in the connection's loop."""
    connection.transport._loop.call_soon_threadsafe(function)  # type: ignore[attr-defined]


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize("turns", [LoopTurns, Busy])
def test_all_arrives_whether_it_waits_or_not(tmp_path: Path, turns: type[LoopTurns]) -> None:
    data = bytes(range(256)) * 4096

    def test(secured: ssl.SSLSocket) -> None:
        secured.sendall(data)
        until(lambda: len(Keeper.last.received) == len(data))
        assert Keeper.last.received == data
        call(Keeper.last, lambda: Keeper.last.transport.write(data))
        answer = bytearray()
        while len(answer) < len(data):
            answer += secured.recv(1 << 16)
        assert answer == data

    run(tmp_path, turns, test)


@pytest.mark.parametrize("turns", [LoopTurns, Busy])
def test_who_does_not_read_has_little_read(tmp_path: Path, turns: type[LoopTurns]) -> None:
    def test(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"a")
        until(lambda: Keeper.last.received == b"a")
        call(Keeper.last, Keeper.last.transport.pause_reading)
        time.sleep(0.1)
        for _ in range(100):
            secured.sendall(bytes(1000))
        time.sleep(0.3)
        assert Keeper.last.received == b"a"
        pending = Keeper.last.transport.get_read_buffer_size()  # type: ignore[attr-defined]
        assert 0 < pending <= 1 << 14
        call(Keeper.last, Keeper.last.transport.resume_reading)
        until(lambda: len(Keeper.last.received) == 100_001)

    run(tmp_path, turns, test)


def test_it_may_be_closed_twice(tmp_path: Path) -> None:
    def test(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"a")
        until(lambda: Keeper.last.received == b"a")

        def close() -> None:
            Keeper.last.transport.close()
            Keeper.last.transport.close()
            Keeper.last.transport.write(b"too late")
            Keeper.last.transport.pause_reading()
            assert Keeper.last.transport.is_closing()

        call(Keeper.last, close)
        assert secured.recv(1) == b""
        secured.unwrap()
        until(lambda: Keeper.last.lost)

    run(tmp_path, LoopTurns, test)


@pytest.mark.parametrize(("nbytes", "ends"), [(1, True), (3, False)])
def test_who_sends_records_with_hardly_any_data_is_cut_off(
    tmp_path: Path, nbytes: int, *, ends: bool
) -> None:
    """A record has 22 bytes beside its data."""

    def test(secured: ssl.SSLSocket) -> None:
        with suppress(OSError):
            for _ in range(6000):
                secured.sendall(bytes(nbytes))
        until(lambda: Keeper.last.lost or len(Keeper.last.received) == 6000 * nbytes)
        assert Keeper.last.lost == ends

    run(tmp_path, LoopTurns, test)
