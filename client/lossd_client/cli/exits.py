"""The exit codes of every command, and how errors are shown."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from lossd_client import BadAnswer, ConnectionFailed, LossdError, StatusError
from lossd_client.cli.files.errors import BadFile


class EngineFailed(Exception):  # noqa: N818 - as the client's errors
    """An engine of --engine could not be reached, or gave up."""


class Exit(IntEnum):
    """The exit codes of commands; signals and bugs have others."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    REGRESSED = 4


_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_SIGNALLED: Final = 128  # and the signal's number: as a shell has it
_SHOW_CURSOR: Final = b"\x1b[?25h\r\x1b[2K"  # hidden by a progress bar, whose line is cleared


EPILOG = (
    "Exit codes: 0 done; 1 the server refused the request or failed, or --expect-rows does not hold; 2 wrong "
    "usage or a file that cannot be used; 3 the server, or an engine, could not be reached; 4 compare: the "
    "new model has regressed beyond the bound, or with --strict it is undecided."
)


def fail(message: str, code: Exit) -> NoReturn:
    """Print a message to standard error and end the command."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(code)


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn errors of the client and of files into a message and an exit code."""
    try:
        yield
    except BadFile as error:
        fail(str(error), Exit.USAGE)
    except EngineFailed as error:
        fail(str(error), Exit.UNREACHABLE)
    except LossdError as error:
        code = exit_code(error)
        fail(f"{error}; lossd doctor may say more" if code is Exit.USAGE else str(error), code)
    except OSError as error:
        fail(str(error), Exit.USAGE)
    except (ImportError, TypeError, ValueError) as error:  # the arguments or environment; nothing was sent
        fail(str(error), Exit.USAGE)


@contextmanager
def leave_at_signals(*parts: Path) -> Iterator[None]:
    """End the process at once at Ctrl-C and SIGTERM, and remove unfinished files.

    Otherwise it would wait for the requests in other threads.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to that one alone
        yield
        return
    is_terminal = sys.stderr.isatty()
    heeded = [one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN]
    # A handler runs in the main thread, which may be waiting for a lock or for numpy. The wakeup pipe has the
    # signal's number at once.
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def watch() -> None:
        while number := os.read(heard, 1):
            if number[0] in heeded:
                leave(number[0])

    # A file may be half written: open files are left alone.
    def leave(number: int) -> None:
        for part in parts:
            with suppress(OSError):  # it may have its name already
                os.unlink(part)  # noqa: PTH108 - a plain call, whatever it interrupts
        if is_terminal:
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        os._exit(_SIGNALLED + number)

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    before_told = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    before = {one: signal.signal(one, lambda *_: None) for one in heeded}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        signal.set_wakeup_fd(before_told)
        os.close(told)
        watcher.join()
        os.close(heard)


def exit_code(error: LossdError) -> Exit:
    """Return the exit code of a client's error."""
    if isinstance(error, ConnectionFailed) and isinstance(
        error.__cause__, ImportError | OSError | ValueError
    ):
        return Exit.USAGE  # the environment's proxy or certificates, or an address that is none
    return Exit.REFUSED if isinstance(error, StatusError | BadAnswer) else Exit.UNREACHABLE
