"""All connections of a front end: how many there may be, and that none waits for its caller for ever."""

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
"""A look that is so late says nothing of callers: it is this process that stood still."""
_OTHER_DESCRIPTORS: Final = 128
"""For all that a front end needs besides connections, and those that are being refused."""


async def watch(connections: Collection[LossdProtocol]) -> None:
    """Have each connection look at its caller, again and again."""
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
    """See to it that there is room for a new connection.

    Where there are too many, one is closed: the one that has been idle, or but lingers, longest.

    Args:
        most: How many there may be.
        connection: The new one.

    Returns:
        False where none is idle.
    """
    connections: Collection[LossdProtocol] = connection.connections  # type: ignore[assignment] # all are of ours
    if len(connections) <= most:
        return True
    # One that is being closed is among them until the end of this turn of the loop.
    staying = [other for other in connections if not other.transport.is_closing()]
    if len(staying) <= most:
        return True
    idle = [other for other in staying if other is not connection and other.dispensable]
    if not idle:
        return False
    min(idle, key=lambda other: other.idle_since).transport.close()
    return True


def allow_descriptors(connections: int) -> int:
    """Have the process be allowed the descriptors that some connections need.

    Returns:
        How many connections it can hold, which is less where it may not have more descriptors.
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
