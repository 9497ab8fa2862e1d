"""A server for as long as a ``with`` block lasts, and no process of it afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.memory import family
from bench.peers.catalog import Server, variables
from bench.peers.loads import Answer, Target, post
from bench.peers.payloads import SMALL, expected, payload

START_SECONDS = 90.0
CHECK_SECONDS = 30.0
_STOP_SECONDS = 30.0
_TOLERANCE = 1e-5


class NotMeasuredError(Exception):
    """Why a server cannot be measured."""


def check(server: Server, port: int, form: str, size: str) -> None:
    """One request; that its mean is right.

    Raises:
        NotMeasuredError: It is not.
    """
    way = next(one for one in server.ways if one.form == form)
    answer = post(Target(port, way.path, payload(form, size)), CHECK_SECONDS)
    if answer.status != 200:
        raise NotMeasuredError(f"{form} of {size}: status {answer.status}: {answer.text[:200]!r}")
    if way.read is not None and abs(way.read(answer.text) - expected(size)) > _TOLERANCE:
        raise NotMeasuredError(f"{form} of {size}: {way.read(answer.text)} is not {expected(size)}")


@contextmanager
def serving(server: Server) -> Iterator[tuple[int, int]]:
    """Start a server and wait until it answers rightly; its port and its process.

    Raises:
        NotMeasuredError: It does not within `START_SECONDS`.
    """
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        environment = variables(server, port)
        try:
            process = subprocess.Popen(  # noqa: S603 -- our own commands
                server.command(server.interpreter, port),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise NotMeasuredError(f"it does not start: {error}") from None
        try:
            _wait(server, port, process)
            yield port, process.pid
        except NotMeasuredError as error:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise NotMeasuredError(f"{error} {' '.join(last)[-300:]}".strip()) from None
        finally:
            _stop(process)


def _wait(server: Server, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    way = server.ways[0]
    target = Target(port, way.path, payload(way.form, SMALL))
    answer: Answer | None = None
    while answer is None or answer.status != 200:
        if process.poll() is not None:
            raise NotMeasuredError(f"it ended with {process.returncode}:")
        if time.monotonic() > deadline:
            said = f" (the last answer's status is {answer.status}: {answer.text[:200]!r})" if answer else ""
            raise NotMeasuredError(f"it did not answer within {START_SECONDS:g} s{said}:")
        time.sleep(0.2)
        try:
            answer = post(target, timeout=10.0)
        except OSError:
            continue
    for one in server.ways:
        check(server, port, one.form, SMALL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    everyone = family(process.pid) if process.poll() is None else [process.pid]
    started = {pid: _started(pid) for pid in everyone}
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, when in started.items():  # those that outlived it, unless the number is another's by now
        if when and _started(pid) == when:
            os.kill(pid, signal.SIGKILL)


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
