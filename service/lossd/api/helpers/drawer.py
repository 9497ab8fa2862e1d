"""The front end's side of the helper process that draws reports (`lossd.api.helpers.report_drawer`)."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from lossd.api.helpers.arena_helper import ArenaHelper, Failures, Refused
from lossd.engine.admission.arena import Region

_EXPANSION: Final = 4
"""Rows of a table are about that many times as long as in the document."""
_LEAST: Final = 1 << 20
"""Bytes for a view at least: pictures hardly depend on the document's length."""
MEMORY: Final = 8
"""The memory that drawing may take, as a multiple of the longest document. Once parsed, a report takes about
three times its length; `[{},{},...]` takes 25 times, and is refused."""
SECONDS: Final = 5.0
"""The processor time of drawing, for which other teams wait. The longest reports take about 2 s."""


class Drawn(msgspec.Struct, array_like=True, tag="drawn", frozen=True):
    """A view, which lies behind its document.

    Attributes:
        length: Its length.
    """

    length: int


_Answer: TypeAlias = Drawn | Refused

_answers: Final[msgspec.msgpack.Decoder[_Answer]] = msgspec.msgpack.Decoder(_Answer)
FAILURES: Final = Failures(
    late="the deadline passed before the reports were drawn; allow more time, or show smaller ones",
    hung="the process that draws reports stood still; try again",
    died="the server failed to draw the reports; `lossd merge FILE --html PAGE.html` draws a saved one",
    slow=f"drawing it takes over {SECONDS:g} s; show smaller reports, or draw a saved one with "
    "`lossd merge FILE --html PAGE.html`",
)


def view_bytes(nbytes: int) -> int:
    """Return the memory that a document of so many bytes and its view need."""
    return nbytes + max(_EXPANSION * nbytes, _LEAST)


class Drawer(ArenaHelper):
    """Draws reports in a helper process, which the first of them starts."""

    module = "lossd.api.helpers.report_drawer"
    failures = FAILURES

    async def draw(
        self, region: Region, length: int, *, deadline: float, team: str = "default", weight: float = 1.0
    ) -> memoryview:
        """Draw the document at the beginning of a region as HTML, which is written behind it.

        Args:
            region: `view_bytes` of memory. The drawer holds it too, while the helper may write to it: the
                caller may release it at any time.
            length: The document's length.
            deadline: The deadline of the answer, by time.monotonic().
            team: The document's team.
            weight: The team's weight.

        Raises:
            RequestError: The document is wrong or its view too long; ``deadline_exceeded``; ``overloaded``:
                the helper hung; ``body_too_large``: it took too long; or ``internal_error``: drawing failed.
        """
        answer = _answers.decode(await self.ask(region, length, deadline, team, weight))
        if isinstance(answer, Refused):
            raise answer.error()
        return region.view[length : length + answer.length]
