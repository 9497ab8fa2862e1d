"""``application/x-npy``: .npy files one after the other, in an order that was agreed beforehand.

What ``cat logits.npy targets.npy`` makes. A file says how long it is, so that nothing need stand between two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lossd.error_text import pointer, unknown_tensor
from lossd.types import TENSOR_DTYPES, Body, ErrorCode, RequestError, Tensor
from lossd.wire.npy.npy import NpyParser
from lossd.wire.reader import Piece


class NpyReader:
    """Reads .npy files one after the other."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect the arrays of some tensors.

        Args:
            options: None matter.
            names: Of the tensors, in order.

        Raises:
            RequestError: ``unknown_tensor``, or ``invalid_parameter`` where a name is repeated or there is
            none.
        """
        del options
        _check_names(names)
        self._names = tuple(names)
        self._tensors: dict[str, Tensor] = {}
        self._position = 0
        self._end = 0  # of the last array that is complete
        self._parser = NpyParser(self._names[0], 0)

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """Up to the end of the array that is coming."""
        return self._position + self._parser.wanted

    def feed(self, chunk: Piece) -> Iterable[Piece]:
        """Take the body's next bytes, which are laid down as they are.

        Raises:
            RequestError: As `NpyParser.feed` does, or ``trailing_bytes``.
        """
        rest = memoryview(chunk)
        while rest:
            if len(self._tensors) == len(self._names):
                last = self._names[-1]
                seen = f"bytes follow the last array, {last}, from byte {self._position} on"
                remedy = "name every array in its order with tensors=..., or send none beyond those named"
                raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; {remedy}", [(pointer(last), seen)])
            used = self._parser.feed(rest)
            self._position += used
            rest = rest[used:]
            if self._parser.complete:
                self._next()
        return (chunk,)

    def outline(self, length: int | None) -> Body | None:
        """The tensors, once the last one's header has come."""
        del length
        last = self._parser.tensor
        if last is None or self._parser.name != self._names[-1]:
            return None
        return Body(tensors={**self._tensors, self._names[-1]: last})

    def finish(self, laid: memoryview) -> Body:
        """The tensors that came.

        Raises:
            RequestError: ``truncated_body``.
        """
        del laid
        if len(self._tensors) < len(self._names):
            name = self._parser.name
            if self._position == self._end:
                detail = (
                    f"the body ends before {name}: {len(self._tensors)} of {len(self._names)} arrays came; "
                    f"send {', '.join(self._names)} one after the other"
                )
                raise RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(name), "missing")])
            self._parser.finish()
        return Body(tensors=dict(self._tensors))

    def _next(self) -> None:
        self._tensors[self._parser.name] = self._parser.finish()
        self._end = self._position
        if len(self._tensors) < len(self._names):
            self._parser = NpyParser(self._names[len(self._tensors)], self._position)


def arena_bytes(content_length: int) -> int:
    """The memory that a body needs: the tensors lie in it as they came."""
    return content_length


def _check_names(names: Sequence[str]) -> None:
    if not names:
        detail = "tensors names no array; name them in their order, as in tensors=logits,targets"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer("tensors"), "empty")])
    for name in names:
        if name not in TENSOR_DTYPES:
            raise unknown_tensor(name)
        if names.count(name) > 1:
            detail = f"tensors names {name} twice; name each array once, in their order"
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail, [(pointer("tensors"), f"{name} is given twice")]
            )
