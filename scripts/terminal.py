"""A shell that runs one command after the other, as a reader of a page does in a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Final, Self

_SECONDS: Final = 100.0
_STOP_SECONDS: Final = 10.0


class Terminal:
    """A bash that keeps its variables and jobs from one command to the next, until a ``with`` block ends.

    Args:
        folder: Where it begins.
        url: The server that ``lossd`` asks.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._own = tempfile.TemporaryDirectory()
        self._output, self._errors = Path(self._own.name, "output"), Path(self._own.name, "errors")
        lossd = Path(self._own.name, "lossd")  # where lossd is not installed anew, there is no such script
        lossd.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lossd "$@"\n')
        lossd.chmod(0o755)
        folders = [self._own.name, str(Path(sys.executable).parent), os.environ["PATH"]]
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],  # noqa: S607 -- the system's
            cwd=folder,
            env={**os.environ, "LOSSD_BASE_URL": url, "PATH": os.pathsep.join(folders)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shell.poll() is None:
            self._signal(signal.SIGTERM)  # to what runs in the background, too
        with self._shell:
            self._shell.wait(_STOP_SECONDS)
        self._own.cleanup()

    def run(self, command: str) -> str:
        """Run a command, and return its standard output.

        Raises:
            subprocess.CalledProcessError: It failed, or took longer than 100 s.
        """
        shell = self._shell
        if shell.stdin is None or shell.stdout is None:
            raise RuntimeError("the shell has no pipes")
        limit = Timer(_SECONDS, self._signal, [signal.SIGKILL])
        limit.start()
        try:
            shell.stdin.write(f"{{ {command}\n}} </dev/null >'{self._output}' 2>'{self._errors}'; echo $?\n")
            shell.stdin.flush()
            status = shell.stdout.readline()
        finally:
            limit.cancel()
        output, errors = self._output.read_text(), self._errors.read_text()
        if status != "0\n":
            raise subprocess.CalledProcessError(int(status or -signal.SIGKILL), command, output, errors)
        return output

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the shell and to all that it has started."""
        os.killpg(self._shell.pid, number)
