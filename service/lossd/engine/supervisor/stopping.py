"""How the server stops: what begins it, for how long new requests are still served, and who listens then."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from lossd.engine.ipc.messages import Leaving
from lossd.engine.supervisor.systemd import notify

logger = logging.getLogger(__name__)


class Stop:
    """The end of the server, in three steps, each an event.

    Args:
        seconds: How long new requests are served after the beginning.
        tell: Tells all front ends something.
        stays: Whether somebody else keeps the listening socket open when this server ends.

    Attributes:
        begun: It is not ready any more.
        draining: New requests are refused.
        drained: All front ends have ended.
        handed_over: Another server accepts from the listening socket, now or later.
    """

    def __init__(self, seconds: float, tell: Callable[[Leaving], None], *, stays: bool) -> None:
        self.begun: Final = asyncio.Event()
        self.draining: Final = asyncio.Event()
        self.drained: Final = asyncio.Event()
        self.handed_over = self._replaced = False
        self._at_once = asyncio.Event()
        self._seconds = seconds
        self._tell = tell
        self._stays = stays

    def handle_signals(self, read_again: Callable[[], None]) -> None:
        """Begin on SIGTERM and SIGINT. On SIGHUP, read files again."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.begin)
        loop.add_signal_handler(signal.SIGINT, partial(self.begin, at_once=True))
        has_terminal = os.isatty(2)

        def hang_up() -> None:
            if has_terminal and not os.isatty(2):  # it is closed: nobody could press Ctrl-C any more
                self.begin(at_once=True)
            else:
                read_again()

        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(signal.SIGHUP, hang_up)

    def ignore_signals(self) -> None:
        """Let no late signal change the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def begin(self, *, at_once: bool = False) -> None:
        """Begin, or if it has begun, go on to the next step; ``at_once``: serve no new requests."""
        if at_once or self.begun.is_set():
            self._at_once.set()
        self.begun.set()

    def hand_over(self) -> None:
        """Begin: another server accepts from the listening socket now."""
        self.handed_over = self._replaced = True
        self.begun.set()
        self._tell(Leaving(handed_over=True))

    @property
    def seems_ready(self) -> bool:
        """Whether the admin listener may say that the server is ready: this one, or one that replaced it."""
        return self._replaced or not self.begun.is_set()

    async def serve_a_while(self) -> None:
        """Serve new requests for a while, so that callers and load balancers notice the stop; then drain."""
        notify("STOPPING=1")
        self._tell(Leaving(self.handed_over))
        if self._seconds and not self._at_once.is_set():
            logger.info("not ready any more; requests are served for %g s more", self._seconds)
        await pause(self._seconds, self._at_once)
        if self._stays:  # new connections wait for the next server
            self.handed_over = True
            self._tell(Leaving(handed_over=True))
        self.draining.set()


async def pause(seconds: float, event: asyncio.Event) -> None:
    """Wait until an event is set, but no longer than some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
