"""A worker's place, as a front end sees it."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from lossd.engine.ipc.messages import Ready
from lossd.engine.ipc.outbox import Outbox

if TYPE_CHECKING:
    from lossd.engine.dispatch.job import Job

FAILURES: Final = 3
"""So many workers that end one after the other without having answered anything are a crash loop."""
_STEADY_SECONDS: Final = 10.0
"""One that is ready for so long has come out of it."""


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
        jobs: By the id of each slice that it has.
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
    jobs: dict[int, Job] = field(default_factory=dict)

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
