"""Servers that lossd can use, for tests: Valkey or Redis, and PostgreSQL, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from faults.observe import children
from lossd_client.local import free_port

START_SECONDS: Final = 30.0
PASSWORD: Final = "s3cret-p%ss/word"  # which a URL must encode
IN_URL: Final = "s3cret-p%25ss%2Fword"
_FOLDERS: Final = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
)


def program(*names: str) -> str:
    """The path of the first program that is installed; without one the test is skipped."""
    for name in names:
        found = shutil.which(name, path=_FOLDERS)
        if found is not None:
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


class Store:
    """A server that can be killed, stopped and started again on the same port.

    Attributes:
        port: Its port.
        url: Its URL, with the password.
    """

    def __init__(self, command: Sequence[str], port: int, url: str, log: Path, user: int | None) -> None:
        self.port = port
        self.url = url
        self._command = command
        self._log = log
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[int], bool] | None = None) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, user=self._user
            )
        ends = time.monotonic() + START_SECONDS
        while not (ready or _accepts)(self.port):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < ends, self._log.read_text()
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, and to the processes that it has started."""
        assert self._process is not None
        for pid in (self._process.pid, *children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGSTOP)  # so that nobody is started, or notices, between two kills
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def shut_down(self) -> None:
        """End a PostgreSQL so that it removes its shared memory; one that was killed is started for that."""
        if self._process is None:
            self.start()
        assert self._process is not None
        self.signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)
        self._process = None


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _serves(url: str) -> bool:
    """Whether a database takes commands; it listens before that."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def quota_store(folder: Path, *more: str) -> Iterator[Store]:
    """A Valkey or Redis server with a password, which keeps nothing on a disk; with further settings."""
    server, port = program("valkey-server", "redis-server"), free_port()
    settings = folder / "store.conf"
    settings.write_text(
        f"bind 127.0.0.1\nport {port}\nsave ''\nappendonly no\nrequirepass {PASSWORD}\ndir {folder}\n"
        + "\n".join(more)
    )
    log = folder / "store.log"
    store = Store([server, str(settings)], port, f"redis://:{IN_URL}@127.0.0.1:{port}/0", log, None)
    try:
        store.start()
        yield store
    finally:
        store.kill()


@contextmanager
def usage_database() -> Iterator[Store]:
    """A PostgreSQL server with a password, and with a disk's care: what it has confirmed survives a kill."""
    initdb, postgres = program("initdb"), program("postgres")
    user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="lossd-", dir="/tmp") as name:  # sockets' paths must be short
        folder, port = Path(name), free_port()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            for each in (folder, secret):
                os.chown(each, user, -1)
        data = folder / "data"
        command = [initdb, "-D", str(data), "-U", "lossd", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"]
        subprocess.run(command, user=user, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
        command = [postgres, "-D", str(data), *(f"--{key}={value}" for key, value in options.items())]
        log = folder / "log"
        url = f"postgresql://lossd:{IN_URL}@127.0.0.1:{port}/postgres"
        store = Store(command, port, url, log, user)
        try:
            store.start(lambda _: _serves(url))
            yield store
        finally:
            store.shut_down()
