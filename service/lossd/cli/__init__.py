"""The command line. Commands that need the server's dependencies import them when they run."""

import errno
import os
import sys
from typing import Annotated

import typer

from lossd.cli import keys, teams
from lossd.cli.bench import bench
from lossd.cli.doctor import doctor
from lossd.cli.exits import EPILOG, Exit
from lossd.cli.options import Command
from lossd.cli.ping import ping
from lossd.cli.score import score
from lossd.cli.serve import serve
from lossd.cli.usage import usage

app = typer.Typer(
    name="lossd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
for _command in (score, ping, doctor, bench, serve, usage):
    app.command(epilog=EPILOG)(_command)
app.add_typer(teams.app, name="teams")
app.add_typer(keys.app, name="keys")
for _each in (app, teams.app, keys.app):
    for _registered in _each.registered_commands:
        _registered.cls = Command


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"lossd {version('lossd')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Compute losses on a server: binary cross entropy and focal loss, exact to float64."""


def main() -> None:
    """Runs the command that the arguments name."""
    try:
        try:
            app(prog_name="lossd")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # to which the rest is written
        sys.stderr.write(f"error: standard output: {error.strerror}\n")
        sys.exit(Exit.USAGE)
