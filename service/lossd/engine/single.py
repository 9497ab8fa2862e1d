"""A small request while it is being scored: one slice, whose inputs have all arrived, for one number.

Most requests are such. What `lossd.engine.job` does for all, which may be of many slices and outputs, would
cost them more than all else that a front end does for them (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from lossd.core.exact_sum import ExactSum
from lossd.core.grid import Grid
from lossd.engine.figures import Totals, crashed, loss_of, result_of, too_late
from lossd.engine.frames import Failed, Scored, Slice
from lossd.engine.seat import WorkerSeat
from lossd.request import Fault, LossRequest, LossResult


class Single:
    """One request.

    Args:
        request: What to score.
        grid: Its one block, of which one number is made.
        piece: Its one slice.
        seat: Where that has been handed out.
        then: Called when `outcome` has something to say but that the deadline has passed.
    """

    __slots__ = (
        "_answer",
        "_fault",
        "_grid",
        "_piece",
        "_release",
        "_request",
        "_then",
        "outstanding",
        "over",
        "seat",
    )

    def __init__(
        self, request: LossRequest, grid: Grid, piece: Slice, seat: WorkerSeat, then: Callable[[], None]
    ) -> None:
        self._request: Final = request
        self._grid: Final = grid
        self._piece = piece
        self._then: Final = then
        self._answer: Scored | Failed | None = None
        self._fault: Fault | None = None
        self._release: Callable[[], None] | None = None
        self.outstanding = True
        self.over = False
        self.seat = seat

    @property
    def request(self) -> int:
        """See `Held`."""
        return self._piece.request

    @property
    def team(self) -> str:
        """See `Held`."""
        return self._piece.team

    @property
    def identity(self) -> str:
        """See `Held`."""
        return self._piece.identity

    @property
    def shared(self) -> bool:
        """See `Held`: there is but one slice."""
        return False

    def next_slice(self) -> None:
        """None: there is but one."""

    def piece(self, _slice_id: int) -> Slice:
        """See `Held`."""
        return self._piece

    def take(self, answer: Scored | Failed, _device: str) -> None:
        """See `Held`."""
        self.forget(answer.id)
        if not self.over:
            self._answer, self.over = answer, True
            self._then()

    def forget(self, _slice_id: int) -> None:
        """See `Held`."""
        self.outstanding = False
        if self._release is not None:
            self._release()

    def ended_worker(self, _slice_id: int) -> None:
        """See `Held`."""
        if self._piece.alone and not self.over:
            self._fault, self.over = crashed(), True
            self._then()
        self._piece = msgspec.structs.replace(self._piece, alone=True)

    def outcome(self) -> tuple[LossResult, float]:
        """The result, and the seconds of computing.

        Raises:
            Fault: A value in a tensor, the deadline, or the device stood against it.
        """
        answer = self._answer
        if isinstance(answer, Scored):
            request, count = self._request, answer.count
            weights = float(count) if answer.weight_sum is None else _total(answer.weight_sum)
            totals = Totals(_total(answer.sum), weights, _total(answer.positives), count)
            loss = loss_of(request, totals)
            result = result_of(request, self._grid, loss, totals, self.seat.kernel, self.seat.computes_on)
            return result, answer.seconds
        if isinstance(answer, Failed):
            raise Fault(answer.code, answer.detail, answer.errors)
        raise self._fault or too_late()

    def end(self, release: Callable[[], None]) -> bool:
        """End it if it has not ended, and call ``release`` as soon as nobody reads its memory.

        Returns:
            Whether a worker has it still.
        """
        self.over = True
        if self.outstanding:
            self._release = release
        else:
            release()
        return self.outstanding


def _total(terms: list[float]) -> float:
    return terms[0] if len(terms) == 1 else ExactSum(terms).value
