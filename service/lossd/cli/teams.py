"""`lossd teams`: makes and edits a teams file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossd.cli.errors import server_imports, teams_errors

if TYPE_CHECKING:
    from lossd.teams import Team

app = typer.Typer(no_args_is_help=True, help="Make and edit a teams file: who may use a server.")

TeamsFile = Annotated[
    Path, typer.Option("--teams", envvar="LOSSD_TEAMS", help="The teams file.", show_default=False)
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The team's name.", show_default=False)]


@app.command()
def add(
    name: Name,
    teams: TeamsFile,
    weight: Annotated[
        float, typer.Option(help="Its share of the workers' time, in proportion to others'.")
    ] = 1.0,
    requests_per_second: Annotated[
        float | None, typer.Option(help="Most requests a second; no limit by default.", show_default=False)
    ] = None,
    elements_per_second: Annotated[
        float | None, typer.Option(help="Most elements a second.", show_default=False)
    ] = None,
    requests_in_flight: Annotated[
        int | None, typer.Option(help="Most requests in flight.", show_default=False)
    ] = None,
    bytes_in_flight: Annotated[
        int | None, typer.Option(help="Most bytes of their bodies.", show_default=False)
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="Its keys may see all teams, the workers and the queue.")
    ] = False,
) -> None:
    """Add a team. Makes the file if there is none, readable for its owner alone."""
    with server_imports():
        from lossd.teams import Limits, Team
        from lossd.teams_file import add_team

    limits = Limits(requests_per_second, elements_per_second, requests_in_flight, bytes_in_flight)
    with teams_errors(teams):
        add_team(teams, Team(name, weight, limits, operator=operator))
    typer.echo(f"added team {name}; it has no key yet: lossd keys new {name} --teams {teams}", err=True)


@app.command("list")
def show(
    teams: TeamsFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """List the teams, with their limits and the ids of their keys."""
    with server_imports():
        from lossd.teams import read_teams

    with teams_errors(teams):
        found = [_said(team) for team in read_teams(teams).teams.values()]
    if as_json:
        typer.echo(json.dumps({"teams": found}))
        return
    for team in found:
        typer.echo("\n".join(_lines(team)))


@app.command()
def disable(name: Name, teams: TeamsFile) -> None:
    """Refuse all of a team's keys, which it keeps."""
    _set_disabled(teams, name, disabled=True)


@app.command()
def enable(name: Name, teams: TeamsFile) -> None:
    """Take the keys of a disabled team again."""
    _set_disabled(teams, name, disabled=False)


def _set_disabled(path: Path, name: str, *, disabled: bool) -> None:
    with server_imports():
        from lossd.teams_file import set_disabled

    with teams_errors(path):
        set_disabled(path, name, disabled)
    typer.echo(f"team {name} is {'disabled' if disabled else 'enabled'}", err=True)


def _said(team: "Team") -> dict[str, Any]:
    """Return what may be shown of a team."""
    import msgspec

    limits = msgspec.structs.asdict(team.limits)
    return {
        "name": team.name,
        "weight": team.weight,
        "disabled": team.disabled,
        "operator": team.operator,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "keys": [{"id": key_id, "created": key.created} for key_id, key in team.keys.items()],
    }


def _lines(team: Mapping[str, Any]) -> list[str]:
    limits = [f"{name} {value:,.15g}" for name, value in team["limits"].items()]
    keys = [
        f"  key {key['id']}" + (f", made {key['created']}" if key["created"] else "") for key in team["keys"]
    ]
    flags = [flag for flag in ("operator", "disabled") if team[flag]]
    return [
        team["name"] + (f" ({', '.join(flags)})" if flags else ""),
        "  " + ", ".join([f"weight {team['weight']:g}", *limits]),
        *(keys or ["  no keys"]),
    ]
