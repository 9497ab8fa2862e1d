"""The teams file while the server runs: read again when it changes, and passed on to the front ends.

The supervisor alone reads it. So all front ends have the same teams, also one that is started while the file
is at fault, and a fault is said once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lossd.engine.ipc.memory import create_memory
from lossd.engine.ipc.messages import Teams, TeamsChanged, encode_teams
from lossd.engine.supervisor.processes import Child
from lossd.teams import MOST_TEAMS, BadTeams, Roster, read_teams

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25


class TeamsWatch:
    """The teams as they are now.

    Args:
        path: The file.

    Raises:
        BadTeams: It cannot be read, or used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots: dict[str, int] = {}  # a team keeps its own, also when it is gone for a while
        self._seen: tuple[int, ...] = ()
        self._fd = -1
        self._nbytes = 0
        roster = self._look()
        assert roster is not None
        self._take(roster)

    def tell(self, front_end: Child) -> None:
        """Tell a front end the teams."""
        front_end.tell(TeamsChanged(self._nbytes), self._fd)

    async def follow(self, changed: Callable[[], None]) -> None:
        """Look at the file again and again, and call ``changed`` when there are other teams."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                roster = await asyncio.to_thread(self._look)  # a network's disk may take its time
                if roster is not None:
                    self._take(roster)
                    changed()
                    logger.info("the teams are those of %s as it is now", self._path)
            except BadTeams as error:
                logger.error("%s cannot be used: %s; the teams stay as they were", self._path, error)

    def close(self) -> None:
        """Let go of the memory."""
        os.close(self._fd)

    def _look(self) -> Roster | None:
        """What the file says, if it is another than at the last look.

        Raises:
            BadTeams: It cannot be read, or used; said once for each state of the file.
        """
        seen = _state(self._path)
        if seen == self._seen:
            return None
        self._seen = seen
        return read_teams(self._path)

    def _take(self, roster: Roster) -> None:
        """Lay the teams down in memory of their own: front ends may be reading those before.

        Raises:
            BadTeams: There are too many.
        """
        new = [name for name in roster.teams if name not in self._slots]
        if len(self._slots) + len(new) > MOST_TEAMS:
            msg = f"there have been more than {MOST_TEAMS} teams; a restart forgets those that are gone"
            raise BadTeams(msg)
        for name in new:
            self._slots[name] = len(self._slots)
        data = encode_teams(Teams(dict(roster.teams), self._slots))
        fd = create_memory(len(data))
        os.pwrite(fd, data, 0)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._nbytes = fd, len(data)


def _state(path: Path) -> tuple[int, ...]:
    """What is different when a file has been written or replaced, or a link to it."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
