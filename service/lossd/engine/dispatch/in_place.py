"""Small requests, scored by the front end itself.

A request that takes one core a fraction of a millisecond is scored in the event loop, where its bytes lie:
asking a worker would take longer. Few requests begin in one turn of the loop, so few are scored in one
(`lossd.engine.scheduler.LoopTurns`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.kernel import Kernel, WrongAnswerError
from lossd.core.prepare import Work, prepare
from lossd.core.self_test import check_known_answers
from lossd.engine.dispatch.result import Planes, planes_of, result_of
from lossd.engine.ipc.messages import WRONG
from lossd.types import LossRequest, LossResult

logger = logging.getLogger(__name__)

MOST_OUTPUTS: Final = 1 << 13
"""The most numbers of an array answer: those that are written in one piece."""
_MOST_MERGED: Final = 1 << 9
"""Limit when sums must be merged."""
_SIMPLE_GAMMAS: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
_COSTLY: Final = 4.0
"""Cost factor for a gamma outside `_SIMPLE_GAMMAS`, or for merged sums."""


class Prepared(NamedTuple):
    """A request of one part, ready to score."""

    request: LossRequest
    cut: Cut
    work: Work


class InPlace:
    """Scores small requests in this process.

    Args:
        kernel: A kernel for one core.
        milliseconds: The most time that a request may take, as estimated.
    """

    def __init__(self, kernel: Kernel, milliseconds: float) -> None:
        self._kernel: Final = kernel
        self._most: Final = 1e6 * milliseconds

    def check(self) -> None:
        """Score requests whose answers are known.

        Raises:
            WrongAnswerError: An answer is wrong.
        """
        check_known_answers(self._kernel)

    async def keep_checking(self, seconds: float) -> None:
        """Check the kernel again each time after some seconds, and end the process if it fails."""
        while True:
            await asyncio.sleep(seconds)
            try:
                self.check()
            except WrongAnswerError as error:
                logger.critical("known-answer check failed; exiting: %s", error)
                logging.shutdown()
                os._exit(WRONG)  # without another answer

    def takes(self, request: LossRequest, cut: Cut) -> bool:
        """Return whether a request is small enough."""
        loss = LOSSES[request.loss]
        if not loss.is_native or cut.parts != 1 or cut.whole_rows:  # rows are whole for a report
            return False
        merged = bool(cut.output_shape) and not cut.complete
        if cut.output_shape and cut.outputs > (_MOST_MERGED if merged else MOST_OUTPUTS):
            return False
        gammas = [value for name, value in request.own.items() if name.startswith("gamma")]
        costly = merged or any(gamma not in _SIMPLE_GAMMAS for gamma in gammas)
        numbers = cut.size * request.row_size
        return numbers * loss.nanoseconds * (_COSTLY if costly else 1.0) <= self._most

    def compute(self, ready: Prepared, memory: bytes | memoryview, offset: int) -> LossResult:
        """Score a request at once.

        Args:
            ready: The request.
            memory: The memory of its tensors.
            offset: The place in that memory that the tensors' offsets are counted from.

        Raises:
            RequestError: A value of a tensor is not allowed, or a mean is over nothing.
        """
        (request, cut, work), kernel = ready, self._kernel
        channels: Sequence[Planes] = ()
        if cut.output_shape:
            memories = [np.empty(cut.most_numbers(0)) for _ in range(work.channels)]
            sums = kernel.score(work, memory, offset, 0, memories)
            channels = [planes_of(cut, *each) for each in zip(memories, sums.planes, strict=True)]
        else:
            sums = kernel.score(work, memory, offset, 0)
        return result_of(request, cut, sums, channels, kernel.name, kernel.device)


def prepare_request(request: LossRequest, cut: Cut, base: int = 0) -> Prepared:
    """Make a request of one part ready to score.

    Args:
        request: The request.
        cut: Its one part.
        base: The place that offsets are to be counted from.
    """
    tensors = {name: replace(tensor, offset=tensor.offset - base) for name, tensor in request.tensors.items()}
    work = prepare(request.loss, request.params, cut.shape, cut.axes, cut.elements, tensors)
    return Prepared(request, cut, work)
