"""`lossd keys`: makes teams' keys, and revokes them."""

from contextlib import suppress
from typing import Annotated, Final

import typer

from lossd.cli.exits import EPILOG, Exit, fail, server_imports
from lossd.cli.options import TeamsFile, teams_errors

app = typer.Typer(no_args_is_help=True, help="Make and revoke teams' keys.", epilog=EPILOG)

_PREFIX: Final = "lossd_"


@app.command(epilog=EPILOG)
def new(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The team that it is for.", show_default=False)],
    teams: TeamsFile,
) -> None:
    """Make a key for a team, and print it once, alone, on standard output.

    Of the key itself only a digest is kept.
    """
    with server_imports():
        from lossd.teams import digest_of, new_key
        from lossd.teamsfile import add_key, revoke_key

    key_id, key = new_key()
    with teams_errors(teams):
        add_key(teams, team, key_id, digest_of(key))
    try:
        typer.echo(key)
    except OSError as error:
        with suppress(ValueError):
            revoke_key(teams, key_id)
        fail(f"the key could not be printed ({error.strerror}), so it is revoked again", Exit.USAGE)
    typer.echo(
        f"key {key_id} of team {team}; it is shown only now. A running server knows it in a second.", err=True
    )


@app.command(epilog=EPILOG)
def revoke(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="KEY_ID", help="The key's id: its second part, lossd_ID_….", show_default=False
        ),
    ],
    teams: TeamsFile,
) -> None:
    """Revoke a key: a running server refuses it within a second."""
    with server_imports():
        from lossd.teams import KEY_ID
        from lossd.teamsfile import revoke_key

    if key_id.startswith(_PREFIX):
        key_id = key_id.removeprefix(_PREFIX).partition("_")[0]
        typer.echo(
            "warning: that is a key; its id is enough, and others on this machine may see a command line",
            err=True,
        )
    if not KEY_ID.fullmatch(key_id):  # which may be a secret: it is not repeated
        fail(
            "that is no key's id, which has 8 lower-case letters and digits; see lossd teams list", Exit.USAGE
        )
    with teams_errors(teams):
        team = revoke_key(teams, key_id)
    typer.echo(f"revoked key {key_id} of team {team}", err=True)
