"""The whole command, the client's part and the server's."""

from __future__ import annotations

from functools import cache

import typer.testing

from lossd.cli import add_commands
from lossd_client.cli import create_app

app = create_app(add_commands)
# A runner builds the command anew for each run, which takes longer than most of the runs.
typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined] # private
