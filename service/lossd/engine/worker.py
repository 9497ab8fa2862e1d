"""A worker: the process that owns a device, and scores slices out of the arena.

It keeps no request's state. It ends when its front end's socket closes, and whoever kills it costs callers
time and nothing else.
"""

from __future__ import annotations

import ctypes
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lossd.core.catalog import register
from lossd.core.grid import Grid
from lossd.core.kernel import EagerKernel, Score
from lossd.core.known_answers import check_known_answers
from lossd.core.work import Work, prepare
from lossd.engine.arena import Memory
from lossd.engine.frames import (
    MAX_FRAME,
    UNUSABLE,
    Failed,
    Ready,
    Scored,
    Slice,
    decode_from_front_end,
    encode,
)
from lossd.engine.scheduler import Scheduler
from lossd.request import Fault, Tensor

logger = logging.getLogger(__name__)

QUANTUM_SECONDS: Final = 5e-4
"""About how long a worker computes before it looks who is next, in whole blocks, at least one: long enough to
hide what looking costs, and so short that others wait little (docs/performance.md)."""

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_NUMPY: Final = {
    "float16": "f2",
    "bfloat16": "u2",  # bit patterns
    "float32": "f4",
    "float64": "f8",
    "bool": "b1",
    "uint8": "u1",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
}


@dataclass(slots=True)
class _Task:
    """A slice that has arrived.

    Attributes:
        piece: The slice.
        begun: What has been scored of it, and what scores the rest, a block a step; None before its first
            quantum.
        seconds: How long it took so far.
    """

    piece: Slice
    begun: tuple[Score, Iterator[int]] | None = None
    seconds: float = 0.0


class Worker:
    """Scores the slices that arrive on a socket.

    A slice is run in quanta of whole blocks. Between two of them the worker takes in what has arrived, and
    decides anew who is next: however large slices are, nobody waits for the end of one.

    Args:
        index: The worker's number, which is its place among the arena's marks.
        kernel: What computes.
        memory: The arena.
        link: The socket to the front end.
        clock: What quanta are measured and deadlines are checked by, in seconds.
    """

    def __init__(
        self,
        index: int,
        kernel: EagerKernel,
        memory: Memory,
        link: socket.socket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._kernel = kernel
        self._memory = memory
        self._link = link
        self._clock = clock
        self._frame = memoryview(bytearray(MAX_FRAME))
        self._scheduler: Scheduler[_Task] = Scheduler()
        self._prepared: tuple[int, Work] | None = None  # the last slice's request: the next may be of it, too

    def run(self) -> None:
        """Score until the front end closes its end."""
        idle = False
        while self._receive(wait=idle):
            task = self._scheduler.next()
            idle = task is None
            if task is not None:
                self._run_quantum(task)

    def _receive(self, *, wait: bool) -> bool:
        """Take in what has arrived, if it is to wait at least one frame; False at the end."""
        flags = 0 if wait else socket.MSG_DONTWAIT
        while True:
            try:
                size = self._link.recv_into(self._frame, 0, flags)
            except BlockingIOError:
                return True
            if not size:
                return False
            flags = socket.MSG_DONTWAIT
            frame = decode_from_front_end(self._frame[:size])
            if isinstance(frame, Slice):
                self._scheduler.add(frame.team, frame.weight, frame.request, _Task(frame))
            else:
                for task in self._scheduler.drop(frame.request):
                    self._send(Failed(task.piece.id, "cancelled", "nobody waits for this any more", []))

    def _run_quantum(self, task: _Task) -> None:
        began = self._clock()
        self._memory.mark(self._index, task.piece.id)
        answer = self._answer(task)
        self._memory.mark(self._index, 0)
        if answer is not None:
            self._send(answer)
        self._scheduler.charge(self._clock() - began, finished=answer is not None)

    def _send(self, answer: Scored | Failed) -> None:
        self._link.sendall(encode(answer))

    def _answer(self, task: _Task) -> Scored | Failed | None:
        """Go on with a slice for a quantum; its answer, or None if it is not finished."""
        piece = task.piece
        if self._clock() >= piece.deadline:
            return Failed(piece.id, "deadline_exceeded", "the deadline passed before this was computed", [])
        try:
            return self._score(task)
        except Fault as fault:
            return Failed(piece.id, fault.code, fault.detail, list(fault.errors))
        except torch.OutOfMemoryError:
            detail = f"{self._kernel.device} has no memory left for this request; send a smaller one"
            return Failed(piece.id, "out_of_memory", detail, [])
        except Exception:
            if self._kernel.device.type != "cpu":
                raise  # the device may be poisoned: a new process starts from a clean one
            logger.exception("slice %d of request %d failed", piece.id, piece.request)
            return Failed(piece.id, "internal_error", "the loss could not be computed; see the log", [])

    def _score(self, task: _Task) -> Scored | None:
        began = before = self._clock()
        piece = task.piece
        if task.begun is None:
            task.begun = self._begin(piece)
        score, steps = task.begun
        finished = False
        for following in steps:
            now = self._clock()
            finished = following == piece.last
            if now - began + (now - before) / 2.0 > QUANTUM_SECONDS:  # nearer to it than after a further step
                break
            before = now
        task.seconds += self._clock() - began
        if not finished:
            return None
        return Scored(
            id=piece.id,
            sum=score.sum.terms,
            weight_sum=None if score.weight_sum is None else score.weight_sum.terms,
            positives=score.positives.terms,
            count=score.count,
            pieces=[[(one.output, one.planes, one.length) for one in part] for part in score.pieces],
            seconds=task.seconds,
        )

    def _begin(self, piece: Slice) -> tuple[Score, Iterator[int]]:
        if self._prepared is None or self._prepared[0] != piece.request or piece.rows is not None:
            self._prepared = piece.request, self._prepare(piece)
        work = self._prepared[1]
        memories = [
            np.frombuffer(self._memory.view, dtype=np.float64, count=count, offset=offset)
            for offset, count in piece.partials
        ]
        score = Score.of(work, memories)
        return score, self._kernel.steps(work, piece.first, piece.last, score)

    def _prepare(self, piece: Slice) -> Work:
        arrays = {name: self._array(tensor) for name, tensor in piece.tensors.items()}
        grid = Grid(piece.shape, piece.axes, piece.block, growing=piece.rows is not None)
        bfloat16 = frozenset(name for name, tensor in piece.tensors.items() if tensor.dtype == "bfloat16")
        return prepare(piece.loss, piece.params, grid, arrays, bfloat16, piece.rows)

    def _array(self, tensor: Tensor) -> npt.NDArray[Any]:
        """A tensor where it lies in the arena, read in place."""
        dtype = np.dtype(_NUMPY[tensor.dtype]).newbyteorder(">" if tensor.big_endian else "<")
        flat = np.frombuffer(self._memory.view, dtype=dtype, count=tensor.size, offset=tensor.offset)
        return flat.reshape(tensor.shape, order="F" if tensor.fortran else "C")


def _make_kernel(device: str, kernel: str, cache_dir: str | None, block: int) -> EagerKernel:
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
    logging.basicConfig(level=options["log_level"].upper(), format="%(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(1)
    keep_freed_memory()
    link = socket.socket(fileno=options["link_fd"])
    memory = Memory(options["arena_fd"], options["arena_bytes"])
    try:
        for place in options["losses"]:
            register(place)
        kernel = _make_kernel(options["device"], options["kernel"], options["cache_dir"], options["block"])
        check_known_answers(kernel)
    except Exception as error:  # whatever torch raises: there is no list of it
        logger.error("cannot compute on %s: %s", options["device"], str(error).partition("\n")[0])
        logger.debug("in full:", exc_info=True)
        sys.exit(UNUSABLE)
    ready = Ready(
        kernel=kernel.name,
        device=str(kernel.device),
        torch=str(torch.__version__),
        capability=torch.backends.cpu.get_cpu_capability(),
    )
    try:
        link.sendall(encode(ready))
        Worker(options["index"], kernel, memory, link).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the front end is gone


if __name__ == "__main__":
    main(sys.argv[1])
