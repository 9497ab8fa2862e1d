"""How commands take their options, and the options of those that talk to a server."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, Final, TypeVar

import typer
from typer.core import TyperCommand

from lossd_client import Retry
from lossd_client._calls.parameters import LOSSES

_PANEL = "Server"

QUICK: Final = Retry(first_refusal=3)
"""Commands fail fast on a wrong port; `lossd ping --wait` waits for a start."""

Url = Annotated[
    str | None,
    typer.Option(
        help="Where the server is, http://host:port or unix:///path; else LOSSD_BASE_URL, else "
        "http://127.0.0.1:8000.",
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


OptionsT = TypeVar("OptionsT")


def takes(options: type[OptionsT]) -> Callable[[Callable[[OptionsT], None]], Callable[..., None]]:
    """Make a command of a function that takes its options as one object.

    Args:
        options: A dataclass whose fields are annotated as typer has it.
    """

    def decorate(run: Callable[[OptionsT], None]) -> Callable[..., None]:
        @wraps(run)
        def command(**given: Any) -> None:  # noqa: ANN401 - the fields
            run(options(**given))

        command.__signature__ = inspect.signature(options)  # type: ignore[attr-defined] # typer reads it
        command.__annotations__ = {each.name: each.type for each in fields(options)}  # type: ignore[arg-type]
        return command

    return decorate


class Command(TyperCommand):
    """A command that refuses an option that is given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's, or typer's own copy of it
        """Read the command line.

        Raises:
            UsageError: An option is given twice.
            BadParameter: An option's text is none that it may be.
        """
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for option in order:
            takes_many = (
                getattr(option, "multiple", False) or getattr(option, "count", False) or option.nargs == -1
            )
            if order.count(option) > 1 and not takes_many:
                ctx.fail(f"{option.opts[-1]} is given twice")
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # pydantic's words
            if getattr(error.param, "name", None) == "loss":
                error.message += _meant(error.message)
            raise


def _meant(message: str) -> str:
    """Return which loss is meant by another word for it, the first that a message quotes; else ""."""
    word = message.split("'")[1].lower() if "'" in message else ""
    if word in LOSSES["box"].own["variant"].words:
        return f" Is --loss box --variant {word} meant?"
    return " Is --loss cross_entropy meant?" if word == "ce" else ""
