"""A lossd server on a free port of this machine, for as long as a ``with`` block lasts."""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lossd_client.local import free_port

READY_SECONDS = 90.0  # importing torch from a cold disk is most of it
STOP_SECONDS = 40.0  # a server drains for 30 s at most


class LocalServer:
    """A ``lossd serve`` process that is ready when the block begins and stopped when it ends.

    Args:
        lossd: The ``lossd`` command to run, such as ``.venv/bin/lossd``.
        device: The device to compute on.
        directory: The server's working directory; by default this process's own.
        environment: The server's environment, without settings (``LOSSD_…``); by default this process's own.
        settings: The server's settings, by name, such as ``{"arena_bytes": 1 << 30}``. By default it records
            no usage.
        tls: How to trust its certificate, if the settings give it one.
    """

    def __init__(
        self,
        lossd: Path,
        *,
        device: str = "cpu",
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._command = [str(lossd), "serve", "--host", "127.0.0.1", "--device", device]
        self._directory = directory
        self._tls = tls
        given = os.environ if environment is None else environment
        self._environment = {key: value for key, value in given.items() if not key.startswith("LOSSD_")}
        for name, value in {"usage_file": "", **(settings or {})}.items():
            self._environment[f"LOSSD_{name.upper()}"] = str(value)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__
        self.port = 0

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the server; its children are the front ends and the workers."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    def __enter__(self) -> Self:
        self.port = free_port()
        # A session of its own: Ctrl-C reaches this process alone, which then stops the server in order.
        self._process = subprocess.Popen(  # noqa: S603 -- the caller's own command
            [*self._command, "--port", str(self.port)],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            self._log.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._log.close()

    def stop(self) -> int:
        """Stop the server, wait for its end, and return its exit code; -9 if it had to be killed."""
        process = self._process
        if process is None:
            raise RuntimeError("the server was never started")
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(STOP_SECONDS)
        except BaseException as error:  # a second Ctrl-C too: leave nothing behind
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return code
            raise

    def log(self) -> str:
        """Return the server's output so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not _is_ready(self.port, self._tls):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server was not ready within {READY_SECONDS:g} s:\n{self.log()}")
            time.sleep(0.05)


def _is_ready(port: int, tls: ssl.SSLContext | None) -> bool:
    # http.client, because urllib would use a proxy from the environment.
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        if tls is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=tls)
    )
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
