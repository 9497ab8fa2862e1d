"""A worker: the process that owns a device, and scores slices out of the arena.

It keeps no request's state. It ends when the supervisor's socket closes, and whoever kills it costs callers
time and nothing else. It says on the board that it goes on, and checks now and then that it still computes
rightly: the supervisor replaces one that hangs, and one that has come to err ends by itself.

It is ready within a fraction of a second, and so replaced, because it imports little: torch only for a CUDA
device, for losses that an operator has added, or where there is no native kernel.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from lossd import logs
from lossd.core.catalog import LOSSES, register
from lossd.core.kernel import Kernel, Sums, WrongAnswerError
from lossd.core.native import NativeKernel, native_kernel, slower_by, why_missing
from lossd.core.prepare import Work, prepare
from lossd.core.self_test import check_known_answers
from lossd.engine.ipc.heartbeats import Board, Row
from lossd.engine.ipc.messages import UNUSABLE, WRONG, Failed, Ready, Scored, Slice, decode_recipe
from lossd.engine.scheduler import Scheduler
from lossd.engine.worker.front_ends import FrontEnd, Links
from lossd.tracing import Tracing
from lossd.types import ErrorCode, RequestError

if TYPE_CHECKING:
    from lossd.core.losses.pinned import PinnedMemory

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.5
"""How long a worker with nothing to do waits before it says on the board that it is alive."""
_NICENESS: Final = 10
"""A worker on a CPU uses all cores. What receives and answers requests there goes before it."""


@dataclass(slots=True)
class _Task:
    """A slice that has arrived.

    Attributes:
        front_end: Whose it is.
        piece: The slice.
    """

    front_end: FrontEnd
    piece: Slice


class Worker:
    """Scores the slices that arrive from the front ends.

    A slice takes about a millisecond. Between two of them the worker takes in what has arrived, and decides
    anew who is next: however large requests are, nobody waits for the end of one.

    Args:
        index: The worker's number, which is its row on the board.
        kernel: What computes.
        board: Where it says how it does.
        control: The socket to the supervisor.
        check_seconds: After how long it checks anew that it computes rightly.
        clock: What slices are measured and deadlines are checked by, in seconds.
        tracing: Where slices have their spans, if there are to be any.
        torch: The version of torch that is installed; empty if there is none.
        added: What computes losses that the native kernel has not; by default the kernel.
    """

    def __init__(
        self,
        index: int,
        kernel: Kernel,
        board: Board,
        control: socket.socket,
        check_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
        torch: str = "",
        added: Kernel | None = None,
    ) -> None:
        self._index = index
        self._kernel = kernel
        self._added = added or kernel
        self._board = board
        self._clock = clock
        self._tracing = tracing
        self._check_seconds = check_seconds
        self._checked = clock()
        self._answered = 0
        ready = Ready(kernel.name, kernel.device, torch, getattr(kernel, "width", ""))
        self._links = Links(control, ready, self._join, self._part)
        self._pinned: dict[FrontEnd, PinnedMemory] = {}
        self._scheduler: Scheduler[_Task] = Scheduler()

    def run(self) -> None:
        """Score until the supervisor closes its end.

        Raises:
            WrongAnswerError: It does not compute rightly any more.
        """
        seconds = 0.0
        try:
            while not self._links.ended:
                self._receive(seconds)
                self._check_when_due()
                seconds = 0.0 if self._run_next() else IDLE_SECONDS
        finally:
            self._links.close()

    def _receive(self, seconds: float) -> None:
        """Take in what has arrived, or arrives within so many seconds."""
        for front_end, frame in self._links.receive(seconds):
            request = front_end.number, frame.request
            if isinstance(frame, Slice):
                self._scheduler.add(frame.team, frame.weight, request, _Task(front_end, frame))
            else:
                for task in self._scheduler.drop(request):
                    self._answer(
                        task, RequestError(ErrorCode.CANCELLED, "nobody waits for this any more"), 0.0
                    )

    def _check_when_due(self) -> None:
        now = self._clock()
        if now - self._checked < self._check_seconds:
            return
        self._checked = now
        self._write(None)
        check_known_answers(self._kernel)

    def _run_next(self) -> bool:
        """Score the slice whose turn it is; whether there was any."""
        task = self._scheduler.next()
        self._write(task)
        if task is None:
            return False
        began = self._clock()
        outcome = None if task.front_end.gone else self._attempt(task)
        seconds = self._clock() - began
        if outcome is not None:
            self._answer(task, outcome, seconds)
        self._scheduler.charge(seconds)
        return True

    def _answer(self, task: _Task, outcome: Sums | RequestError, seconds: float) -> None:
        self._answered += 1
        piece, answer = task.piece, _answer_of(task.piece, outcome, seconds)
        self._links.send(task.front_end, answer)
        if self._tracing is not None:
            attributes: dict[str, str | int] = {
                "lossd.device": self._kernel.device,
                "lossd.part": piece.index,
                "lossd.team": piece.team,
                "lossd.request_id": piece.identity,
            }
            self._tracing.record_slice(
                piece.trace, seconds, attributes, failed=isinstance(outcome, RequestError)
            )

    def _write(self, task: _Task | None) -> None:
        """Say on the board that it goes on, and with what."""
        running = None if task is None else (task.front_end.number, task.piece.id)
        self._board.write(self._index, Row(time.monotonic(), self._answered, running))

    def _join(self, front_end: FrontEnd) -> None:
        """Have a CUDA device copy from a new front end's memory by itself, if it can."""
        if self._kernel.device == "cpu":
            return
        import torch

        from lossd.core.losses.pinned import PinnedMemory

        try:
            self._pinned[front_end] = PinnedMemory(front_end.memory.view, torch.device(self._kernel.device))
        except RuntimeError as error:
            logger.warning("the arena is not pinned, which makes copies to the device slower: %s", error)

    def _part(self, front_end: FrontEnd) -> None:
        """Let go of a front end's memory; its slices are struck when it is their turn."""
        pinned = self._pinned.pop(front_end, None)
        if pinned is not None:
            import torch

            torch.cuda.synchronize(self._kernel.device)  # no copy from it is under way
            pinned.close()

    def _attempt(self, task: _Task) -> Sums | RequestError:
        """What a slice comes to."""
        piece = task.piece
        if self._clock() >= piece.deadline:
            return RequestError(ErrorCode.DEADLINE_EXCEEDED, "the deadline passed before this was computed")
        try:
            return self._score(task)
        except RequestError as fault:
            return fault
        except Exception as error:
            # Torch's errors are known by their names, since torch need not be there.
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                detail = f"{self._kernel.device} has no memory left for this request; send a smaller one"
                return RequestError(ErrorCode.OUT_OF_MEMORY, detail)
            _log_failure(piece)
            if self._kernel.device != "cpu" or type(error).__name__ == "AcceleratorError":
                raise  # the device may be poisoned: a new process starts from a clean one
            return RequestError(ErrorCode.INTERNAL_ERROR, "the loss could not be computed; see the log")

    def _score(self, task: _Task) -> Sums:
        piece, memory = task.piece, task.front_end.memory.view
        work = _work_of(piece.recipe, piece.row)
        memories = [
            np.frombuffer(memory, dtype=np.float64, count=count, offset=offset)
            for offset, count in piece.memories
        ]
        return self._kernel_for(work.loss).score(work, memory, piece.base, piece.index, memories)

    def _kernel_for(self, loss: str) -> Kernel:
        """What has a loss: the native kernel has none that an operator has added."""
        return self._kernel if LOSSES[loss].is_native else self._added


@lru_cache(maxsize=64)
def _work_of(recipe: bytes, row: int) -> Work:
    """What is asked with a recipe, ready to score: slices of one request follow each other."""
    told = decode_recipe(recipe)
    return prepare(told.loss, told.params, told.shape, told.axes, told.elements, told.tensors, row)


def _answer_of(piece: Slice, outcome: Sums | RequestError, seconds: float) -> Scored | Failed:
    if isinstance(outcome, RequestError):
        return Failed(piece.id, outcome.code, outcome.detail, list(outcome.errors))
    return Scored(
        id=piece.id,
        sum=outcome.loss,
        weight_sum=outcome.weights,
        positives=outcome.positives,
        count=outcome.count,
        planes=outcome.planes,
        seconds=seconds,
    )


def _log_failure(piece: Slice) -> None:
    """Log the error that is being handled, which has come of a slice."""
    from structlog.contextvars import bound_contextvars

    with bound_contextvars(request_id=piece.identity, team=piece.team):
        logger.exception("slice %d failed", piece.id)


def _make_kernel(device: str, kernel: str, threads: int) -> Kernel:
    """What computes.

    Args:
        device: Where.
        kernel: ``native``, ``torch``, or ``auto`` for the first of them that there is.
        threads: How many threads it may use on a CPU.

    Raises:
        RuntimeError: There is no such kernel here.
    """
    if not device.startswith("cpu"):
        return _torch_kernel(device, threads)
    native: NativeKernel | None = None if kernel == "torch" else native_kernel(threads)
    if native is not None:
        return native
    if kernel == "native":
        msg = f"there is no native kernel: {why_missing()}"
        raise RuntimeError(msg)
    logger.warning("%s", slower_by())
    return _torch_kernel("cpu", threads)  # the number tells workers apart, not cores


def _torch_kernel(device: str, threads: int) -> Kernel:
    import torch

    from lossd.core.losses.kernel import TorchKernel

    torch.set_num_threads(threads)
    kernel = TorchKernel(device)
    check_known_answers(kernel)
    return kernel


def main(arguments: str) -> None:
    """Run a worker, given its descriptors and its device as a JSON object."""
    options = json.loads(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    logs.configure("worker", options["index"], options["log_level"], options["log_format"])
    control = socket.socket(fileno=options["control_fd"])
    board = Board(options["board_fd"], options["workers"])
    if options["device"].startswith("cpu"):
        os.nice(_NICENESS)
    try:
        for place in options["losses"]:
            register(place)
        kernel = _make_kernel(options["device"], options["kernel"], options["threads"])
        check_known_answers(kernel)
        added = _torch_kernel("cpu", 1) if options["losses"] and kernel.name == "native" else None
    except Exception as error:  # whatever torch raises: there is no list of it
        logger.error("cannot compute on %s: %s", options["device"], str(error).partition("\n")[0])
        logger.debug("in full:", exc_info=True)
        sys.exit(UNUSABLE)
    gc.collect()
    gc.freeze()  # what has been imported stays, and need not be looked through again and again
    tracing = Tracing("worker", options["index"]) if options["traces"] else None
    seconds, torch = options["check_seconds"], options["torch"]
    try:
        Worker(
            options["index"], kernel, board, control, seconds, tracing=tracing, torch=torch, added=added
        ).run()
    except WrongAnswerError as error:
        logger.error("worker %d does not compute rightly any more: %s", options["index"], error)
        sys.exit(WRONG)
    finally:
        if tracing is not None:
            tracing.close()


if __name__ == "__main__":
    main(sys.argv[1])
