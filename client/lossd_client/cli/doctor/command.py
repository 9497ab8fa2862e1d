"""`lossd doctor`: runs the checks and prints their findings."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from lossd_client import Timeout as Limits
from lossd_client.cli.exits import Exit, client_errors
from lossd_client.cli.options import ApiKey, Timeout, Url

if TYPE_CHECKING:
    from lossd_client.cli.doctor.finding import Finding


def doctor(
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Check the set-up step by step: this machine, the way to the server, the server and its numbers.

    What is wrong comes with its remedy. The exit code is that of the first check that failed; warnings are no
    failure. The checks stop where nothing more can be found out.
    """
    found = []
    with client_errors():
        Limits.of(timeout)  # refuses a number that is no timeout
        for finding in _findings(url, api_key, timeout):
            found.append(finding)
            if not as_json:
                _print(finding)
    code = next((finding.code for finding in found if finding.code is not Exit.OK), Exit.OK)
    if as_json:
        typer.echo(
            json.dumps({"ok": code is Exit.OK, "exit_code": code, "checks": [_said(one) for one in found]})
        )
    elif code is Exit.OK:
        typer.echo("all is right")
    raise typer.Exit(code)


def _findings(url: str | None, api_key: str | None, seconds: float) -> Iterator["Finding"]:
    from lossd_client.cli.doctor.finding import State
    from lossd_client.cli.doctor.network import look_at_network
    from lossd_client.cli.doctor.service import look_at_service
    from lossd_client.cli.doctor.setup import Target, look_at_packages, look_at_settings

    yield from look_at_packages()
    target = None
    for found in look_at_settings(url, api_key):
        if isinstance(found, Target):
            target = found
        else:
            yield found
    if target is None:
        return
    for look in (look_at_network, look_at_service):
        for finding in look(target, seconds):
            yield finding
            if finding.state is State.FAILED and look is look_at_network:
                return


_MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "failed": ("FAIL", "bold red")}


def _print(finding: "Finding") -> None:
    mark, style = _MARKS[finding.state]
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble((mark, style), f"  {finding.name}: {finding.detail}"))
    if finding.remedy is not None:
        console.print(Text(f"      -> {finding.remedy}"))


def _said(finding: "Finding") -> dict[str, str | None]:
    return {
        "name": finding.name,
        "state": finding.state.value,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }
