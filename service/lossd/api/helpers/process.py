"""A helper process for work that would block the front end's event loop, and the front end's side of it.

The front end sends requests over the helper's standard input, one at a time and fairly by team, and reads the
answers from its standard output. What a request means is up to the handler. The helper is started by the
first request, and again after it has died or hung. It runs at low priority, and ends with the front end,
however that ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import os
import signal
import struct
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lossd.engine.scheduler import Scheduler

logger = logging.getLogger(__name__)

_LENGTH: Final = struct.Struct("=Q")  # precedes every request and answer
_TRIES: Final = 2
_NICENESS: Final = 10
_END_SECONDS: Final = 5.0  # for an idle process to end
_LOOK_SECONDS: Final = 0.25
_GIVEN_UP_SECONDS: Final = 1.0
"""Processor time for a request for which nobody waits any more, while others wait. To begin a process anew
takes about half of that."""
_PR_SET_PDEATHSIG: Final = 1  # of <sys/prctl.h>


class HelperDiedError(Exception):
    """The helper died at each try of a request, or was killed."""


class HelperSlowError(HelperDiedError):
    """The helper was killed because it computed for too long."""


class HelperHungError(Exception):
    """The helper hung at a try of a request, and hung or died at the other: the request may be right."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call of the helper.

    Attributes:
        request: The request.
        answer: Its answer; cancelled if nobody waits for it any more.
        when_idle: Called once no process works on it any more.
        begun: Whether a process has been asked.
    """

    request: bytes
    answer: asyncio.Future[bytes]
    when_idle: Callable[[], None]
    begun: bool = False


class Helper:
    """The front end's side of a helper process.

    Args:
        module: The module that the process runs with ``python -m``, which calls `serve`.
        argument: The module's argument.
        fds: The descriptors that the process inherits.
        seconds: The processor time that a request may take, after which the process is killed.
        hang_seconds: How long the process may use no processor time at all before it is killed.
        when_hung: Called for each process that was killed for that.
    """

    def __init__(
        self,
        module: str,
        argument: str,
        fds: Sequence[int],
        seconds: float,
        hang_seconds: float,
        when_hung: Callable[[], None] = lambda: None,
    ) -> None:
        self._command: Final = (sys.executable, "-m", module, argument)
        self._fds: Final = tuple(fds)
        self._seconds: Final = seconds
        self._hang_seconds: Final = hang_seconds
        self._when_hung: Final = when_hung
        self._process: Process | None = None
        self._calls: Final[Scheduler[_Call]] = Scheduler()
        self._serving: asyncio.Task[None] | None = None
        self._callers = 0  # that wait for an answer

    @property
    def pid(self) -> int | None:
        """The process id, if there is a process."""
        return None if self._process is None else self._process.pid

    async def call(
        self, request: bytes, when_idle: Callable[[], None], team: str = "default", weight: float = 1.0
    ) -> bytes:
        """Return the answer to a request. Teams share the helper's time by weight.

        Args:
            request: The request for the handler. It is tried once more if the process dies or hangs.
            when_idle: Called once no process works on the request any more. If this call is cancelled, that
                may be later: a request that has begun is interrupted only if others wait, and not at once.
            team: The request's team.
            weight: The team's weight.

        Raises:
            HelperDiedError: The process died twice.
            HelperSlowError: It computed for too long.
            HelperHungError: The process hung.
        """
        call = _Call(request, asyncio.get_running_loop().create_future(), when_idle)
        self._calls.add(team, weight, call, call)
        if self._serving is None:
            no_request = contextvars.Context()  # for its lines of the log
            self._serving = asyncio.create_task(self._serve(), context=no_request)
        self._callers += 1
        try:
            return await call.answer
        finally:
            self._callers -= 1
            if not call.begun:
                when_idle()

    async def close(self) -> None:
        """End the process, and drop its requests."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        while (call := self._calls.next()) is not None:
            call.answer.cancel()
            self._calls.charge(0.0)
        await asyncio.sleep(0)  # for their callers
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

    async def _serve(self) -> None:
        """Answer calls until there are none."""
        try:
            while (call := self._calls.next()) is not None:
                began = time.monotonic()
                try:
                    if not call.answer.done():
                        await self._answer(call)
                finally:
                    self._calls.charge(time.monotonic() - began)
        finally:
            self._serving = None

    async def _answer(self, call: _Call) -> None:
        call.begun = True
        try:
            answer = await self._try(call)
            if not call.answer.done():
                call.answer.set_result(answer)
        except asyncio.CancelledError:
            call.answer.cancel()
            raise
        except Exception as error:
            if not call.answer.done():
                call.answer.set_exception(error)
        finally:
            call.when_idle()

    async def _try(self, call: _Call) -> bytes:
        hung, answer = False, None
        for _ in range(_TRIES):
            process = await self._running()
            try:
                answer = await self._watch(process, call)
                return answer
            except (ConnectionError, EOFError):
                logger.warning("the helper (pid %d) died", process.pid)
            except HelperHungError:
                logger.error("the helper (pid %d) has made no progress; killed", process.pid)
                self._when_hung()
                hung = True
            finally:
                if answer is None:
                    await self._kill(process)
        raise HelperHungError if hung else HelperDiedError

    async def _watch(self, process: Process, call: _Call) -> bytes:
        """Return the answer of a process to a request, as long as it is seen to work.

        It works as long as it uses processor time, however slow the machine. Looks are counted, not seconds:
        if the whole machine stands still for a while, that is one look.

        Raises:
            ConnectionError: The process died.
            EOFError: The process died.
            HelperSlowError: It computes for too long, or nobody waits for it and others do.
            HelperHungError: It does nothing.
        """
        asking = asyncio.ensure_future(_ask(process, call.request))
        try:
            first = last = _processor_seconds(process.pid)
            looks = 0
            while not (await asyncio.wait([asking], timeout=_LOOK_SECONDS))[0]:
                used = _processor_seconds(process.pid)
                looks = looks + 1 if used == last else 0
                last = used
                if looks * _LOOK_SECONDS >= self._hang_seconds:
                    raise HelperHungError
                is_given_up = call.answer.done() and self._callers > 0
                if used - first > (min(self._seconds, _GIVEN_UP_SECONDS) if is_given_up else self._seconds):
                    logger.error("the helper (pid %d) did not finish in time; killed", process.pid)
                    raise HelperSlowError
            return asking.result()
        finally:
            asking.cancel()

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


def _processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used.

    Where that is not known, time itself counts: the process cannot be seen to hang.
    """
    if sys.platform != "linux":
        return time.monotonic()
    with suppress(OSError):  # it has ended
        return time.clock_gettime(~pid << 3 | 2)  # its clock's id, as clock_getcpuclockid(3) makes it
    return 0.0


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
    """Answer requests until standard input ends, in the helper. If ``handler`` raises, the process ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the front end handles them, and needs the helper meanwhile
    os.nice(_NICENESS)
    if sys.platform == "linux":  # elsewhere it ends with its input, after what it computes
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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
