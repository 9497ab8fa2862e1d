"""A server that systemd starts: its socket stays over a restart, and it says how it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from faults.observe import is_ready, wait_until
from live_server import LiveServer
from lossd_client.local import free_port

START = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execvp(sys.argv[1], sys.argv[1:])"
SENT = {"logits": [0.5], "targets": [1]}
WATCHDOG_SECONDS = 2.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What a socket unit has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


class Notices:
    """What a service says to systemd."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self._said: list[str] = []

    def has(self, line: str) -> bool:
        """Whether a line was said by now."""
        try:
            while True:
                self._said += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return line in self._said

    def forget(self) -> None:
        self.has("")
        self._said.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[Notices]:
    found = Notices(tmp_path / "notify")
    yield found
    found.close()


@contextmanager
def service(
    folder: Path, listener: socket.socket, notices: Notices, port: int | None = None
) -> Iterator[LiveServer]:
    """A server started as systemd starts it, which must end well."""
    port = listener.getsockname()[1] if port is None else port
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
    environment |= {
        "LOSSD_DEVICE": "cpu",
        "LOSSD_USAGE_FILE": "",
        "LOSSD_LAME_DUCK_SECONDS": "0.5",
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": str(notices.path),
        "WATCHDOG_USEC": str(int(1e6 * WATCHDOG_SECONDS)),
    }
    log = folder / f"{time.monotonic_ns()}.log"
    command = [sys.executable, "-c", START, sys.executable, "-m", "lossd", "serve", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[3],
            preexec_fn=lambda: os.dup2(listener.fileno(), 3, inheritable=True),
        )
    try:
        yield LiveServer(process, f"http://127.0.0.1:{port}", log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()


def test_a_restart_loses_no_connection(tmp_path: Path, listener: socket.socket, notices: Notices) -> None:
    answers: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answers.append(httpx.post(f"{server.url}/bce", json=SENT, timeout=60).status_code)

    with service(tmp_path, listener, notices) as server:
        server.wait_until_ready()
        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        time.sleep(0.5)
    # Nobody serves now: who connects waits for the next.
    time.sleep(0.5)
    with service(tmp_path, listener, notices) as server:
        server.wait_until_ready()
        time.sleep(0.5)
        ended.set()
        for thread in asking:
            thread.join()
    assert set(answers) == {200}
    assert len(answers) > 20


def test_it_says_how_it_is(tmp_path: Path, listener: socket.socket, notices: Notices) -> None:
    with service(tmp_path, listener, notices) as server:
        wait_until(lambda: notices.has("READY=1"), 30, "it does not say that it is ready")
        assert is_ready(server)
        for _ in range(3):
            notices.forget()
            wait_until(lambda: notices.has("WATCHDOG=1"), WATCHDOG_SECONDS, "it seems to hang")
        os.kill(server.process.pid, signal.SIGSTOP)
        notices.forget()
        time.sleep(WATCHDOG_SECONDS)
        assert not notices.has("WATCHDOG=1")
        os.kill(server.process.pid, signal.SIGCONT)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: notices.has("RELOADING=1"), 10, "it does not say that it reads files again")
        wait_until(lambda: notices.has("READY=1"), 10, "it does not say that it has read them")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: notices.has("STOPPING=1"), 10, "it does not say that it stops")


def test_a_socket_for_elsewhere_is_said_and_ends_it(
    tmp_path: Path, listener: socket.socket, notices: Notices
) -> None:
    with service(tmp_path, listener, notices, free_port()) as server:
        assert server.process.wait(30) == 1
    assert "make them agree" in server.log.read_text()


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd")
def test_systemd_itself_passes_the_socket(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    serve = [sys.executable, "-m", "lossd", "serve", "--port", str(port), "--device", "cpu"]
    passed = ["PYTHONPATH", "HOME", "LOSSD_USAGE_FILE=", "LOSSD_LAME_DUCK_SECONDS=0"]
    options = [word for name in passed for word in ("-E", name)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["systemd-socket-activate", *options, "-l", f"127.0.0.1:{port}", *serve],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = LiveServer(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(lambda: b"Listening on" in log.read_bytes(), 10, "systemd does not listen")
        assert (
            httpx.get(f"{server.url}/livez", timeout=60).status_code == 200
        )  # the first connection, which starts it
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM), log.read_text()
