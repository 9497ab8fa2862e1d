"""Parsing of long JSON bodies in a helper process, which reads them from the arena and writes arrays to it.

`Parser` is the front end's side; run as a program, this module is the helper. It imports neither torch nor
the HTTP framework.
"""

from __future__ import annotations

import sys
from typing import Final, TypeAlias

import msgspec

from lossd.api.helpers.arena_helper import ArenaHelper, Failures, Refused, work_in_arena
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


class Parser(ArenaHelper):
    """Parses long documents in a helper process, which the first of them starts."""

    module = "lossd.api.helpers.json_parser"
    failures = _FAILURES

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
            RequestError: The document is wrong; ``deadline_exceeded``; ``overloaded``: the helper hung;
                ``body_too_large``: it took too long; or ``internal_error``: it died of the document.
        """
        answer = _answers.decode(await self.ask(region, length, deadline, team, weight))
        if isinstance(answer, Refused):
            raise answer.error()
        return Body(tensors=answer.tensors, params=msgspec.json.decode(answer.params, type=dict[str, object]))


def _parse(region: memoryview, length: int) -> _Parsed:
    """Return the tensors and parameters of a document, in the helper."""
    body = read_in_place(region, length)
    return _Parsed(body.tensors, msgspec.json.encode(body.params))


if __name__ == "__main__":
    work_in_arena(sys.argv[1], "helper", _parse, _FAILURES)
