"""The event loop of a front end."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

_SHUTDOWN_SECONDS = 2.0


class FrontEndLoop(uvloop.Loop):
    """uvloop's loop, with limits on how long a caller may take to begin and to end TLS.

    Args:
        handshake_seconds: The limit for the handshake.
    """

    def __init__(self, handshake_seconds: float) -> None:
        super().__init__()
        self._handshake_seconds = handshake_seconds

    async def create_server(  # type: ignore[override] # passed on
        self,
        *args: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> asyncio.AbstractServer:
        """Listen, with these limits if it is for TLS."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self._handshake_seconds
            options["ssl_shutdown_timeout"] = _SHUTDOWN_SECONDS
        return await super().create_server(*args, **options)
