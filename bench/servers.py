"""The measured servers, each running for a ``with`` block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.loads import post
from bench.memory import family
from bench.payloads import SMALL, payload
from lossd_client.local import free_port

ROOT: Final = Path(__file__).resolve().parents[1]
START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 30.0
_ANSWER: Final = b'{"loss":' + b"0" * 320 + b"}"


class NotMeasuredError(Exception):
    """A server cannot be measured. The message says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        port: Its port.
        pid: Its main process.
    """

    port: int
    pid: int


async def read_and_drop(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
    """Read the body, and send an answer as long as a loss's: the upper limit for any framework."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


@contextmanager
def lossd(root: Path = ROOT, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a checkout's lossd server on its default settings."""
    command = [sys.executable, "-m", "lossd", "serve", "--host", "127.0.0.1"]
    environment = {"PYTHONPATH": f"{root}/service{os.pathsep}{root}/client", "LOSSD_USAGE_FILE": ""}
    with serving(
        lambda port: [*command, "--port", str(port)], "/bce", environment=environment | dict(settings or {})
    ) as running:
        yield running


@contextmanager
def uvicorn(application: str, path: str, form: str = "npy") -> Iterator[Running]:
    """Run an application on uvicorn, in one process with its fastest options."""
    options = "--http httptools --loop uvloop --lifespan off --no-access-log --no-server-header"
    options += " --no-proxy-headers --log-level warning --host 127.0.0.1"
    command = [sys.executable, "-m", "uvicorn", application, *options.split()]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with serving(
        lambda port: [*command, "--port", str(port)], path, form, environment=environment
    ) as running:
        yield running


@contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    path: str,
    form: str = "npy",
    *,
    environment: Mapping[str, str],
) -> Iterator[Running]:
    """Start a server, wait until it answers a small request, and leave no process of it behind.

    Args:
        command: Function from a port to the command.
        path: The path of a small request.
        form: The request's format, as `payload` names it.
        environment: Variables besides this process's own, from which lossd's settings are removed.

    Raises:
        NotMeasuredError: It does not answer within `START_SECONDS`.
    """
    port = free_port()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LOSSD_")}
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.Popen(  # noqa: S603 -- our own commands
                command(port),
                cwd=folder,
                env=kept | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise NotMeasuredError(f"it does not start: {error}") from None
        try:
            if why := _wait(port, path, form, process):
                log.seek(0)
                last = log.read().decode(errors="replace").strip().splitlines()[-1:]
                raise NotMeasuredError(f"{why} {' '.join(last)[-300:]}".strip())
            yield Running(port, process.pid)
        finally:
            _stop(process)


def _wait(port: int, path: str, form: str, process: subprocess.Popen[bytes]) -> str:
    """Wait for an answer; return why there is none, or an empty text."""
    deadline = time.monotonic() + START_SECONDS
    why = ""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"it ended with {process.returncode}:"
        try:
            post(port, path, payload(form, SMALL), timeout=10.0)
        except OSError as error:
            why = str(error)
            time.sleep(0.1)
        else:
            return ""
    return f"no answer within {START_SECONDS:g} s ({why}):"


def _stop(process: subprocess.Popen[bytes]) -> None:
    everyone = family(process.pid) if process.poll() is None else [process.pid]
    started = {pid: _started(pid) for pid in everyone}
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, when in started.items():  # those that outlived it, unless the id has been reused
        if when and _started(pid) == when:
            os.kill(pid, signal.SIGKILL)


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
