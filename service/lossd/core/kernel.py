"""What a kernel is: something that scores parts of requests. All kernels give the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lossd.core.prepare import Work
from lossd.types import Float64Array


@dataclass(slots=True)
class Sums:
    """What a part comes to.

    A list of terms holds a sum exactly: the first is the sum, rounded; the second what is left, rounded; and
    so on. A sum that is infinite or NaN is that alone.

    Attributes:
        loss: Terms of the weighted losses' sum.
        weights: Terms of the weights' sum; None if there are none.
        positives: Terms of the targets' sum.
        count: The elements that are not dropped.
        planes: How many planes of numbers, one for each output, were written to each memory: the sum of an
            output is what stands in its place in all of them.
    """

    loss: list[float]
    weights: list[float] | None
    positives: list[float]
    count: int
    planes: list[int]


class Kernel(Protocol):
    """Scores parts of requests."""

    @property
    def name(self) -> str:
        """Which kernel it is, such as ``native``."""

    @property
    def device(self) -> str:
        """What it computes on, such as ``cpu`` or ``cuda:0``."""

    def score(
        self,
        work: Work,
        memory: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array] = (),
    ) -> Sums:
        """Score a part.

        Args:
            work: The request.
            memory: The memory that its tensors lie in.
            offset: Where in it their offsets are counted from.
            index: Which part of ``work.cut``.
            memories: Where the sums of outputs go, and those of their divisors, as many as ``work.channels``,
                each of at least ``work.cut.room(index)`` numbers.

        Raises:
            RequestError: A value that is not allowed; the first one of its tensor in the part is named.
            MemoryError: There is too little memory.
        """


class WrongAnswerError(RuntimeError):
    """A kernel computed something else than a known answer: its device or build is not to be trusted."""
