"""`lossd serve`: runs the server, if its dependencies are installed."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lossd.cli.errors import check_database, fail, server_imports, teams_errors

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
    }
    _start({name: value for name, value in options.items() if value is not None})


def _start(options: dict[str, Any]) -> NoReturn:
    """Check settings and what they name, and run the server.

    Args:
        options: The settings that were given as options.
    """
    with server_imports():
        from pydantic import ValidationError

        from lossd import logs
        from lossd.api.http.tls import BadCertificate, Certificate
        from lossd.engine.supervisor.main import run
        from lossd.settings import Settings
        from lossd.start_checks import Resources, check_variables, explain, fit, tell_usage
        from lossd.teams import read_teams
        from lossd.tracing import is_installed

    variables = check_variables(os.environ)
    try:
        settings = Settings(**options)
    except ValidationError as error:
        errors = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
        fail("\n".join([explain(one, options) for one in errors] + variables.errors))
    if variables.errors:
        fail("\n".join(variables.errors))
    if settings.teams is not None:
        with teams_errors(settings.teams):
            read_teams(settings.teams)
    if settings.traces and not is_installed():
        fail("LOSSD_TRACES needs OpenTelemetry: pip install 'lossd[otel]'")
    if settings.quota_store is not None:
        _check_store(settings.quota_store)
    if isinstance(settings.usage_file, str):
        check_database(settings.usage_file, "LOSSD_USAGE_FILE")
    if settings.tls_certificate is not None and settings.tls_key is not None:
        try:
            Certificate(settings.tls_certificate, settings.tls_key)
        except BadCertificate as error:
            fail(f"LOSSD_TLS_CERTIFICATE and LOSSD_TLS_KEY: {error}")
    logs.configure("supervisor", None, settings.log_level, settings.log_format)
    for warning in variables.warnings:
        logger.warning("%s", warning)
    settings = fit(settings, Resources.find())
    tell_usage(settings, os.environ)
    raise typer.Exit(run(settings))


def _check_store(url: str) -> None:
    """End the command if the quota store's URL cannot be read. Its password is not shown."""
    try:
        from lossd.engine.admission.quota_store import QuotaStore
    except ModuleNotFoundError:
        fail("LOSSD_QUOTA_STORE needs redis-py: pip install 'lossd[quota]'")
    try:
        QuotaStore(url)
    except ValueError:
        fail("LOSSD_QUOTA_STORE cannot be read; write redis://:PASSWORD@HOST:6379/0, with %XX for signs")
