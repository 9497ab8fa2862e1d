"""A guard process: runs a command until its caller writes to standard input, closes it, or is gone.

Run as a file of its own, by `local`, in a bare interpreter: `guard.py CALLER_PID COMMAND...`. A closed pipe
shows that the caller is gone. A process that the caller forked may hold the pipe open, so the caller's pid is
checked, too. If this process is killed, Linux ends the command.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

GRACE_SECONDS = 35.0  # a server drains for 30 s at most
POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_held(caller: int) -> bool:
    readable, _, _ = select.select([0], [], [], POLL_SECONDS)
    return not readable and os.getppid() == caller


def main(caller: int, command: list[str]) -> int:
    """Run the command and return its exit status."""
    # This process has one thread, so that what runs between fork and exec is safe.
    process = subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while process.poll() is None and _is_held(caller):
        pass
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
