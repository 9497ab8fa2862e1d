"""Row numbers that two reports share, so that lists of the greatest losses cannot tell the rows apart."""

from bisect import bisect, insort
from collections.abc import Mapping

from lossd_client.report._json import Json


class RowNumbers:
    """Looks for row numbers that two reports share, and keeps a note of the first it finds.

    Attributes:
        shared: Which two reports share which number; None as long as none is known to.
    """

    def __init__(self) -> None:
        self.shared: str | None = None
        self._known: list[tuple[int, int, str]] = []  # first and past the last number, in order, of whom

    def add(self, document: Mapping[str, Json], name: str) -> None:
        """Look at the rows of one more report, if its lists name rows by number.

        Args:
            document: The document.
            name: What the note calls it.
        """
        if self.shared is not None or document.get("top", {}).get("ids", "none") is not None:
            return
        first, end = _numbers_of(document)
        place = bisect(self._known, first, key=lambda known: known[0])
        for begin, past, other in self._known[max(place - 1, 0) : place + 1]:
            if begin < end and first < past:
                self.shared = (
                    f"{other} and {name} both number their rows from {first}"
                    if begin == first
                    else f"{other} and {name} both have a row of number {max(begin, first)}"
                )
                return
        if first < end:
            insort(self._known, (first, end, name))


def _numbers_of(document: Mapping[str, Json]) -> tuple[int, int]:
    """Return the first number of a report's rows, and the one past the last of those that follow it surely.

    The rows of one request follow each other. Those of a merged report may have gaps.
    """
    run, rows = document.get("run") or {}, document["totals"]["rows"]
    first = run.get("first_row") or 0
    return first, first + (rows if run.get("request_id") else min(rows, 1))
