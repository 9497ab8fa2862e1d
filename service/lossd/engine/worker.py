"""A worker: the process that owns a device, and scores slices out of the arena.

It keeps no request's state. It ends when the supervisor's socket closes, and whoever kills it costs callers
time and nothing else. It says on the board that it goes on, and checks now and then that it still computes
rightly: the supervisor replaces one that hangs, and one that has come to err ends by itself.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from structlog.contextvars import bound_contextvars

from lossd import logs
from lossd.core.catalog import register
from lossd.core.kernel import EagerKernel, Score
from lossd.core.known_answers import WrongAnswerError, check_known_answers
from lossd.core.pinned import PinnedMemory
from lossd.core.together import Sums, most_together
from lossd.core.work import Work
from lossd.engine.board import MOST_RUNNING, Board, Row
from lossd.engine.frames import UNUSABLE, WRONG, Answers, Failed, Ready, Scored, Slice
from lossd.engine.links import FrontEnd, Links
from lossd.engine.scheduler import Scheduler
from lossd.engine.slices import answer_of, likeness_of, pair_of, partials_of, template_of, work_of
from lossd.request import Fault
from lossd.tracing import Tracing

logger = logging.getLogger(__name__)

QUANTUM_SECONDS: Final = 5e-4
"""About how long a worker computes before it looks who is next, in whole blocks, at least one: long enough to
hide what looking costs, and so short that others wait little (docs/performance.md)."""

IDLE_SECONDS: Final = 0.5
"""How long a worker with nothing to do waits before it says on the board that it is alive."""
_FAILED: Final = "the loss could not be computed; see the log"
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3


@dataclass(slots=True)
class _Task:
    """A slice that has arrived.

    Attributes:
        front_end: Whose it is.
        piece: The slice.
        begun: What has been scored of it, and what scores the rest, a block a step; None before its first
            quantum.
        seconds: How long it took so far.
    """

    front_end: FrontEnd
    piece: Slice
    begun: tuple[Score, Iterator[int]] | None = None
    seconds: float = 0.0


class Worker:
    """Scores the slices that arrive from the front ends.

    A slice is run in quanta of whole blocks. Between two of them the worker takes in what has arrived, and
    decides anew who is next: however large slices are, nobody waits for the end of one. Small requests that
    are alike, and follow each other in that order, are a quantum together.

    Args:
        index: The worker's number, which is its row on the board.
        kernel: What computes.
        board: Where it says how it does.
        control: The socket to the supervisor.
        check_seconds: After how long it checks anew that it computes rightly.
        clock: What quanta are measured and deadlines are checked by, in seconds.
        tracing: Where slices have their spans, if there are to be any.
    """

    def __init__(
        self,
        index: int,
        kernel: EagerKernel,
        board: Board,
        control: socket.socket,
        check_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
    ) -> None:
        self._index = index
        self._kernel = kernel
        self._board = board
        self._clock = clock
        self._tracing = tracing
        self._check_seconds = check_seconds
        self._checked = clock()
        self._answered = 0
        self._usual_seconds = 0.0  # what a slice that was scored with others has cost lately
        ready = Ready(
            kernel=kernel.name,
            device=str(kernel.device),
            torch=str(torch.__version__),
            capability=torch.backends.cpu.get_cpu_capability(),
        )
        self._links = Links(control, ready, self._join, self._part)
        self._pinned: dict[FrontEnd, PinnedMemory] = {}
        self._scheduler: Scheduler[_Task] = Scheduler()
        self._prepared: tuple[FrontEnd, int, Work] | None = None
        """The last slice's request: the next may be of it, too."""

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
                    self._answer(task, Fault("cancelled", "nobody waits for this any more"))

    def _check_when_due(self) -> None:
        now = self._clock()
        if now - self._checked < self._check_seconds:
            return
        self._checked = now
        self._write(())
        check_known_answers(self._kernel)

    def _run_next(self) -> bool:
        """Run a quantum of whose turn it is; whether there was anything to run."""
        task = self._scheduler.next()
        if task is None:
            self._write(())
            return False
        group = self._gather(task)
        if group:
            self._run_group(group)
        else:
            self._run_quantum(task)
        return True

    def _run_quantum(self, task: _Task) -> None:
        began = self._clock()
        self._write([task])
        outcome = None if task.front_end.gone else self._attempt(task)
        if outcome is not None:
            self._answer(task, outcome)
        self._write(())
        finished = outcome is not None or task.front_end.gone
        self._scheduler.charge(self._clock() - began, finished=finished)

    def _gather(self, first: _Task) -> list[_Task]:
        """The next slices, the first among them, that can be scored together; none if it is to be alone.

        Those that are given have been charged, by what such ones have cost lately.
        """
        likeness = self._likeness(first)
        template = None if likeness is None else template_of(first.piece.recipe)
        if template is None:
            return []
        most = min(MOST_RUNNING, most_together(template))
        group: list[_Task] = []
        task: _Task | None = first
        while task is not None:
            if task is not first and self._likeness(task) != likeness:
                self._scheduler.put_back()
                break
            group.append(task)
            self._scheduler.charge(self._usual_seconds, finished=True)
            task = self._scheduler.next() if len(group) < most else None
        return group

    def _likeness(self, task: _Task) -> Hashable | None:
        """What a slice must have in common with others to be scored with them; None if it is to be alone."""
        piece = task.piece
        plain = task.begun is None and piece.rows is None and not piece.partials and piece.last == 1
        if not plain or piece.alone or task.front_end.gone or self._clock() >= piece.deadline:
            return None
        try:
            return likeness_of(piece.recipe, self._kernel)
        except Exception:
            return None  # what is wrong with it is said when it is run

    def _run_group(self, group: list[_Task]) -> None:
        """Score slices of one likeness, and settle what each has cost."""
        began = self._clock()
        self._write(group)
        outcomes = self._attempt_together(group)
        seconds = (self._clock() - began) / len(group)
        answers: dict[FrontEnd, list[Scored | Failed]] = {}
        owed: dict[tuple[str, float], float] = {}
        together = len(group)
        for task, outcome in zip(group, outcomes, strict=True):
            piece = task.piece
            answers.setdefault(task.front_end, []).append(answer_of(piece, outcome, seconds, together))
            self._trace(piece, outcome, seconds)
            whose = piece.team, piece.weight
            owed[whose] = owed.get(whose, 0.0) + seconds - self._usual_seconds
            together = 0  # the first speaks for them
        for whose, more in owed.items():
            self._scheduler.owe(*whose, more)
        for front_end, its in answers.items():
            self._links.send(front_end, Answers(its) if len(its) > 1 else its[0])
        self._answered += len(group)
        self._usual_seconds = seconds
        self._write(())

    def _answer(self, task: _Task, outcome: Score | Fault) -> None:
        self._answered += 1
        self._links.send(task.front_end, answer_of(task.piece, outcome, task.seconds))
        self._trace(task.piece, outcome, task.seconds)

    def _trace(self, piece: Slice, outcome: Score | Sums | Fault, seconds: float) -> None:
        """Give a slice that has been answered its span."""
        if self._tracing is not None:
            attributes: dict[str, str | int] = {
                "lossd.device": str(self._kernel.device),
                "lossd.blocks": piece.last - piece.first,
                "lossd.team": piece.team,
                "lossd.request_id": piece.identity,
            }
            failed = isinstance(outcome, Fault)
            self._tracing.record_slice(piece.trace, seconds, attributes, failed=failed)

    def _write(self, tasks: Sequence[_Task]) -> None:
        """Say on the board that it goes on, and with what."""
        running = [(task.front_end.number, task.piece.id) for task in tasks]
        self._board.write(self._index, Row(time.monotonic(), self._answered, running))

    def _join(self, front_end: FrontEnd) -> None:
        """Have the device copy from a new front end's memory by itself, if it can."""
        try:
            self._pinned[front_end] = PinnedMemory(front_end.memory.view, self._kernel.device)
        except RuntimeError as error:
            logger.warning("the arena is not pinned, which makes copies to the device slower: %s", error)

    def _part(self, front_end: FrontEnd) -> None:
        """Let go of a front end's memory; its slices are struck when it is their turn."""
        if self._prepared is not None and self._prepared[0] is front_end:
            self._prepared = None
        pinned = self._pinned.pop(front_end, None)
        if pinned is not None and pinned.registered:
            torch.cuda.synchronize(self._kernel.device)  # no copy from it is under way
            pinned.close()

    def _attempt_together(self, group: Sequence[_Task]) -> Sequence[Score | Sums | Fault]:
        """What slices of one likeness come to."""
        template = template_of(group[0].piece.recipe)
        if template is not None and len(group) >= self._kernel.least_together:
            try:
                pairs = [pair_of(task.piece, task.front_end.memory) for task in group]
                found = self._kernel.score_together(template, pairs)
            except torch.AcceleratorError:
                raise
            except Exception:
                logger.debug("%d slices are tried alone:", len(group), exc_info=True)
                found = None
            if found is not None:
                return found
        return [self._attempt(task) or Fault("internal_error", _FAILED) for task in group]

    def _attempt(self, task: _Task) -> Score | Fault | None:
        """Go on with a slice for a quantum; what it comes to, or None if it is not finished."""
        piece = task.piece
        if self._clock() >= piece.deadline:
            return Fault("deadline_exceeded", "the deadline passed before this was computed")
        try:
            return self._score(task)
        except Fault as fault:
            return fault
        except torch.OutOfMemoryError:
            detail = f"{self._kernel.device} has no memory left for this request; send a smaller one"
            return Fault("out_of_memory", detail)
        except torch.AcceleratorError:
            _log_failure(piece)
            raise  # the device is poisoned: a new process starts from a clean one
        except Exception:
            _log_failure(piece)
            if self._kernel.device.type != "cpu":
                raise  # likewise, for all that is known
            return Fault("internal_error", _FAILED)

    def _score(self, task: _Task) -> Score | None:
        began = before = self._clock()
        last = task.piece.last
        if task.begun is None:
            task.begun = self._begin(task)
        score, steps = task.begun
        finished = False
        for following in steps:
            now = self._clock()
            finished = following == last
            if now - began + (now - before) / 2.0 > QUANTUM_SECONDS:  # nearer to it than after a further step
                break
            before = now
        task.seconds += self._clock() - began
        return score if finished else None

    def _begin(self, task: _Task) -> tuple[Score, Iterator[int]]:
        piece, front_end, known = task.piece, task.front_end, self._prepared
        # A stream's tensors are elsewhere, and longer, each time.
        same = known is not None and known[:2] == (front_end, piece.request) and piece.rows is None
        work = known[2] if same and known is not None else work_of(piece, front_end.memory)
        self._prepared = front_end, piece.request, work
        memories = partials_of(piece, front_end.memory)
        score = Score.of(work, memories)
        return score, self._kernel.steps(work, piece.first, piece.last, score)


def _log_failure(piece: Slice) -> None:
    """Log the error that is being handled, which has come of a slice."""
    with bound_contextvars(request_id=piece.identity, team=piece.team):
        logger.exception("slice %d failed", piece.id)


def _make_kernel(device: str, kernel: str, cache_dir: str | None, block: int) -> EagerKernel:
    if device.startswith("cpu"):
        device = "cpu"  # the number tells workers apart, not cores
    if kernel == "eager" or device != "cpu":
        return EagerKernel(device, block)
    from lossd.core.compiled import CompiledKernel  # takes a while to import, and needs a compiler to use

    compiled = CompiledKernel(device, None if cache_dir is None else Path(cache_dir))
    compiled.warm()
    return compiled


def keep_freed_memory() -> None:
    """Have glibc keep what blocks' temporaries free, up to 64 MiB, instead of handing it back to the system.

    Else each block may pay for its pages anew, or not, as the heap happens to lie (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def main(arguments: str) -> None:
    """Run a worker, given its descriptors and its device as a JSON object."""
    options = json.loads(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    logs.configure("worker", options["index"], options["log_level"], options["log_format"])
    torch.set_num_threads(1)
    keep_freed_memory()
    control = socket.socket(fileno=options["control_fd"])
    board = Board(options["board_fd"], options["workers"])
    try:
        for place in options["losses"]:
            register(place)
        kernel = _make_kernel(options["device"], options["kernel"], options["cache_dir"], options["block"])
        check_known_answers(kernel)
    except Exception as error:  # whatever torch raises: there is no list of it
        logger.error("cannot compute on %s: %s", options["device"], str(error).partition("\n")[0])
        logger.debug("in full:", exc_info=True)
        sys.exit(UNUSABLE)
    gc.collect()
    gc.freeze()  # what torch has brought stays, and need not be looked through again and again
    tracing = Tracing("worker", options["index"]) if options["traces"] else None
    seconds = options["check_seconds"]
    try:
        Worker(options["index"], kernel, board, control, seconds, tracing=tracing).run()
    except WrongAnswerError as error:
        logger.error("worker %d does not compute rightly any more: %s", options["index"], error)
        sys.exit(WRONG)
    finally:
        if tracing is not None:
            tracing.close()


if __name__ == "__main__":
    main(sys.argv[1])
