"""The command `lossd`: the commands that need only the client. `lossd.__main__` adds the server's."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from lossd_client.cli.bench.command import bench
from lossd_client.cli.compare import compare
from lossd_client.cli.doctor.command import doctor
from lossd_client.cli.engines.engine import Here, provide
from lossd_client.cli.exits import EPILOG, Exit
from lossd_client.cli.merge import merge
from lossd_client.cli.options import Command
from lossd_client.cli.ping import ping
from lossd_client.cli.report import report
from lossd_client.cli.score import score
from lossd_client.cli.usage import ask_usage

__all__ = ["Here", "create_app", "run"]


def create_app(
    *additions: Callable[[typer.Typer], None], here: Callable[[], Here] | None = None
) -> typer.Typer:
    """Put the command together.

    Args:
        additions: Functions that add further commands. These find `ask_usage` as their context's object.
        here: Imports what --engine needs of the server's package; without it there are no engines.
    """
    if here is not None:
        provide(here)
    app = typer.Typer(
        name="lossd",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"], "obj": ask_usage},
        callback=_root,
    )
    for command in (score, report, merge, compare, ping, doctor, bench):
        app.command()(command)
    for add in additions:
        add(app)
    _unify(app)
    return app


def run(app: typer.Typer) -> None:
    """Run the command that the arguments name."""
    try:
        try:
            app(prog_name="lossd")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        sys.stderr.write(f"error: standard output: {error.strerror}\n")
        sys.exit(Exit.USAGE)


def _unify(group: typer.Typer) -> None:
    """Have all commands of a group show the exit codes, and refuse an option that is given twice."""
    group.info.epilog = EPILOG
    for command in group.registered_commands:
        command.cls, command.epilog = Command, EPILOG
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _unify(inner.typer_instance)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"lossd {version('lossd')}")
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Compute losses on a server: binary cross entropy and focal loss, exact to float64."""
