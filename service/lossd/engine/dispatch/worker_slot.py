"""A worker's slot in a front end: the process that fills it, and the slices assigned to it."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import Final, Literal

from lossd.engine.ipc.channel import Sender
from lossd.engine.ipc.messages import Ready, Slice

CRASH_LOOP: Final = 3
"""So many workers in a row that end without answering anything are a crash loop."""
_STEADY_SECONDS: Final = 10.0
"""A worker that has been ready this long has ended the crash loop."""
UNKNOWN: Final = Ready("", "", "", "")
"""What is known of a worker before the first one is ready."""


@dataclass(slots=True)
class WorkerSlot:
    """A slot, which outlives the processes that fill it one after the other.

    Attributes:
        index: The worker's number.
        device: Its device.
        pid: The process in it, or the last one.
        state: ``starting`` until the known-answer check has passed, then ``ready``; ``lost`` until a process
            that has ended is reaped and replaced.
        restarts: Number of processes before this one.
        failures: How many of these in a row, up to the last, answered nothing.
        ready: The message by which the latest process became ready.
        ready_since: Time of that, by time.monotonic().
        link: The socket to the process.
        sender: Sends over it.
        slices: The slices assigned to it and not answered, by id.
    """

    index: int
    device: str
    pid: int
    state: Literal["starting", "ready", "lost"] = "starting"
    restarts: int = 0
    failures: int = 0
    ready: Ready = UNKNOWN
    ready_since: float = 0.0
    link: socket.socket | None = None
    sender: Sender | None = None
    slices: dict[int, Slice] = field(default_factory=dict)

    @property
    def steady(self) -> bool:
        """Whether it is ready, and not in a crash loop."""
        if self.state != "ready":
            return False
        return self.failures < CRASH_LOOP or time.monotonic() - self.ready_since > _STEADY_SECONDS
