"""The options that several commands have: those which talk to a server, and those which edit a teams file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from lossd.cli.exits import Exit, fail
from lossd_client import Retry

_PANEL = "Server"

QUICK: Final = Retry(first_refusal=3)
"""For commands: who mistypes a port is told within a second; `lossd ping --wait` waits for a start."""

Url = Annotated[
    str | None,
    typer.Option(
        help="Where the server is; else LOSSD_BASE_URL, else http://127.0.0.1:8000.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="The API key; else LOSSD_API_KEY, which other users of this machine cannot read as they can "
        "a command line.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        help="Seconds to wait for the connection, and for the network to move.", rich_help_panel=_PANEL
    ),
]
TeamsFile = Annotated[
    Path, typer.Option("--teams", envvar="LOSSD_TEAMS", help="The teams file.", show_default=False)
]


@contextmanager
def teams_errors(path: Path) -> Iterator[None]:
    """Turns what is wrong with a teams file into a message and an exit code."""
    from lossd.teams import BadTeams

    try:
        yield
    except BadTeams as error:
        fail(f"{path}: {error}", Exit.USAGE)
