"""`lossd usage`: what teams have used, from the server's file or database, or from a server over HTTP."""

import json
import math
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from lossd.cli.errors import REFUSED, check_database, fail, server_imports

_VARIABLE: Final = "LOSSD_USAGE_FILE"
_FIGURES: Final = {"requests": int, "elements": int, "bytes": int, "device_seconds": float}

Row: TypeAlias = tuple[str, str, dict[str, Any]]
"""A day, a team, and its figures."""
AskUsage: TypeAlias = Callable[[str, str | None, float, int], tuple[str, Any]]
"""Asks a server for usage, given its address, a key, a timeout and the number of days; returns the address as
it may be shown, and the answer. It is the client's, which the server's packages do not import."""


def usage(
    context: typer.Context,
    team: Annotated[str | None, typer.Option(help="Only this team's.", show_default="all teams")] = None,
    days: Annotated[
        int, typer.Option(help="How many days, of which today (in UTC) is the last.", min=1, max=3660)
    ] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    file: Annotated[
        str | None,
        typer.Option(
            envvar=_VARIABLE,
            help="The usage file, or the database: postgresql://...",
            show_default="where the server keeps it",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Ask the server here instead, with a key, whose team's usage it says.",
            show_default=False,
            rich_help_panel="Server",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The API key; else LOSSD_API_KEY, which other users of this machine cannot read as they can "
            "a command line.",
            show_default=False,
            rich_help_panel="Server",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds to wait for the connection, and for the network to move.", rich_help_panel="Server"
        ),
    ] = 10.0,
) -> None:
    """Show what teams have used, by day: requests that were answered, their elements, bytes and seconds.

    Read from the server's usage file, on its machine, while it runs or not, or from the database of several
    servers; or with --url from a server.
    """
    if url is not None:
        source = context.get_parameter_source("file")
        if source is not None and source.name == "COMMANDLINE":  # not the environment, where it may stand
            fail("--url asks a server, and --file reads a file: give one of them")
        ask: AskUsage = context.obj
        about, since, rows = _asked(ask(url, api_key, timeout, days), team)
    else:
        about, since, rows = _read(file, days, team)
    if as_json:
        typer.echo(json.dumps(_document(about, since, rows)))
    elif rows:
        _print(rows, since)
    else:
        typer.echo(f"nothing since {since}" + (f" by team {team}" if team else ""), err=True)


def _asked(answer: tuple[str, Any], team: str | None) -> tuple[dict[str, str], str, list[Row]]:
    """Read what a server has answered: its address, and the document of GET /usage."""
    where, body = answer
    try:
        own, since = str(body["team"]), date.fromisoformat(body["since"])
        rows = [
            (str(row["day"]), own, {name: kind(row[name]) for name, kind in _FIGURES.items()})
            for row in body["days"]
        ]
    except (KeyError, TypeError, ValueError):
        fail(f"the answer to /usage cannot be read; is {where} a lossd server?", REFUSED)
    if team not in (None, own):
        fail(f"a server answers with the usage of its key's team, {own}; for {team} give a key of {team}")
    return {"server": where}, since.isoformat(), rows


def _read(file: str | None, days: int, team: str | None) -> tuple[dict[str, str], str, list[Row]]:
    """Read the usage file, or the database."""
    with server_imports("; or ask a server for it, with --url"):
        from lossd.engine.usage_store import first_day, read_usage, reason, shown, total_usage

        place = _place(file)
    if isinstance(place, str):
        check_database(place, f"--file or {_VARIABLE}")
    since = first_day(days)
    try:
        used = read_usage(place, since, team)
    except FileNotFoundError:
        fail(
            f"there is no usage file at {place}; name the one that the server keeps, by --file or {_VARIABLE}"
            ", or ask a server, by --url"
        )
    except (OSError, sqlite3.Error) as error:
        fail(f"{shown(place)}: {reason(error)}")
    return (
        {"database" if isinstance(place, str) else "file": shown(place)},
        since.isoformat(),
        [(row.day, row.team, dict(total_usage([row]))) for row in used],
    )


def _place(given: str | None) -> Path | str:
    """Return the file or the database's URL: the given one, else where a server of this user keeps it."""
    from lossd.setting_types import usage_place
    from lossd.settings import default_usage_file

    if given is None and os.environ.get(_VARIABLE) == "":
        fail(f"{_VARIABLE} is empty, so no usage is kept; name a file by --file")
    try:
        place = usage_place(given) if given else default_usage_file()
    except ValueError as error:
        fail(f"--file or {_VARIABLE}: {error}")
    if place is None:
        fail(f"there is no home folder to look in; name the file by --file or {_VARIABLE}")
    return place


def _document(about: dict[str, str], since: str, rows: Sequence[Row]) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: (row[1], row[0]))
    teams = [
        {"team": team, "days": [{"day": day, **used} for day, _, used in found], "total": _total(found)}
        for team, found in ((team, list(some)) for team, some in groupby(ordered, lambda row: row[1]))
    ]
    return {**about, "since": since, "teams": teams, "total": _total(ordered)}


def _total(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: kind(math.fsum(used[name] for *_, used in rows)) for name, kind in _FIGURES.items()}


def _print(rows: Sequence[Row], since: str) -> None:
    table = Table(title=f"since {since} (days in UTC)", title_justify="left", show_footer=False)
    table.add_column("day")
    table.add_column("team")
    for name in _FIGURES:
        table.add_column(name.replace("_", " "), justify="right")
    for day, team, used in rows:
        table.add_row(day, team, *_cells(used))
    teams = sorted({team for _, team, _ in rows})
    table.add_section()
    for team in teams:
        table.add_row("total", team, *_cells(_total([row for row in rows if row[1] == team])))
    if len(teams) > 1:
        table.add_row("total", "all", *_cells(_total(rows)))
    Console().print(table)


def _cells(figures: dict[str, Any]) -> list[str]:
    return [f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" for value in figures.values()]
