"""`lossd keys`: makes and revokes teams' keys."""

from contextlib import suppress
from typing import Annotated, Final

import typer

from lossd.cli.errors import fail, server_imports, teams_errors
from lossd.cli.teams import TeamsFile

app = typer.Typer(no_args_is_help=True, help="Make and revoke teams' keys.")

_PREFIX: Final = "lossd_"


@app.command()
def new(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The team that it is for.", show_default=False)],
    teams: TeamsFile,
) -> None:
    """Make a key for a team, and print it once, alone, on standard output.

    Of the key itself only a digest is kept.
    """
    with server_imports():
        from lossd.teams import digest_of, new_key
        from lossd.teams_file import add_key, revoke_key

    key_id, key = new_key()
    with teams_errors(teams):
        add_key(teams, team, key_id, digest_of(key))
    try:
        typer.echo(key)
    except OSError as error:
        with suppress(ValueError):
            revoke_key(teams, key_id)
        fail(f"the key could not be printed ({error.strerror}), so it is revoked again")
    typer.echo(
        f"key {key_id} of team {team}; it is shown only now. A running server knows it in a second.", err=True
    )


@app.command()
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
        from lossd.teams_file import revoke_key

    if key_id.startswith(_PREFIX):
        key_id = key_id.removeprefix(_PREFIX).partition("_")[0]
        typer.echo(
            "warning: that is a key; its id is enough, and others on this machine may see a command line",
            err=True,
        )
    if not KEY_ID.fullmatch(key_id):  # which may be a secret: it is not repeated
        fail("that is no key's id, which has 8 lower-case letters and digits; see lossd teams list")
    with teams_errors(teams):
        team = revoke_key(teams, key_id)
    typer.echo(f"revoked key {key_id} of team {team}", err=True)
