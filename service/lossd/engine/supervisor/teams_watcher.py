"""The teams file while the server runs: read again when it changes, and sent to the front ends.

Only the supervisor reads it. So all front ends have the same teams, even one that starts while the file is
invalid, and an error in it is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lossd.engine.ipc.memory import create_memory
from lossd.engine.ipc.messages import Teams, TeamsChanged, encode
from lossd.engine.supervisor.processes import Peer
from lossd.teams import MOST_TEAMS, BadTeams, Roster, read_teams
from lossd.watched_files import WatchedFiles

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25


class TeamsWatcher:
    """The current teams.

    Attributes:
        teams: They, and their rows.

    Raises:
        BadTeams: It cannot be read, or is invalid.
    """

    teams: Teams

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = WatchedFiles(path, seconds=_LOOK_SECONDS)
        self._rows: dict[str, int] = {}  # a team keeps its row, even while it is not in the file
        self._reading = asyncio.Lock()
        self._fd = -1
        self._nbytes = 0
        self._take(read_teams(path))

    def tell(self, front_end: Peer) -> None:
        """Send a front end the teams."""
        front_end.tell(TeamsChanged(self._nbytes), self._fd)

    async def follow(self, changed: Callable[[], None]) -> None:
        """Read the file again whenever it changes, and call ``changed`` when there are new teams."""
        async for _ in self._files.changes():
            await self.read(changed)

    async def read(self, changed: Callable[[], None]) -> None:
        """Read the file again, and call ``changed`` if it can be used."""
        async with self._reading:
            try:
                self._take(await asyncio.to_thread(read_teams, self._path))
            except BadTeams as error:
                logger.error("%s cannot be used: %s; the teams stay as they were", self._path, error)
            else:
                changed()
                logger.info("reloaded the teams from %s", self._path)

    def close(self) -> None:
        """Close the memory."""
        os.close(self._fd)

    def _take(self, roster: Roster) -> None:
        """Write the teams to new memory: front ends may still be reading the last.

        Raises:
            BadTeams: There are too many.
        """
        new = [name for name in roster.teams if name not in self._rows]
        if len(self._rows) + len(new) > MOST_TEAMS:
            msg = f"there have been more than {MOST_TEAMS} teams; a restart forgets those that are gone"
            raise BadTeams(msg)
        for name in new:
            self._rows[name] = len(self._rows)
        self.teams = Teams(dict(roster.teams), dict(self._rows))
        data = encode(self.teams)
        fd = create_memory(len(data))
        os.pwrite(fd, data, 0)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._nbytes = fd, len(data)
