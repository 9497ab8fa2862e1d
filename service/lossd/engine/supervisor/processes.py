"""The supervisor's children: how they are started, ended, and started again."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lossd.engine.ipc.messages import FromSupervisor, encode

STEADY_SECONDS: Final = 10.0
"""A child that lived so long did not end for what it is."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


@dataclass(slots=True, eq=False)
class Child:
    """A process, and the socket over which it is told things.

    Attributes:
        index: Its number among its kind.
        process: The process.
        control: Our end of the socket.
        started: When it was started, by time.monotonic().
        restarts: How many had its place before.
    """

    index: int
    process: asyncio.subprocess.Process
    control: socket.socket
    started: float
    restarts: int

    def tell(self, frame: FromSupervisor, *fds: int) -> None:
        """Tell it something. One that does not listen is as good as hung, and killed."""
        try:
            socket.send_fds(self.control, [encode(frame)], list(fds), socket.MSG_DONTWAIT)
        except BlockingIOError:
            self.kill()
        except ConnectionError:
            pass  # it has ended, which is about to be noticed

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def end(self, seconds: float) -> bool:
        """Wait for its end, which is to come by itself; whether it did within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
            return False
        return True


async def start(
    module: str,
    options: Mapping[str, object],
    fds: tuple[int, ...],
    environment: Mapping[str, str],
) -> asyncio.subprocess.Process:
    """Start a module as a process.

    Args:
        module: What it runs.
        options: Its argument, passed on as JSON.
        fds: Descriptors that it inherits.
        environment: What is added to ours.
    """
    # A group of its own: Ctrl-C is for the supervisor, which then stops the others in order.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        json.dumps(options),
        pass_fds=fds,
        env={**os.environ, **environment},
        process_group=0,
    )


class Pauses:
    """How long to wait before a child is started again: not at all, unless it ends again and again.

    One that has done its work, or lived for long, is started again at once.
    """

    def __init__(self) -> None:
        self.failures = 0
        """How many have ended one after the other without having been of use."""

    def after(self, child: Child, *, useful: bool) -> float:
        """Seconds to wait after the end of a child.

        Args:
            child: What has ended.
            useful: It had done some of its work.
        """
        if useful or time.monotonic() - child.started > STEADY_SECONDS:
            self.failures = 0
            return 0.0
        self.failures += 1
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
