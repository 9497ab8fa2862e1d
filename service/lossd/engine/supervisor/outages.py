"""Failures of background work, usage and the quota store: logged once, and shown by /readyz."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

_LOOK_SECONDS: Final = 0.25


class Outage(ABC):
    """Something that a thread of the supervisor does, and may fail to do.

    Attributes:
        what: What does not work while there is a failure.
    """

    what: str

    def __init__(self) -> None:
        self._told: str | None = None

    @property
    @abstractmethod
    def failure(self) -> str | None:
        """The reason why it does not work now, if it does not."""

    @abstractmethod
    def say(self, failure: str | None) -> None:
        """Log that it fails, or that it works again."""

    @property
    def reasons(self) -> list[str]:
        """What /readyz says of it."""
        return [] if self._told is None else [f"{self.what}: {self._told}"]

    async def follow(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever it begins to fail, or works again."""
        while True:
            failure = self.failure
            if failure != self._told:
                if self._told is None or failure is None:
                    self.say(failure)
                self._told = failure
                changed()
            await asyncio.sleep(_LOOK_SECONDS)
