"""A process beside the front end, for work that would keep the interpreter, and so everyone else, waiting.

It is asked over its standard input and answers over its standard output, one request after the other; what a
request says, and where in shared memory its work lies, is between the caller and the handler. It is started
when it is first needed and again when it has died, stands back where others want the processor, and ends when
its input does, in whatever way the front end came to its end.
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

_LENGTH: Final = struct.Struct("=Q")  # goes before every request and every answer
_TRIES: Final = 2
_NICENESS: Final = 10
_END_SECONDS: Final = 5.0  # for a process that has nothing left to do


class HelperDiedError(Exception):
    """A request was not answered: it ended the helper at each try, or took too long."""


class Helper:
    """A helper, as the front end sees it.

    Args:
        module: What it runs, as ``python -m`` does; that is to call `serve`.
        argument: The module's argument.
        fds: Descriptors that it inherits.
        seconds: After how long without an answer it is taken to hang, and killed.
    """

    def __init__(self, module: str, argument: str, fds: Sequence[int], seconds: float) -> None:
        self._command: Final = (sys.executable, "-m", module, argument)
        self._fds: Final = tuple(fds)
        self._seconds: Final = seconds
        self._process: Process | None = None
        self._turn: Final = asyncio.Lock()
        self._tasks: Final[set[asyncio.Task[bytes]]] = set()

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._process is None else self._process.pid

    async def call(self, request: bytes, when_idle: Callable[[], None]) -> bytes:
        """Have a request answered; first come, first served.

        Args:
            request: For the handler, which is given it once more if the process dies.
            when_idle: Called as soon as no process is at work on it, come what may. Where this is cancelled,
                that may be later: what has begun is not interrupted.

        Raises:
            HelperDiedError: The process died twice, or hung.
        """
        begun = False

        async def work() -> bytes:
            nonlocal begun
            async with self._turn:
                begun = True
                return await self._answer(request)

        def ended(task: asyncio.Task[bytes]) -> None:
            self._tasks.discard(task)
            when_idle()
            if not task.cancelled():
                task.exception()  # now it has been seen, even if nobody waits for it any more

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
        """End the process, and give up what it has been asked for."""
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
                logger.error("the helper (pid %d) did not end by itself; killed", process.pid)
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
                logger.error("the helper (pid %d) gave no answer; killed", process.pid)
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
        """See to it that a process is gone and writes to no memory any more."""
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        self._process = None


async def _ask(process: Process, request: bytes) -> bytes:
    """Send a request to a helper and wait for the answer.

    Raises:
        ConnectionError: It died.
        EOFError: It died.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_LENGTH.pack(len(request)) + request)
    await process.stdin.drain()
    (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    return await process.stdout.readexactly(length)


def serve(handler: Callable[[bytes], bytes]) -> None:
    """Be a helper: answer requests until the front end has no more.

    Args:
        handler: Gives the answer to a request. If it raises, the process ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the front end's to handle, which needs this one meanwhile
    os.nice(_NICENESS)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # what else is printed belongs in the log
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
