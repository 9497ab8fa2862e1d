"""The command `lossd`: the commands that need only the client. `lossd.__main__` adds the server's."""

import errno
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Annotated, Final

import typer

from lossd_client.cli.engines.engine import Here, provide
from lossd_client.cli.exits import EPILOG, Exit
from lossd_client.cli.options import Command
from lossd_client.cli.usage import ask_usage

__all__ = ["Here", "create_app", "run"]

_OWN: Final = {
    "score": "score",
    "report": "report",
    "merge": "merge",
    "compare": "compare",
    "ping": "ping",
    "doctor": "doctor.command",
    "bench": "bench.command",
}
"""The commands, and their modules, which take a fifth of a second together."""


def create_app(
    *additions: Callable[[typer.Typer], None],
    here: Callable[[], Here] | None = None,
    named: str | None = None,
) -> typer.Typer:
    """Put the command together.

    Args:
        additions: Functions that add further commands. These find `ask_usage` as their context's object.
        here: Imports what --engine needs of the server's package; without it there are no engines.
        named: The first argument. Where it names a command, no other command's module is imported.
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
    added = typer.Typer()
    for add in additions:
        add(added)
    for name in _wanted(named, added):
        app.command()(getattr(import_module(f"lossd_client.cli.{_OWN[name]}"), name))
    app.registered_commands += added.registered_commands
    app.registered_groups += added.registered_groups
    _unify(app)
    return app


def _wanted(named: str | None, added: typer.Typer) -> Iterable[str]:
    """Return the client's commands that are to be had: all, unless the argument names one, or one added."""
    if named in _OWN:
        return (named,)
    functions = [command.callback for command in added.registered_commands]
    names = {function.__name__ for function in functions if function is not None}
    names |= {str(group.name) for group in added.registered_groups}
    return () if named in names else _OWN


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
    """Compute losses on a server, exact to float64: of classifiers, detectors and segmentation."""
