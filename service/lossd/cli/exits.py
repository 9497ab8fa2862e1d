"""The exit codes of every command, and how errors are shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from lossd_client import BadAnswer, LossdError, StatusError


class Exit(IntEnum):
    """What a command's exit code says; a signal or a bug gives others."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3


EPILOG = (
    "Exit codes: 0 done; 1 the server refused the request or failed; 2 wrong usage or a file that cannot be "
    "used; 3 the server could not be reached."
)


def fail(message: str, code: Exit) -> NoReturn:
    """Prints the message to standard error and ends the command."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(code)


@contextmanager
def client_errors() -> Iterator[None]:
    """Turns what the client raises into a message and an exit code."""
    try:
        yield
    except LossdError as error:
        fail(str(error), _code(error))
    except (TypeError, ValueError) as error:  # the arguments; nothing was sent
        fail(str(error), Exit.USAGE)


@contextmanager
def server_imports() -> Iterator[None]:
    """Turns a dependency of the server's that is not installed into a message and an exit code."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "lossd":
            raise
        fail(f"this needs {error.name}: pip install 'lossd[server]'", Exit.USAGE)


def _code(error: LossdError) -> Exit:
    return Exit.REFUSED if isinstance(error, StatusError | BadAnswer) else Exit.UNREACHABLE
