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
from typing import Final, Literal, Protocol, TypeAlias, get_args

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


class Peer(Protocol):
    """A front end, as what informs it sees it: a child, or the process that embeds the engine."""

    @property
    def index(self) -> int:
        """Its number."""

    def tell(self, message: FromSupervisor, *fds: int) -> None:
        """Send it a message with descriptors."""


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
            send(self.control, message, *fds)
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


def send(control: socket.socket, message: FromSupervisor, *fds: int) -> None:
    """Send a message with descriptors over a control socket.

    Raises:
        BlockingIOError: There is no room for it.
        ConnectionError: The other end is closed.
    """
    socket.send_fds(control, [encode(message)], list(fds), socket.MSG_DONTWAIT)


async def start(
    module: str,
    options: FrontEndOptions | WorkerOptions,
    environment: Mapping[str, str],
    *,
    embedded: bool = False,
) -> asyncio.subprocess.Process:
    """Start a module as a process.

    Args:
        module: The module.
        options: Its argument, passed as JSON; the descriptors in it are inherited.
        environment: Variables added to this process's.
        embedded: Whether this process is another program's, which handles its own signals.
    """
    command = sys.executable, "-m", module, msgspec.json.encode(options).decode()
    variables = {**os.environ, **environment}
    if embedded:  # uvloop, on which the program may run, knows sessions only
        return await asyncio.create_subprocess_exec(
            *command, pass_fds=options.fds, env=variables, start_new_session=True
        )
    # In a group of its own: Ctrl-C is for the supervisor, which then stops the others in order. Not in a
    # session of its own: some kernels schedule each session as one (autogroup), and there a worker's lower
    # priority would not count. SIGHUP is for the supervisor, too; a process inherits that it is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        return await asyncio.create_subprocess_exec(
            *command, pass_fds=options.fds, env=variables, process_group=0
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
