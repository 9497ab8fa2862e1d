"""`lossd serve`: runs the server, if its dependencies are installed."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lossd.cli.errors import fail, server_imports, teams_errors

logger = logging.getLogger(__name__)


def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on.", show_default="8000", min=0, max=65535)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda:0,cuda:1", help="What computes the losses.", show_default="auto"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="How many threads compute on a CPU.", show_default="all of its cores", min=1),
    ] = None,
    front_ends: Annotated[
        int | None,
        typer.Option(help="How many processes receive and answer requests.", show_default="1", min=1, max=64),
    ] = None,
    teams: Annotated[
        Path | None, typer.Option(help="The teams file: who may use the server.", show_default="none")
    ] = None,
    allow_open: Annotated[
        bool, typer.Option("--allow-open", help="Listen beyond this machine although no key is asked for.")
    ] = False,
    ui_report: Annotated[
        Path | None, typer.Option(help="A saved report that the page at /ui opens with.", show_default="none")
    ] = None,
) -> None:
    """Run the server until it is told to stop.

    Every setting is also an environment variable, LOSSD_HOST and so on; an option wins.
    """
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "device": device,
        "threads": threads,
        "front_ends": front_ends,
        "teams": teams,
        "allow_open": allow_open or None,
        "ui_report": ui_report,
    }
    _start({name: value for name, value in options.items() if value is not None})


def _start(options: dict[str, Any]) -> NoReturn:
    """Check settings, some given as options, and what they name, and run the server."""
    with server_imports():
        from pydantic import ValidationError

        from lossd import logs
        from lossd.api.http.tls import BadCertificate, Certificate
        from lossd.engine.supervisor.main import run
        from lossd.settings import Settings
        from lossd.start_checks import (
            Resources,
            check_services,
            check_variables,
            explain_all,
            fit,
            tell_limits,
            tell_usage,
        )
        from lossd.teams import read_teams

    variables = check_variables(os.environ)
    try:
        settings = Settings(**options)
    except ValidationError as error:
        fail("\n".join(explain_all(error, options) + variables.errors))
    if variables.errors:
        fail("\n".join(variables.errors))
    if settings.teams is not None:
        with teams_errors(settings.teams):
            read_teams(settings.teams)
    if wrong := check_services(settings):
        fail("\n".join(wrong))
    if settings.tls_certificate is not None and settings.tls_key is not None:
        try:
            Certificate(settings.tls_certificate, settings.tls_key)
        except BadCertificate as error:
            fail(f"LOSSD_TLS_CERTIFICATE and LOSSD_TLS_KEY: {error}")
    logs.configure("supervisor", None, settings.log_level, settings.log_format)
    for warning in variables.warnings:
        logger.warning("%s", warning)
    settings = fit(settings, Resources.find())
    tell_limits(settings)
    tell_usage(settings, os.environ)
    raise typer.Exit(run(settings))
