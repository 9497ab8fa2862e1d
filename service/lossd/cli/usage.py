"""`lossd usage`: what teams have used, from the file that a server keeps."""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from lossd.cli.exits import Exit, fail, server_imports

if TYPE_CHECKING:
    from lossd.engine.ledger import Used

_VARIABLE: Final = "LOSSD_USAGE_FILE"


def usage(
    team: Annotated[str | None, typer.Option(help="Only this team's.", show_default="all teams")] = None,
    days: Annotated[
        int, typer.Option(help="How many days, of which today (in UTC) is the last.", min=1, max=3660)
    ] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(envvar=_VARIABLE, help="The usage file.", show_default="where the server keeps it"),
    ] = None,
) -> None:
    """Show what teams have used, by day: requests that were answered, their elements, bytes and seconds.

    Read from the server's usage file, on its machine, while it runs or not.
    """
    with server_imports():
        from lossd.engine.ledger import first_day, read_usage, reason

    path = _path(file)
    since = first_day(days)
    try:
        used = read_usage(path, since, team)
    except FileNotFoundError:
        fail(
            f"there is no usage file at {path}; name the one that the server keeps, by --file or {_VARIABLE}",
            Exit.USAGE,
        )
    except (OSError, sqlite3.Error) as error:
        fail(f"{path}: {reason(error)}", Exit.USAGE)
    if as_json:
        typer.echo(json.dumps(_document(path, since, used)))
    elif used:
        _print(used, since)
    else:
        typer.echo(f"nothing since {since}" + (f" by team {team}" if team else ""), err=True)


def _path(given: Path | None) -> Path:
    """The file: the given one, else where a server of this user keeps it."""
    with server_imports():
        from lossd.settings import default_usage_file

    if given is None and os.environ.get(_VARIABLE) == "":
        fail(f"{_VARIABLE} is empty, so no usage is kept; name a file by --file", Exit.USAGE)
    path = given or default_usage_file()
    if path is None:
        fail(f"there is no home folder to look in; name the file by --file or {_VARIABLE}", Exit.USAGE)
    return path


def _document(path: Path, since: date, used: Iterable["Used"]) -> dict[str, Any]:
    from lossd.engine.ledger import figures

    rows = sorted(used, key=lambda row: (row.team, row.day))
    teams = [
        {
            "team": team,
            "days": [{"day": row.day, **figures([row])} for row in of_team],
            "total": figures(of_team),
        }
        for team, of_team in ((team, list(found)) for team, found in groupby(rows, lambda row: row.team))
    ]
    return {"file": str(path), "since": since.isoformat(), "teams": teams, "total": figures(rows)}


def _print(used: list["Used"], since: date) -> None:
    from lossd.engine.ledger import figures

    table = Table(title=f"since {since} (days in UTC)", title_justify="left", show_footer=False)
    table.add_column("day")
    table.add_column("team")
    for name in ("requests", "elements", "bytes", "device seconds"):
        table.add_column(name, justify="right")
    for row in used:
        table.add_row(row.day, row.team, *_cells(figures([row])))
    teams = sorted({row.team for row in used})
    table.add_section()
    for team in teams:
        table.add_row("total", team, *_cells(figures(row for row in used if row.team == team)))
    if len(teams) > 1:
        table.add_row("total", "all", *_cells(figures(used)))
    Console().print(table)


def _cells(figures: Mapping[str, int | float]) -> list[str]:
    return [f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" for value in figures.values()]
