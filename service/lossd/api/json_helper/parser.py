"""Parsing of long JSON bodies in a helper process, which reads them from the arena and writes arrays to it.

`Parser` is the front end's side; run as a program, this module is the helper. It imports neither torch nor
the HTTP framework.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from lossd import logs
from lossd.api.json_helper.process import Helper, HelperDiedError, HelperHungError, serve
from lossd.engine.admission.arena import Region
from lossd.engine.ipc.memory import Memory
from lossd.types import Body, ErrorCode, RequestError, Tensor
from lossd.wire.json.document import read_in_place

logger = logging.getLogger(__name__)

LARGE_BYTES: Final = 1 << 18
"""A shorter body is parsed in the front end, in a millisecond or two."""


class _Options(msgspec.Struct, frozen=True):
    """Options of the helper process, as its argument.

    Attributes:
        arena_fd: The arena's descriptor.
        arena_bytes: The arena's length.
        number: The front end's number, for logs.
    """

    arena_fd: int
    arena_bytes: int
    number: int


class _Document(msgspec.Struct, array_like=True, frozen=True):
    """A document to parse.

    Attributes:
        offset: The document's offset in the arena.
        length: The document's length.
        region_bytes: The length of the region that holds it.
    """

    offset: int
    length: int
    region_bytes: int


class _Parsed(msgspec.Struct, array_like=True, tag="parsed", frozen=True):
    """The tensors and parameters of a document.

    Attributes:
        tensors: The tensors by name, with offsets counted from the document's first byte.
        params: The parameters as JSON, in which integers may have any length.
    """

    tensors: dict[str, Tensor]
    params: bytes


class _Refused(msgspec.Struct, array_like=True, tag="refused", frozen=True):
    """The error of a document, with the fields of a RequestError."""

    code: ErrorCode
    detail: str
    errors: list[tuple[str, str]]


_Answer: TypeAlias = _Parsed | _Refused

_encoder: Final = msgspec.msgpack.Encoder()
_documents: Final = msgspec.msgpack.Decoder(_Document)
_answers: Final[msgspec.msgpack.Decoder[_Answer]] = msgspec.msgpack.Decoder(_Answer)


class Parser:
    """Parses long documents in a helper process, which the first of them starts.

    Args:
        arena_fd: The arena's descriptor; kept as a duplicate.
        arena_bytes: The arena's length.
        seconds: The processor time of one document, after which the helper is killed.
        hang_seconds: How long the helper may stand still before it is killed.
        number: The front end's number.
        when_hung: Called when the helper was killed because it stood still.
    """

    def __init__(
        self,
        arena_fd: int,
        arena_bytes: int,
        seconds: float,
        hang_seconds: float,
        number: int = 0,
        when_hung: Callable[[], None] = lambda: None,
    ) -> None:
        self._fd: Final = os.dup(arena_fd)
        options = msgspec.json.encode(_Options(self._fd, arena_bytes, number)).decode()
        self._helper: Final = Helper(
            "lossd.api.json_helper.parser", options, (self._fd,), seconds, hang_seconds, when_hung
        )

    @property
    def pid(self) -> int | None:
        """The helper's process id, if there is a process."""
        return self._helper.pid

    async def parse_document(
        self, region: Region, length: int, *, deadline: float, team: str = "default", weight: float = 1.0
    ) -> Body:
        """Parse a document at the beginning of a region, and write its arrays behind it.

        Args:
            region: The memory that holds the document and has room for the arrays. The parser holds it too,
                while the helper may write to it: the caller may release it at any time.
            length: The document's length.
            deadline: The deadline of the answer, by time.monotonic().
            team: The document's team.
            weight: The team's weight.

        Returns:
            The tensors, placed as by `lossd.wire.json.document.read_in_place`, and the parameters.

        Raises:
            RequestError: The document is wrong; ``deadline_exceeded``; ``overloaded``: the helper hung; or
                ``internal_error``: the helper died of it.
        """
        document = _encoder.encode(_Document(region.offset, length, region.nbytes))
        region.share()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                encoded = await self._helper.call(document, region.release, team, weight)
        except TimeoutError:
            detail = "the deadline passed before the document was parsed; allow more time, or send .npy files"
            raise RequestError(ErrorCode.DEADLINE_EXCEEDED, detail) from None
        except HelperHungError:
            logger.error("a document of %d bytes was not parsed: the helper hung", length)
            detail = "the process that parses long documents stood still; try again, or send .npy files"
            raise RequestError(ErrorCode.OVERLOADED, detail) from None
        except HelperDiedError:
            logger.error("a document of %d bytes could not be parsed", length)
            detail = "the server failed to parse the document; send .npy files"
            raise RequestError(ErrorCode.INTERNAL_ERROR, detail) from None
        answer = _answers.decode(encoded)
        if isinstance(answer, _Refused):
            raise RequestError(ErrorCode(answer.code), answer.detail, answer.errors)
        return Body(tensors=answer.tensors, params=msgspec.json.decode(answer.params, type=dict[str, object]))

    async def close(self) -> None:
        """End the helper."""
        await self._helper.close()
        os.close(self._fd)


def _parse(memory: Memory, request: bytes) -> bytes:
    """Return the helper's answer to a request."""
    document = _documents.decode(request)
    region = memory.view[document.offset : document.offset + document.region_bytes]
    answer: _Answer
    try:
        body = read_in_place(region, document.length)
        answer = _Parsed(body.tensors, msgspec.json.encode(body.params))
    except RequestError as error:
        answer = _Refused(error.code, error.detail, list(error.errors))
    return _encoder.encode(answer)


def main(argument: str) -> None:
    """Run the helper, given its options as JSON."""
    options = msgspec.json.decode(argument, type=_Options)
    level, form = os.environ.get("LOSSD_LOG_LEVEL", "info"), os.environ.get("LOSSD_LOG_FORMAT")
    logs.configure("helper", options.number, level, "json" if form == "json" else "console")
    memory = Memory(options.arena_fd, options.arena_bytes)
    serve(lambda request: _parse(memory, request))


if __name__ == "__main__":
    main(sys.argv[1])
