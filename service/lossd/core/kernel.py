"""The interface of the kernels, which score parts of requests. All give the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lossd.core.prepare import Work
from lossd.types import Float64Array


@dataclass(slots=True)
class Sums:
    """The sums of a part, or of a whole request.

    A list of terms holds a sum exactly: the first is the sum, rounded; the second what is left, rounded; and
    so on. An infinite or NaN sum is one term.

    Attributes:
        loss: Terms of the weighted losses' sum.
        weights: Terms of the weights' sum; None if there are none.
        positives: Terms of the targets' sum.
        count: Number of elements that are not dropped.
        planes: Number of planes that a kernel wrote to each memory. A plane is an array with a number for
            each output; an output's sum is the sum of its numbers in all planes.
        report: Bytes of the partial report that were written; 0 without one.
    """

    loss: list[float]
    weights: list[float] | None
    positives: list[float]
    count: int
    planes: list[int] = field(default_factory=list)
    report: int = 0


class Kernel(Protocol):
    """Scores parts of requests."""

    @property
    def name(self) -> str:
        """The kernel's name, ``native`` or ``torch``."""

    @property
    def device(self) -> str:
        """The device, such as ``cpu`` or ``cuda:0``."""

    def score(
        self,
        work: Work,
        memory: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array] = (),
        report: memoryview | None = None,
    ) -> Sums:
        """Score a part.

        Args:
            work: The request.
            memory: The memory that holds its tensors.
            offset: The offset in it that theirs are counted from.
            index: The part of ``work.cut``.
            memories: Arrays for the sums of outputs and of their divisors, as many as ``work.channels``, each
                of at least ``work.cut.most_numbers(index)`` numbers.
            report: If there is ``work.report``, memory for a partial report (`lossd.core.report.partial`): at
                least its ``most_bytes`` of the part's rows and elements.

        Raises:
            RequestError: A value is not allowed; the error names the first in its tensor.
            MemoryError: There is too little memory.
        """


class WrongAnswerError(RuntimeError):
    """A kernel failed a known-answer check: its device or build cannot be trusted."""
