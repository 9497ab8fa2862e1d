"""Callers are accepted all at once, and those who do not begin TLS are bounded."""

from __future__ import annotations

import asyncio
import logging
import resource
import shutil
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest
import uvloop

from certificates import make_certificate
from lossd.api.http import handshakes
from lossd.api.http.listener import Listener
from lossd.api.http.tls import Certificate
from lossd.engine.scheduler import LoopTurns


class Greeter(asyncio.Protocol):
    """A connection that greets."""

    owner = ""

    def wait_for_turn(self, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(work)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"hello")


class Door:
    """A listener of this process.

    Attributes:
        listener: The listener.
        port: Its port.
        room: The connections there is room for.
        callers: Those who have connected; they end with the test.
    """

    def __init__(self, certificate: Certificate | None, seconds: float) -> None:
        raw = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = raw.getsockname()[1]
        self.room = 1000
        self.callers: list[socket.socket] = []
        turns = LoopTurns(asyncio.get_running_loop().call_soon, time.monotonic)
        self.listener = Listener(raw, Greeter, certificate, seconds, lambda: self.room, turns)

    def connect(self, host: str = "127.0.0.1") -> socket.socket:
        caller = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(host, 0))
        self.callers.append(caller)
        return caller


def run(
    test: Callable[[Door], Awaitable[None]], certificate: Certificate | None = None, seconds: float = 10.0
) -> None:
    async def main() -> None:
        door = Door(certificate, seconds)
        try:
            async with asyncio.timeout(30):
                await test(door)
        finally:
            door.listener.close()
            for caller in door.callers:
                caller.close()
            await asyncio.sleep(0.05)

    uvloop.run(main())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    return make_certificate(tmp_path_factory.mktemp("tls"), "first")


def greeted(caller: socket.socket) -> bytes:
    return caller.recv(5)


def is_open(caller: socket.socket) -> bool:
    caller.setblocking(False)
    try:
        return caller.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        caller.settimeout(10)


def test_all_who_wait_are_accepted_in_few_turns_of_the_loop() -> None:
    async def test(door: Door) -> None:
        callers = [door.connect() for _ in range(100)]
        for _ in range(20):
            await asyncio.sleep(0)
        for caller in callers:
            caller.setblocking(False)
            assert greeted(caller) == b"hello"

    run(test)


def test_at_the_end_all_who_wait_are_accepted_and_nobody_else() -> None:
    async def test(door: Door) -> None:
        callers = [door.connect() for _ in range(200)]
        door.listener.close()
        door.listener.close()
        with pytest.raises(ConnectionRefusedError):
            door.connect()
        await asyncio.sleep(0.1)
        assert [greeted(caller) for caller in callers] == 200 * [b"hello"]

    run(test)


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Leave this process three descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        three = [stack.enter_context(Path("/dev/null").open()) for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (three[-1].fileno() + 1, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for file in three:
            file.close()
        yield


def test_without_descriptors_it_pauses_and_says_so_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    async def test(door: Door) -> None:
        accept, tried = door.listener._accept, 0

        def count() -> bool:
            nonlocal tried
            tried += 1
            return accept()

        door.listener._accept = count  # type: ignore[method-assign] # and calls it
        callers = [door.connect() for _ in range(4)]
        with few_descriptors():
            await asyncio.sleep(0.45)
        assert 1 <= tried <= 12, tried
        await asyncio.sleep(0.3)
        assert all(map(is_greeted, callers))

    def is_greeted(caller: socket.socket) -> bool:
        caller.setblocking(False)
        try:
            return caller.recv(5, socket.MSG_PEEK) == b"hello"
        except BlockingIOError:
            return False

    with caplog.at_level(logging.ERROR):
        run(test)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1, said
    assert "ulimit -n" in said[0]


def test_no_tls_object_exists_before_a_caller_begins(files: tuple[Path, Path]) -> None:
    async def test(door: Door) -> None:
        for _ in range(10):
            door.connect()
        await asyncio.sleep(0.1)
        assert not door.listener._connecting
        context = ssl.create_default_context(cafile=files[0])

        def ask() -> bytes:
            with context.wrap_socket(door.connect(), server_hostname="127.0.0.1") as secured:
                return secured.recv(5)

        assert await asyncio.to_thread(ask) == b"hello"

    run(test, Certificate(*files))


def test_who_does_not_begin_in_time_is_closed(files: tuple[Path, Path]) -> None:
    async def test(door: Door) -> None:
        silent, half = door.connect(), door.connect()
        half.sendall(b"\x16\x03\x01")
        await asyncio.sleep(0.05)
        assert is_open(silent)
        assert is_open(half)
        await asyncio.sleep(0.6)
        assert not is_open(silent)
        assert not is_open(half)

    run(test, Certificate(*files), seconds=0.3)


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"])
def test_the_oldest_of_the_address_with_most_gives_way(
    files: tuple[Path, Path], begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "_LEAST", 8)
    monkeypatch.setattr(handshakes, "_MOST_BEGUN", 8)

    async def test(door: Door) -> None:
        door.room = 0
        first = door.connect("127.0.0.2")
        first.sendall(begun)
        many = []
        for _ in range(20):
            many.append(door.connect())
            many[-1].sendall(begun)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert is_open(first)
        assert [is_open(caller) for caller in many] == 13 * [False] + 7 * [True]

    run(test, Certificate(*files))


def test_who_has_begun_or_come_just_now_goes_last(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "_LEAST", 8)

    async def test(door: Door) -> None:
        door.room = 0
        begun = [door.connect() for _ in range(2)]
        for caller in begun:
            caller.sendall(b"\x16\x03\x01")
        silent = []
        for number in range(20):  # addresses with one each
            silent.append(door.connect(f"127.0.0.{2 + number}"))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert all(map(is_open, begun))
        assert [is_open(caller) for caller in silent] == 14 * [False] + 6 * [True]

    run(test, Certificate(*files))


def test_a_newcomer_costs_little_however_many_there_are() -> None:
    waiting = handshakes._ByOwner[int]()
    for number in range(20_000):
        waiting.put(cast(socket.socket, object()), f"address {number}", 1)
    begun = time.thread_time()
    for number in range(20_000):
        oldest = waiting.oldest()
        assert waiting.pop(oldest) is not None
        waiting.put(oldest, f"address {number}", 1)
    assert time.thread_time() - begun < 4  # with a look at each it takes a minute
