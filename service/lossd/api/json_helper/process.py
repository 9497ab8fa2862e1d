"""A helper process for work that would block the front end's event loop, and the front end's side of it.

The front end sends requests over the helper's standard input, one at a time, and reads the answers from its
standard output. What a request means is up to the handler. The helper is started by the first request, and
again after it has died. It runs at low priority, and ends when its input ends, however the front end ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

logger = logging.getLogger(__name__)

_LENGTH: Final = struct.Struct("=Q")  # precedes every request and answer
_TRIES: Final = 2
_NICENESS: Final = 10
_END_SECONDS: Final = 5.0  # for an idle process to end


class HelperDiedError(Exception):
    """The helper died at each try of a request, or took too long."""


class Helper:
    """The front end's side of a helper process.

    Args:
        module: The module that the process runs with ``python -m``, which calls `serve`.
        argument: The module's argument.
        fds: The descriptors that the process inherits.
        seconds: The time limit of a request, after which the process is killed.
    """

    def __init__(self, module: str, argument: str, fds: Sequence[int], seconds: float) -> None:
        self._command: Final = (sys.executable, "-m", module, argument)
        self._fds: Final = tuple(fds)
        self._seconds: Final = seconds
        self._process: Process | None = None
        self._one_request: Final = asyncio.Lock()
        self._tasks: Final[set[asyncio.Task[bytes]]] = set()

    @property
    def pid(self) -> int | None:
        """The process id, if there is a process."""
        return None if self._process is None else self._process.pid

    async def call(self, request: bytes, when_idle: Callable[[], None]) -> bytes:
        """Return the answer to a request; requests are answered in order.

        Args:
            request: The request for the handler. It is tried once more if the process dies.
            when_idle: Called once no process works on the request any more. If this call is cancelled, that
                may be later: a request that has begun is not interrupted.

        Raises:
            HelperDiedError: The process died twice, or took too long.
        """
        begun = False

        async def work() -> bytes:
            nonlocal begun
            async with self._one_request:
                begun = True
                return await self._answer(request)

        def ended(task: asyncio.Task[bytes]) -> None:
            self._tasks.discard(task)
            when_idle()
            if not task.cancelled():
                task.exception()  # retrieved, even if no caller waits any more

        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun:
                task.cancel()
            raise

    async def close(self) -> None:
        """End the process, and drop its requests."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await process.wait()
            except TimeoutError:
                logger.error("the helper (pid %d) did not end when told to; killed", process.pid)
                await self._kill(process)
            self._process = None

    async def _answer(self, request: bytes) -> bytes:
        for _ in range(_TRIES):
            process = await self._running()
            answer = None
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await _ask(process, request)
                return answer
            except TimeoutError:
                logger.error("the helper (pid %d) did not answer in time; killed", process.pid)
                break
            except (ConnectionError, EOFError):
                logger.warning("the helper (pid %d) died", process.pid)
            finally:
                if answer is None:
                    await self._kill(process)
        raise HelperDiedError

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, pass_fds=self._fds
            )
        return self._process

    async def _kill(self, process: Process) -> None:
        """Kill a process, and wait until it is gone and writes to no memory any more."""
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        self._process = None


async def _ask(process: Process, request: bytes) -> bytes:
    """Send a request to a helper and return the answer.

    Raises:
        ConnectionError: The helper died.
        EOFError: The helper died.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_LENGTH.pack(len(request)) + request)
    await process.stdin.drain()
    (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    return await process.stdout.readexactly(length)


def serve(handler: Callable[[bytes], bytes]) -> None:
    """Answer requests until standard input ends; this runs in the helper.

    Args:
        handler: Returns the answer to a request. If it raises, the process ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the front end handles them, and needs the helper meanwhile
    os.nice(_NICENESS)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # other output goes to the log
    while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        request = requests.read(length)
        if len(request) < length:
            return
        answer = handler(request)
        rest = memoryview(_LENGTH.pack(len(answer)) + answer)
        try:
            while rest:
                rest = rest[os.write(answers, rest) :]
        except BrokenPipeError:
            return
