"""All connections of a front end: their number is bounded, and slow callers' connections are ended."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Collection
from typing import Final

from lossd.api.http.protocol import LossdProtocol

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25
_STILL_SECONDS: Final = 2.0
"""If a check is later than this, the process was paused, and no caller is charged."""
_OTHER_DESCRIPTORS: Final = 128
"""Descriptors for everything but connections, and for connections that are being refused."""


async def watch(connections: Collection[LossdProtocol]) -> None:
    """Let each connection check its caller, again and again."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = loop.time()
        if now - last < _STILL_SECONDS:
            for connection in tuple(connections):
                connection.look(now, now - last)
        last = now


def make_room(most: int, connection: LossdProtocol) -> bool:
    """Make room for a new connection.

    If there are too many, close the one that has been idle, or lingering, for the longest time.

    Args:
        most: The most connections there may be.
        connection: The new connection.

    Returns:
        False if none can be closed.
    """
    connections: Collection[LossdProtocol] = connection.connections  # type: ignore[assignment] # all are of ours
    if len(connections) <= most:
        return True
    # A connection that is being closed counts until the end of this turn of the loop.
    staying = [other for other in connections if not other.transport.is_closing()]
    if len(staying) <= most:
        return True
    idle = [other for other in staying if other is not connection and other.dispensable]
    if not idle:
        return False
    min(idle, key=lambda other: other.idle_since).transport.close()
    return True


def allow_descriptors(connections: int) -> int:
    """Raise the process's limit of descriptors for a number of connections.

    Returns:
        The number of connections that the process can hold, fewer if the limit cannot be raised enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            fit = max(1, soft - _OTHER_DESCRIPTORS)
            logger.warning(
                "a process may have %d descriptors here, so a front end holds %d connections, not %d; "
                "raise the limit (ulimit -n), or lower LOSSD_MAX_CONNECTIONS",
                soft,
                fit,
                connections,
            )
            return fit
    return connections
