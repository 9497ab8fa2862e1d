"""`lossd ping`: asks a server whether it is ready."""

import sys
import time
from typing import Annotated, Final

import typer

from lossd_client import BadAnswer, ConnectionFailed, LossClient, LossdError, StatusError
from lossd_client import Timeout as Limits
from lossd_client._http.addresses import without_password
from lossd_client.cli.exits import Exit, client_errors, exit_code, fail
from lossd_client.cli.options import ApiKey, Timeout, Url

_PAUSE: Final = 0.5


def ping(
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 5.0,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Wait for so long until it is ready, as after a start.",
            min=0.0,
            show_default="ask once",
        ),
    ] = None,
) -> None:
    """Ask a server whether it is ready, and for its version."""
    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout, retry=None) as client:
        where = without_password(client.base_url)
        if wait is not None:
            _wait(client, where, timeout, wait)
        elif not client.ready():
            fail(f"{where} is there, but not ready", Exit.REFUSED)
        version = client.info().get("version", "of unknown version")
        typer.echo(f"{where} is ready: lossd {version}")


def _wait(client: LossClient, where: str, timeout: float, seconds: float) -> None:
    """Ask until the server is ready, and show on a terminal why it is not."""
    ends, shown = time.monotonic() + seconds, ""
    while True:
        left = ends - time.monotonic()
        reason = _reason(client.with_options(timeout=Limits.of(min(timeout, max(left, _PAUSE)))), where)
        if reason is None:
            return
        left = ends - time.monotonic()
        if left <= 0:
            fail(f"{where} was not ready within {seconds:g} s: {reason}", Exit.UNREACHABLE)
        if reason != shown and sys.stderr.isatty():
            typer.echo(f"waiting for {where}: {reason}", err=True)
            shown = reason
        time.sleep(min(_PAUSE, left))


def _reason(client: LossClient, where: str) -> str | None:
    """Return why the server is not ready; None if it is.

    Raises:
        LossdError: It never will be: something else is there, or the address is none.
    """
    try:
        return None if client.ready() else "it is there, but not ready"
    except BadAnswer:
        raise
    except StatusError as error:
        if error.status < 500:
            raise
        return f"{error.status} {error.code or 'by a proxy'}"
    except ConnectionFailed as error:
        if not error.retryable or exit_code(error) is Exit.USAGE:
            raise
        return str(error).removeprefix(f"{where}: ")
    except LossdError as error:
        return str(error).removeprefix(f"{where}: ")
