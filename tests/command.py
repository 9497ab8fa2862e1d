"""The whole command, the client's part and the server's."""

from __future__ import annotations

from lossd.cli import add_commands
from lossd_client.cli import create_app

app = create_app(add_commands)
