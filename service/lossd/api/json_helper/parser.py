"""Large JSON bodies, parsed by a helper: it finds a body in the arena, and lays the arrays behind it.

This is both ends: `Parser` is the front end's, and as a program this module is the helper. It imports neither
torch nor the HTTP framework.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import Final, TypeAlias

import msgspec

from lossd import logs
from lossd.api.json_helper.process import Helper, HelperDiedError, serve
from lossd.engine.admission.arena import Region
from lossd.engine.ipc.memory import Memory
from lossd.types import Body, ErrorCode, RequestError, Tensor
from lossd.wire.json.document import read_in_place

logger = logging.getLogger(__name__)

LARGE_BYTES: Final = 1 << 18
"""A body that is shorter is parsed in less time than it takes others to notice."""


class _Document(msgspec.Struct, array_like=True, frozen=True):
    """A document to parse.

    Attributes:
        offset: Where it begins in the arena.
        length: How long it is.
        room: How long the region is that it lies in.
    """

    offset: int
    length: int
    room: int


class _Parsed(msgspec.Struct, array_like=True, tag="parsed", frozen=True):
    """What it held.

    Attributes:
        tensors: By name, with offsets counted from the first byte of the document.
        params: The parameters as JSON, whose integers may have any length.
    """

    tensors: dict[str, Tensor]
    params: bytes


class _Refused(msgspec.Struct, array_like=True, tag="refused", frozen=True):
    """What is wrong with it; the fields are a RequestError's."""

    code: ErrorCode
    detail: str
    errors: list[tuple[str, str]]


_Answer: TypeAlias = _Parsed | _Refused

_encoder: Final = msgspec.msgpack.Encoder()
_documents: Final = msgspec.msgpack.Decoder(_Document)
_answers: Final[msgspec.msgpack.Decoder[_Answer]] = msgspec.msgpack.Decoder(_Answer)


class Parser:
    """Has large documents parsed by a helper, which is started with the first of them.

    Args:
        arena_fd: The arena's descriptor; kept as a duplicate.
        arena_bytes: The arena's length.
        seconds: How long parsing one may take before the helper is taken to hang.
        number: The front end's.
    """

    def __init__(self, arena_fd: int, arena_bytes: int, seconds: float, number: int = 0) -> None:
        self._fd: Final = os.dup(arena_fd)
        options = json.dumps({"arena_fd": self._fd, "arena_bytes": arena_bytes, "number": number})
        self._helper: Final = Helper("lossd.api.json_helper.parser", options, (self._fd,), seconds)

    @property
    def pid(self) -> int | None:
        """The helper's process, if there is one."""
        return self._helper.pid

    async def parse_document(self, region: Region, length: int, *, deadline: float | None) -> Body:
        """Parse a document that lies at the beginning of a region, and lay its arrays behind it.

        Args:
            region: Holds the document and has room for the arrays. It is held here, too, for as long as the
                helper may write to it: the caller may release it at any time.
            length: Of the document.
            deadline: When the answer is of no use any more, by time.monotonic(); None for never.

        Returns:
            All its tensors, as `lossd.wire.json.document.read_in_place` lays them, and its parameters.

        Raises:
            RequestError: What is wrong with the document; ``deadline_exceeded``; ``internal_error``: the
            helper died
                of it.
        """
        document = _Document(region.offset, length, region.nbytes)
        seconds = None if deadline is None else deadline - time.monotonic()
        region.share()
        try:
            async with asyncio.timeout(seconds):
                encoded = await self._helper.call(_encoder.encode(document), region.release)
        except TimeoutError:
            detail = "the deadline passed before the document was parsed; allow more time, or send .npy files"
            raise RequestError(ErrorCode.DEADLINE_EXCEEDED, detail) from None
        except HelperDiedError:
            logger.error("a document of %d bytes could not be parsed", length)
            detail = "the document could not be parsed, for a fault of the server's; send .npy files"
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
    """The helper's answer to a request."""
    document = _documents.decode(request)
    region = memory.view[document.offset : document.offset + document.room]
    answer: _Answer
    try:
        body = read_in_place(region, document.length)
        answer = _Parsed(body.tensors, msgspec.json.encode(body.params))
    except RequestError as fault:
        answer = _Refused(fault.code, fault.detail, list(fault.errors))
    return _encoder.encode(answer)


def main(argument: str) -> None:
    """Be the helper, given the arena as a JSON object."""
    options = json.loads(argument)
    level, form = os.environ.get("LOSSD_LOG_LEVEL", "info"), os.environ.get("LOSSD_LOG_FORMAT")
    logs.configure("helper", options["number"], level, "json" if form == "json" else "console")
    memory = Memory(options["arena_fd"], options["arena_bytes"])
    serve(lambda request: _parse(memory, request))


if __name__ == "__main__":
    main(sys.argv[1])
