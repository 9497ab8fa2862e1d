"""`lossd ping`: is the server there?"""

import typer

from lossd.cli.exits import Exit, client_errors, fail
from lossd.cli.options import ApiKey, Timeout, Url
from lossd_client import LossClient
from lossd_client.message import without_password


def ping(url: Url = None, api_key: ApiKey = None, timeout: Timeout = 5.0) -> None:
    """Ask a server whether it is ready, and for its version."""
    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout) as client:
        if not client.ready():
            fail(f"{without_password(client.base_url)} is there, but not ready", Exit.REFUSED)
        version = client.info().get("version", "of unknown version")
        typer.echo(f"{without_password(client.base_url)} is ready: lossd {version}")
