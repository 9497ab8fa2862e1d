"""Parsing of long JSON bodies in a helper process, which reads them from the arena and writes arrays to it.

`Parser` is the front end's side; run as a program, this module is the helper. It imports neither torch nor
the HTTP framework.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from lossd.api.helpers.arena_helper import ArenaHelper, Failures, HelperOptions, Refused, work_in_arena
from lossd.engine.admission.arena import Region
from lossd.types import Body, Tensor
from lossd.wire.json.document import read_in_place

LARGE_BYTES: Final = 1 << 18
"""A shorter body is parsed in the front end, in a millisecond or two."""


class _Parsed(msgspec.Struct, array_like=True, tag="parsed", frozen=True):
    """The tensors and parameters of a document.

    Attributes:
        tensors: The tensors by name, with offsets counted from the document's first byte.
        params: The parameters as JSON, in which integers may have any length.
    """

    tensors: dict[str, Tensor]
    params: bytes


_Answer: TypeAlias = _Parsed | Refused

_answers: Final[msgspec.msgpack.Decoder[_Answer]] = msgspec.msgpack.Decoder(_Answer)
_FAILURES: Final = Failures(
    late="the deadline passed before the document was parsed; allow more time, or send .npy files",
    hung="the process that parses long documents stood still; try again, or send .npy files",
    died="the server failed to parse the document; send .npy files",
    slow="the document takes too long to parse; send .npy files",
)


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
        options = HelperOptions(arena_fd, arena_bytes, number)
        self._helper: Final = ArenaHelper(
            "lossd.api.helpers.json_parser", options, seconds, hang_seconds, _FAILURES, when_hung
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
        answer = _answers.decode(await self._helper.ask(region, length, deadline, team, weight))
        if isinstance(answer, Refused):
            raise answer.error()
        return Body(tensors=answer.tensors, params=msgspec.json.decode(answer.params, type=dict[str, object]))

    async def close(self) -> None:
        """End the helper."""
        await self._helper.close()


def _parse(region: memoryview, length: int) -> _Parsed:
    """Return the tensors and parameters of a document, in the helper."""
    body = read_in_place(region, length)
    return _Parsed(body.tensors, msgspec.json.encode(body.params))


if __name__ == "__main__":
    work_in_arena(sys.argv[1], "helper", _parse, _FAILURES)
