"""Child processes of the supervisor: how they are started, told things, ended and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from lossd.engine.ipc.heartbeats import Pulse
from lossd.engine.ipc.messages import FromSupervisor, encode
from lossd.engine.ipc.options import FrontEndOptions, WorkerOptions

Role: TypeAlias = Literal["front-end", "worker", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
STEADY_SECONDS: Final = 10.0
"""A child that lived this long is restarted at once."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


@dataclass(slots=True, eq=False)
class Child:
    """A front end, the admin listener or a worker.

    Attributes:
        role: What it is.
        index: Its number; the admin listener's follows those of the front ends.
        process: The process.
        control: The supervisor's end of their socket pair.
        started: Time of its start, by time.monotonic().
        restarts: Number of processes before it in its place.
        pulse: Its heartbeat.
        listens: Whether it has said that it accepts requests, if it is a front end.
    """

    role: Role
    index: int
    process: asyncio.subprocess.Process
    control: socket.socket
    started: float
    restarts: int
    pulse: Pulse
    listens: bool = False

    def tell(self, message: FromSupervisor, *fds: int) -> None:
        """Send it a message with descriptors. A child whose socket is full counts as hung, and is killed."""
        try:
            socket.send_fds(self.control, [encode(message)], list(fds), socket.MSG_DONTWAIT)
        except BlockingIOError:
            self.kill()
        except ConnectionError:
            pass  # it has ended; its supervisor notices

    def kill(self) -> None:
        """Kill it."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def end(self, seconds: float) -> bool:
        """Wait for it to end by itself; after some seconds kill it, and return False."""
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
    options: FrontEndOptions | WorkerOptions,
    environment: Mapping[str, str],
) -> asyncio.subprocess.Process:
    """Start a module as a process.

    Args:
        module: The module.
        options: Its argument, passed as JSON; the descriptors in it are inherited.
        environment: Variables added to this process's.
    """
    # In a group of its own: Ctrl-C is for the supervisor, which then stops the others in order. SIGHUP is for
    # the supervisor, too; a process inherits that it is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            msgspec.json.encode(options).decode(),
            pass_fds=options.fds,
            env={**os.environ, **environment},
            process_group=0,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


class Pauses:
    """The pauses before a child is restarted: none, unless it ends again and again.

    A child that was useful, or lived long, is restarted at once.
    """

    def __init__(self) -> None:
        self.failures = 0
        """Number of children in a row that ended soon, without having been useful."""

    def after(self, child: Child, *, useful: bool) -> float:
        """Return the seconds to wait after the end of a child.

        Args:
            child: The child.
            useful: Whether it had done some of its work.
        """
        if useful or time.monotonic() - child.started > STEADY_SECONDS:
            self.failures = 0
            return 0.0
        self.failures += 1
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
