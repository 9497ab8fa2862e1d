"""What every reader of a request body is: a sans-IO state machine, fed the body's bytes as they come.

A reader learns where each tensor's bytes lie; it never copies or keeps them. The caller lays the same bytes
down one after the other in memory of its own, and hands that memory to `finish`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lossd.request import Body


class Reader(Protocol):
    """Reads one request body."""

    def feed(self, chunk: bytes) -> None:
        """Take the body's next bytes, of any length.

        Raises:
            Fault: These bytes cannot be part of a valid body, whatever follows.
        """

    def finish(self, body: memoryview) -> Body:
        """Say what the body held. Called once, when all of it has been fed.

        Args:
            body: All the bytes that were fed, contiguous.

        Raises:
            Fault: The body is incomplete or wrong.
        """


class ReaderFactory(Protocol):
    """Makes a reader for one body."""

    def __call__(self, *, options: Mapping[str, str], names: Sequence[str]) -> Reader:
        """Make one.

        Args:
            options: The media type's own parameters, such as ``{"boundary": "..."}``; keys in lower case.
            names: The names of the tensors to come, in order, for a format that does not name them itself.

        Raises:
            Fault: The options do not make sense for this format.
        """
