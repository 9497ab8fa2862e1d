"""The options that every command which talks to a server has."""

from typing import Annotated

import typer

_PANEL = "Server"

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
