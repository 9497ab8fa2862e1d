"""A real server for tests: its own processes, a free port of 127.0.0.1, stopped and checked at the end."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from lossd_client.local import free_port

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0


class LiveServer:
    """A running server.

    Attributes:
        process: Its supervisor.
        url: Where it listens.
        log: What it says.
        key: What tests ask it with themselves, if it asks for keys.
        verify: How its certificate is looked at, if it has one.
        ready_seconds: How long it took to be ready after it was started.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self.key: str | None = None
        self.ready_seconds = 0.0
        self.verify: ssl.SSLContext | bool = True

    def info(self) -> dict[str, object]:
        headers = {} if self.key is None else {"x-api-key": self.key}
        answer = httpx.get(f"{self.url}/info", timeout=10, headers=headers, verify=self.verify)
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    def worker_pid(self) -> int:
        workers = self.info()["workers"]
        assert isinstance(workers, list)
        return int(workers[0]["pid"])

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        ends = time.monotonic() + seconds
        with httpx.Client(base_url=self.url, timeout=5, verify=self.verify) as client:
            while time.monotonic() < ends:
                with suppress(httpx.TransportError):
                    if client.get("/readyz").status_code == 200:
                        return
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        msg = f"not ready after {seconds} s; its log:\n{self.log.read_text()}"
        raise AssertionError(msg)

    def stop(self) -> int:
        """End it as an operator would; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def live_server(
    folder: Path,
    *,
    seconds: float = START_SECONDS,
    modules: object = None,
    port: object = None,
    **settings: object,
) -> Iterator[LiveServer]:
    """Start a server, and see to it that it ends, with nothing left behind.

    Args:
        folder: Where its log goes.
        seconds: How long it may take to be ready.
        modules: A folder in which it finds further modules, such as losses.
        port: Where it listens; a free one if none is given.
        settings: By name, in lower case and without ``LOSSD_``.
    """
    port = free_port() if port is None else port
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
    usual = {"device": "cpu", "usage_file": folder / "usage.sqlite3", "lame_duck_seconds": 0}
    settings = {**usual, **settings}
    environment |= {f"LOSSD_{name.upper()}": str(value) for name, value in settings.items()}
    if modules is not None:
        paths = [str(modules), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    log = folder / "server.log"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lossd", "serve", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    certificate = settings.get("tls_certificate")
    server = LiveServer(process, f"{'https' if certificate else 'http'}://127.0.0.1:{port}", log)
    if certificate:
        server.verify = ssl.create_default_context(cafile=str(certificate))
    try:
        server.wait_until_ready(seconds)
        server.ready_seconds = time.monotonic() - began
        yield server
    finally:
        if process.poll() is None:
            status = server.stop()
            assert status == 0, log.read_text()
