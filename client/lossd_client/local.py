"""A server in child processes of this one."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from lossd_client.errors import ConnectionFailed

_START_SECONDS: Final = 120.0  # importing torch from a cold disk is most of it
_STOP_SECONDS: Final = 45.0  # the guard kills a server that drains for longer than 35
_GUARD: Final = Path(__file__).with_name("_guard.py")
_LOG_CHARACTERS: Final = 2000


class LocalServer:
    """A server, `lossd serve`, under a guard process that ends it when this process is gone.

    Args:
        settings: The server's settings by name.
    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
        # Usage is not recorded, and nobody has to notice that it stops.
        environment |= {"LOSSD_USAGE_FILE": "", "LOSSD_LAME_DUCK_SECONDS": "0"}
        environment |= {f"LOSSD_{name.upper()}": str(value) for name, value in settings.items()}
        command = [
            sys.executable,
            "-P",
            "-m",
            "lossd",
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
        ]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._guard = subprocess.Popen(  # noqa: S603 - this interpreter, and this file's neighbour
            [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to the caller, which then stops the server
        )

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._port}"

    def wait_until_ready(self) -> None:
        """Wait until the server can score.

        Raises:
            ConnectionFailed: It ended, or was not ready in time.
        """
        ends = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._guard.poll() is not None:
                raise ConnectionFailed(f"the local server did not start:\n{self._tail()}")
            if time.monotonic() > ends:
                raise ConnectionFailed(
                    f"the local server was not ready within {_START_SECONDS:g} s:\n{self._tail()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and wait until it is gone."""
        assert self._guard.stdin is not None
        with suppress(OSError):  # it has ended by itself
            self._guard.stdin.write(b".")  # a forked child may hold the pipe open
            self._guard.stdin.close()
        try:
            self._guard.wait(_STOP_SECONDS)
        finally:
            if self._guard.poll() is None:  # after a second Ctrl-C too: leave nothing behind
                self._guard.kill()  # the server notices, and ends
                self._guard.wait()
            self._log.close()

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-_LOG_CHARACTERS:].strip()


def free_port() -> int:
    """Return a TCP port of this machine that no other program is given within the next minute.

    A port that was only bound and closed may be the next one that Linux gives away. One that waits after a
    connection (TIME_WAIT) is not given away, yet a server that asks for it by number gets it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()  # the end that closes first waits
    return port
