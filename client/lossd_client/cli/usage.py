"""Asking a server what a team has used, for `lossd usage`, which is the server's command."""

from typing import Any

from lossd_client import LossClient
from lossd_client._http.addresses import without_password
from lossd_client.cli.exits import client_errors
from lossd_client.cli.options import QUICK


def ask_usage(url: str, api_key: str | None, timeout: float, days: int) -> tuple[str, Any]:
    """Return the server's address, as it may be shown, and its answer to GET /usage.

    Ends the command with a message if there is none.

    Args:
        url: The server's address.
        api_key: The key of the team; else LOSSD_API_KEY.
        timeout: Seconds to wait for the connection, and for the network to move.
        days: How many days, of which today is the last.
    """
    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout, retry=QUICK) as client:
        return without_password(client.base_url), client.usage(days)
