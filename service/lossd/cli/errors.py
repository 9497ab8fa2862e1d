"""Error messages and exit codes of the server's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import typer

REFUSED: Final = 1
"""The exit code where a server refused the request, or failed."""
USAGE: Final = 2
"""The exit code of wrong usage, or of a file that cannot be used."""


def fail(message: str, code: int = USAGE) -> NoReturn:
    """Print a message to standard error and end the command."""
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    raise typer.Exit(code)


@contextmanager
def server_imports(otherwise: str = "") -> Iterator[None]:
    """Turn a dependency of the server that is not installed into a message and an exit code.

    Args:
        otherwise: What else to do, for the message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "lossd":
            raise
        fail(f"this needs {error.name}: pip install 'lossd[cpu]'{otherwise}")


@contextmanager
def teams_errors(path: Path) -> Iterator[None]:
    """Turn what is wrong with a teams file into a message and an exit code."""
    from lossd.teams import BadTeams

    try:
        yield
    except BadTeams as error:
        fail(f"{path}: {error}")


def check_database(url: str, name: str) -> None:
    """End the command if a usage database's URL cannot be read. Its password is not shown.

    Args:
        url: The URL.
        name: Where it was given.
    """
    from lossd.engine.usage_database import check_url

    if wrong := check_url(url):
        fail(f"{name}: {wrong}")
