"""A worker's place, and what a place has of the requests that are there."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from lossd.engine.frames import Failed, Ready, Scored, Slice
from lossd.engine.outbox import Outbox

FAILURES: Final = 3
"""So many workers that end one after the other without having answered anything are a crash loop."""
_STEADY_SECONDS: Final = 10.0
"""One that is ready for so long has come out of it."""


class Held(Protocol):
    """A request at a place, or several.

    Attributes:
        seat: Its place; another one, should that worker end while others are ready. Others at which it is
            compute the same bits.
    """

    seat: WorkerSeat

    @property
    def request(self) -> int:
        """Its number."""

    @property
    def team(self) -> str:
        """Whose it is."""

    @property
    def identity(self) -> str:
        """The id that the caller knows it by."""

    @property
    def shared(self) -> bool:
        """Slices of it may be at several places."""

    @property
    def over(self) -> bool:
        """Nobody waits for it any more, or it has come to what it comes to."""

    @property
    def outstanding(self) -> bool:
        """Slices of it have been handed out and not been answered."""

    def next_slice(self) -> Slice | None:
        """The next slice to hand out; None if there is none, or enough of them are out already."""

    def piece(self, slice_id: int) -> Slice:
        """One that is outstanding."""

    def take(self, answer: Scored | Failed, device: str) -> None:
        """Take in the answer to one, from a device."""

    def forget(self, slice_id: int) -> None:
        """Strike one that no worker has any more."""

    def ended_worker(self, slice_id: int) -> None:
        """Take note that a worker ended while it ran one, which is alone from then on.

        The second time it is the slice's fault.
        """


@dataclass(slots=True)
class WorkerSeat:
    """A worker's place: it outlives the processes that take it.

    Attributes:
        index: Its number.
        device: What it computes on.
        pid: The process that has it now, or had it last.
        state: ``starting`` until its known-answer check has passed, ``ready``, then ``lost`` until it is
            reaped and replaced.
        restarts: How many processes had it before.
        failures: How many of these, without a break up to the last, answered nothing.
        ready: What the process said of itself when it became ready.
        ready_since: When that was, by time.monotonic().
        link: The socket to it.
        outbox: What sends over that.
        bundle: The frames that go to it at the end of this turn of the event loop, or before.
        runs: By the id of each outstanding slice.
    """

    index: int
    device: str
    pid: int
    state: Literal["starting", "ready", "lost"] = "starting"
    restarts: int = 0
    failures: int = 0
    ready: Ready | None = None
    ready_since: float = 0.0
    link: socket.socket | None = None
    outbox: Outbox | None = None
    bundle: list[bytes] = field(default_factory=list)
    runs: dict[int, Held] = field(default_factory=dict)

    @property
    def steady(self) -> bool:
        """It is ready, and is not about to end like those before it."""
        if self.state != "ready":
            return False
        return self.failures < FAILURES or time.monotonic() - self.ready_since > _STEADY_SECONDS

    @property
    def kernel(self) -> str:
        """What computes here, as far as that is known."""
        return self.ready.kernel if self.ready else ""

    @property
    def computes_on(self) -> str:
        """What its worker says that it computes on."""
        return self.ready.device if self.ready else ""
