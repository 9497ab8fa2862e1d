"""The server's commands: serve, openapi, teams, keys and usage. They import what they need when they run."""

import typer

from lossd.cli import keys, teams
from lossd.cli.openapi import openapi
from lossd.cli.serve import serve
from lossd.cli.usage import usage


def add_commands(app: typer.Typer) -> None:
    """Add them to the command."""
    for command in (serve, openapi, usage):
        app.command()(command)
    app.add_typer(teams.app, name="teams")
    app.add_typer(keys.app, name="keys")
