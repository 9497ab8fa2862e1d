"""A helper process that reads documents from the arena, and writes what it makes of them behind them.

`ArenaHelper` is the front end's side, `work_in_arena` the process's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import msgspec

from lossd import logs
from lossd.api.helpers.process import Helper, HelperDiedError, HelperHungError, HelperSlowError, serve
from lossd.engine.admission.arena import Region
from lossd.engine.ipc.memory import Memory
from lossd.types import ErrorCode, RequestError

logger = logging.getLogger(__name__)

_MOST_DETAIL: Final = 1000
_MOST_POINTER: Final = 300
_MOST_ERRORS: Final = 100


class _HelperOptions(msgspec.Struct, frozen=True):
    """Options of a helper process, as its argument.

    Attributes:
        arena_fd: The arena's descriptor.
        arena_bytes: The arena's length.
        number: The front end's number, for logs.
        most_bytes: The memory that a document may take besides; 0 for no limit.
    """

    arena_fd: int
    arena_bytes: int
    number: int
    most_bytes: int


class Refused(msgspec.Struct, array_like=True, tag="refused", frozen=True):
    """The error of a document, with the fields of a RequestError."""

    code: ErrorCode
    detail: str
    errors: list[tuple[str, str]]

    @classmethod
    def of(cls, error: RequestError) -> Refused:
        """Return an error to be sent, of bounded length and without what is no text, whatever it quotes."""
        errors = error.errors[:_MOST_ERRORS]
        pointers = [(_text(pointer, _MOST_POINTER), _text(what, _MOST_DETAIL)) for pointer, what in errors]
        return cls(error.code, _text(error.detail, _MOST_DETAIL), pointers)

    def error(self) -> RequestError:
        """Return the error that was sent."""
        return RequestError(ErrorCode(self.code), self.detail, self.errors)


def _text(quoting: str, most: int) -> str:
    cut = quoting if len(quoting) <= most else quoting[: most - 1] + "…"
    return cut.encode(errors="backslashreplace").decode()  # JSON may hold halves of surrogate pairs


class Failures(NamedTuple):
    """The details of errors for a document that has no answer.

    Attributes:
        late: Its deadline passed.
        hung: The process stood still.
        died: The process died of it.
        slow: It took too much of the processor's time.
    """

    late: str
    hung: str
    died: str
    slow: str


class _Document(msgspec.Struct, array_like=True, frozen=True):
    """A document in the arena.

    Attributes:
        offset: The document's offset in the arena.
        length: The document's length.
        region_bytes: The length of the region that holds it.
    """

    offset: int
    length: int
    region_bytes: int


_documents: Final = msgspec.msgpack.Decoder(_Document)
_encode: Final = msgspec.msgpack.Encoder().encode


class ArenaHelper:
    """A helper process, which the first document starts.

    Attributes:
        module: The module that the process runs, which calls `work_in_arena`.
        failures: The details of errors for a document that has no answer.

    Args:
        arena_fd: The arena's descriptor; kept as a duplicate.
        arena_bytes: The arena's length.
        seconds: The processor time of one document, after which the process is killed.
        hang_seconds: How long the process may stand still before it is killed.
        number: The front end's number, for logs.
        when_hung: Called when the process was killed because it stood still.
        most_bytes: The memory that a document may take besides; 0 for no limit.
    """

    module: ClassVar[str]
    failures: ClassVar[Failures]

    def __init__(
        self,
        arena_fd: int,
        arena_bytes: int,
        seconds: float,
        hang_seconds: float,
        number: int = 0,
        when_hung: Callable[[], None] = lambda: None,
        *,
        most_bytes: int = 0,
    ) -> None:
        self._fd: Final = os.dup(arena_fd)
        options = _HelperOptions(self._fd, arena_bytes, number, most_bytes)
        argument = msgspec.json.encode(options).decode()
        self._helper: Final = Helper(self.module, argument, (self._fd,), seconds, hang_seconds, when_hung)

    @property
    def pid(self) -> int | None:
        """The helper's process id, if there is a process."""
        return self._helper.pid

    async def ask(self, region: Region, length: int, deadline: float, team: str, weight: float) -> bytes:
        """Return the process's answer to a document at the beginning of a region.

        Args:
            region: The memory that holds the document, and has room behind it. The helper holds it too, while
                the process may write to it: the caller may release it at any time.
            length: The document's length.
            deadline: The deadline of the answer, by time.monotonic().
            team: The document's team.
            weight: The team's weight.

        Raises:
            RequestError: ``deadline_exceeded``; ``overloaded``: the process hung; ``body_too_large``: it
                computed for too long; or ``internal_error``: it died of the document.
        """
        document = _encode(_Document(region.offset, length, region.nbytes))
        region.share()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._helper.call(document, region.release, team, weight)
        except TimeoutError:
            raise RequestError(ErrorCode.DEADLINE_EXCEEDED, self.failures.late) from None
        except HelperHungError:
            logger.error("a document of %d bytes has no answer: the helper hung", length)
            raise RequestError(ErrorCode.OVERLOADED, self.failures.hung) from None
        except HelperSlowError:
            raise RequestError(ErrorCode.BODY_TOO_LARGE, self.failures.slow) from None
        except HelperDiedError:
            logger.error("a document of %d bytes has no answer: the helper failed", length)
            raise RequestError(ErrorCode.INTERNAL_ERROR, self.failures.died) from None

    async def close(self) -> None:
        """End the process."""
        await self._helper.close()
        os.close(self._fd)


def work_in_arena(
    argument: str, kind: str, work: Callable[[memoryview, int], object], failures: Failures
) -> None:
    """Run the helper process.

    Args:
        argument: Its options as JSON.
        kind: Its kind, for the log.
        work: Returns the answer to a document, given its region and its length. A RequestError is one, too.
        failures: The details of errors for a document that has no answer.
    """
    options = msgspec.json.decode(argument, type=_HelperOptions)
    level, form = os.environ.get("LOSSD_LOG_LEVEL", "info"), os.environ.get("LOSSD_LOG_FORMAT")
    logs.configure(kind, options.number, level, "json" if form == "json" else "console")
    memory = Memory(options.arena_fd, options.arena_bytes)
    if options.most_bytes:
        _limit_memory(options.most_bytes)

    def handle(request: bytes) -> bytes:
        document = _documents.decode(request)
        region = memory.view[document.offset : document.offset + document.region_bytes]
        try:
            return _encode(work(region, document.length))
        except RequestError as error:
            return _encode(Refused.of(error))
        except Exception:
            logger.exception("a document of %d bytes has no answer", document.length)
            return _encode(Refused(ErrorCode.INTERNAL_ERROR, failures.died, []))

    serve(handle)


def _limit_memory(nbytes: int) -> None:
    """Let the process take so many bytes of memory of its own besides: it raises MemoryError for more.

    The arena does not count, since it is shared. Where the kernel cannot limit this there is no limit.
    """
    if sys.platform == "linux":
        used = re.search(rb"VmData:\s+(\d+) kB", Path("/proc/self/status").read_bytes())
        most = nbytes + (int(used[1]) << 10 if used else 0)
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
