"""The worker's process: owns a device, and scores slices that lie in the front ends' arenas.

It keeps no state of requests, so its death costs callers time and nothing else. It ends when the supervisor
closes its socket. It writes heartbeats, and the supervisor replaces it if they stop. It checks known answers
now and then, and ends by itself if one is wrong.

It is ready within a fraction of a second because it imports little: torch only for a CUDA device, for losses
that an operator has added, or where there is no native kernel.
"""

from __future__ import annotations

import gc
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

import msgspec
import numpy as np

from lossd import logs
from lossd.core.catalog import LOSSES, register
from lossd.core.kernel import Kernel, Sums, WrongAnswerError
from lossd.core.native.kernel import NativeKernel
from lossd.core.prepare import Work, prepare
from lossd.core.self_test import check_known_answers
from lossd.engine.ipc.heartbeats import Heartbeat, Heartbeats, Row
from lossd.engine.ipc.messages import (
    UNUSABLE,
    WRONG,
    Answer,
    Cancelled,
    Failed,
    Ready,
    Scored,
    Slice,
    decode_batch,
)
from lossd.engine.ipc.options import WorkerOptions
from lossd.engine.scheduler import Scheduler
from lossd.engine.worker.front_ends import FrontEnd, FrontEnds
from lossd.engine.worker.kernels import make_kernel, torch_kernel
from lossd.tracing import Tracing
from lossd.types import ErrorCode, RequestError

if TYPE_CHECKING:
    from lossd.core.losses.pinned import PinnedMemory

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.5
"""How long an idle worker waits between two heartbeats."""
_NICENESS: Final = 10
"""A worker on a CPU uses all cores; the front ends, which share them, must come first."""


@dataclass(slots=True)
class _Task:
    """A slice that has arrived."""

    front_end: FrontEnd
    slice: Slice


class Worker:
    """Scores the slices that the front ends send.

    A slice takes about a millisecond. After each one the worker reads new messages and asks the scheduler for
    the next slice, so that nobody waits for the end of a large request.

    Args:
        kernel: The kernel.
        row: Where it writes its heartbeat.
        control: The socket to the supervisor.
        check_seconds: Seconds between two known-answer checks.
        clock: Seconds, for measuring slices and checking deadlines.
        tracing: Records a span for each slice, if there are traces.
        torch: The installed version of torch; empty if there is none.
        added: The kernel for losses that the native one does not have; by default the same.
    """

    def __init__(
        self,
        kernel: Kernel,
        row: Row,
        control: socket.socket,
        check_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
        torch: str = "",
        added: Kernel | None = None,
    ) -> None:
        self._kernel = kernel
        self._added = added or kernel
        self._row = row
        self._clock = clock
        self._tracing = tracing
        self._check_seconds = check_seconds
        self._checked = clock()
        self._answered = 0
        ready = Ready(kernel.name, kernel.device, torch, getattr(kernel, "width", ""))
        self._front_ends = FrontEnds(control, ready, self._join, self._leave)
        self._pinned: dict[FrontEnd, PinnedMemory] = {}
        self._scheduler: Scheduler[_Task] = Scheduler()

    def run(self) -> None:
        """Score until the supervisor closes its socket.

        Raises:
            WrongAnswerError: The kernel fails a known-answer check.
        """
        seconds = 0.0
        try:
            while not self._front_ends.ended:
                self._receive(seconds)
                self._check_when_due()
                seconds = 0.0 if self._run_next() else IDLE_SECONDS
        finally:
            self._front_ends.close()

    def _receive(self, seconds: float) -> None:
        """Take all messages that have arrived, waiting up to some seconds for the first."""
        for front_end, message in self._front_ends.receive(seconds):
            job = front_end.number, message.job
            if isinstance(message, Slice):
                self._scheduler.add(message.team, message.weight, job, _Task(front_end, message))
            else:
                for task in self._scheduler.drop(job):
                    self._answer(task, Cancelled(task.slice.id))

    def _check_when_due(self) -> None:
        now = self._clock()
        if now - self._checked < self._check_seconds:
            return
        self._checked = now
        self._beat(None)
        check_known_answers(self._kernel)

    def _run_next(self) -> bool:
        """Score the next slice; return False if there is none."""
        task = self._scheduler.next()
        self._beat(task)
        if task is None:
            return False
        began = self._clock()
        outcome = None if task.front_end.gone else self._attempt(task)
        seconds = self._clock() - began
        if outcome is not None:
            self._answer(task, _answer_of(task.slice, outcome, began, seconds))
        self._scheduler.charge(seconds)
        return True

    def _answer(self, task: _Task, answer: Answer) -> None:
        self._answered += 1
        self._front_ends.send(task.front_end, answer)
        if self._tracing is not None and not isinstance(answer, Cancelled):
            attributes: dict[str, str | int] = {
                "lossd.device": self._kernel.device,
                "lossd.part": task.slice.index,
                "lossd.team": task.slice.team,
                "lossd.request_id": task.slice.request_id,
            }
            self._tracing.record_slice(
                task.slice.trace,
                answer.began,
                answer.seconds,
                attributes,
                failed=not isinstance(answer, Scored),
            )

    def _beat(self, task: _Task | None) -> None:
        """Write a heartbeat, with the slice that is scored next."""
        running = None if task is None else (task.front_end.number, task.slice.id)
        self._row.write(Heartbeat(time.monotonic(), answered=self._answered, running=running))

    def _join(self, front_end: FrontEnd) -> None:
        """Pin a new front end's arena, so that a CUDA device copies from it by itself."""
        if self._kernel.device == "cpu":
            return
        import torch

        from lossd.core.losses.pinned import PinnedMemory

        try:
            self._pinned[front_end] = PinnedMemory(front_end.memory.view, torch.device(self._kernel.device))
        except RuntimeError as error:
            logger.warning("the arena is not pinned, which makes copies to the device slower: %s", error)

    def _leave(self, front_end: FrontEnd) -> None:
        """Unpin a front end's arena. Its slices are dropped when the scheduler returns them."""
        pinned = self._pinned.pop(front_end, None)
        if pinned is not None:
            import torch

            torch.cuda.synchronize(self._kernel.device)  # no copy from it is in flight
            pinned.close()

    def _attempt(self, task: _Task) -> Sums | RequestError:
        """Score a slice; return its sums, or the error."""
        if self._clock() >= task.slice.deadline:
            return RequestError(ErrorCode.DEADLINE_EXCEEDED, "the deadline passed before this was computed")
        try:
            return self._score(task)
        except RequestError as error:
            return error
        except Exception as error:
            # By its name, since torch may not be installed.
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                detail = f"{self._kernel.device} has no memory left for this request; send a smaller one"
                return RequestError(ErrorCode.OUT_OF_MEMORY, detail)
            _log_failure(task.slice)
            if self._kernel.device != "cpu" or type(error).__name__ == "AcceleratorError":
                raise  # the device may be poisoned: a new process starts from a clean one
            return RequestError(
                ErrorCode.INTERNAL_ERROR,
                "the loss could not be computed; report the request id to the operator",
            )

    def _score(self, task: _Task) -> Sums:
        its, memory = task.slice, task.front_end.memory.view
        work = _work_of(its.batch, its.row)
        memories = [
            np.frombuffer(memory, dtype=np.float64, count=count, offset=offset)
            for offset, count in its.memories
        ]
        report = None
        if its.report is not None:
            offset, nbytes = its.report
            report = memory[offset : offset + nbytes]
        return self._kernel_for(work.loss).score(work, memory, its.base, its.index, memories, report)

    def _kernel_for(self, loss: str) -> Kernel:
        """Return the kernel that has a loss: the native one has none that an operator has added."""
        return self._kernel if LOSSES[loss].is_native else self._added


@lru_cache(maxsize=64)
def _work_of(batch: bytes, row: int) -> Work:
    """Decode a batch and prepare it for scoring. Cached, since all its slices need it."""
    spec = decode_batch(batch)
    return prepare(spec.loss, spec.params, spec.shape, spec.axes, spec.elements, spec.tensors, row)


def _answer_of(scored: Slice, outcome: Sums | RequestError, began: float, seconds: float) -> Scored | Failed:
    if isinstance(outcome, RequestError):
        errors = list(outcome.errors)
        return Failed(scored.id, outcome.code, outcome.detail, errors, seconds, began)
    return Scored(
        id=scored.id,
        sum=outcome.loss,
        weight_sum=outcome.weights,
        positives=outcome.positives,
        count=outcome.count,
        planes=outcome.planes,
        seconds=seconds,
        began=began,
        report=outcome.report,
    )


def _log_failure(failed: Slice) -> None:
    """Log the exception that is being handled, which a slice caused."""
    from structlog.contextvars import bound_contextvars

    with bound_contextvars(request_id=failed.request_id, team=failed.team):
        logger.exception("slice %d failed", failed.id)


def main(arguments: str) -> None:
    """Run a worker, given its `WorkerOptions` in JSON."""
    options = msgspec.json.decode(arguments, type=WorkerOptions)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor
    logs.configure("worker", options.index, options.log_level, options.log_format)
    control = socket.socket(fileno=options.control_fd)
    heartbeats = Heartbeats(options.heartbeats_fd, options.front_ends, options.workers)
    if options.device.startswith("cpu"):
        os.nice(_NICENESS)
    kernel, added = _load_kernels(options)
    gc.collect()
    gc.freeze()  # what has been imported stays, and need not be looked through again and again
    tracing = Tracing("worker", options.index) if options.traces else None
    worker = Worker(
        kernel,
        heartbeats.workers[options.index],
        control,
        options.check_seconds,
        tracing=tracing,
        torch=options.torch,
        added=added,
    )
    try:
        worker.run()
    except WrongAnswerError as error:
        logger.error("known-answer check failed; exiting: %s", error)
        sys.exit(WRONG)
    finally:
        if tracing is not None:
            tracing.close()


def _load_kernels(options: WorkerOptions) -> tuple[Kernel, Kernel | None]:
    """Return the device's kernel, and another for an operator's losses if the first does not have them.

    Exits if the device cannot be used.
    """
    try:
        for entry in options.losses:
            register(entry)
        kernel = make_kernel(options.device, options.kernel, options.threads)
        check_known_answers(kernel)
        added = None
        if options.losses and isinstance(kernel, NativeKernel):
            added = torch_kernel("cpu", 1, kernel)
    except Exception as error:  # torch's errors have no common class
        logger.error("cannot compute on %s: %s", options.device, str(error).partition("\n")[0])
        logger.debug("in full:", exc_info=True)
        sys.exit(UNUSABLE)
    return kernel, added


if __name__ == "__main__":
    main(sys.argv[1])
