"""A worker: the process that owns a device, and scores slices out of the arena.

It keeps no request's state. It ends when its front end's socket closes, and whoever kills it costs callers
time and nothing else.
"""

from __future__ import annotations

import json
import logging
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lossd.core.catalog import register
from lossd.core.grid import Grid
from lossd.core.kernel import EagerKernel
from lossd.core.known_answers import check_known_answers
from lossd.core.work import Work, prepare
from lossd.engine.arena import Memory
from lossd.engine.frames import MAX_FRAME, UNUSABLE, Failed, Ready, Scored, Slice, decode_slice, encode
from lossd.engine.queue import TurnQueue
from lossd.request import Fault, Tensor

logger = logging.getLogger(__name__)

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


class Worker:
    """Scores the slices that arrive on a socket.

    Args:
        index: The worker's number, which is its place among the arena's marks.
        kernel: What computes.
        memory: The arena.
        link: The socket to the front end.
    """

    def __init__(self, index: int, kernel: EagerKernel, memory: Memory, link: socket.socket) -> None:
        self._index = index
        self._kernel = kernel
        self._memory = memory
        self._link = link
        self._queue = TurnQueue()
        self._prepared: tuple[int, Work] | None = None  # the last slice's request: the next may be of it, too

    def run(self) -> None:
        """Score until the front end closes its end."""
        while self._receive():
            piece = self._queue.pop()
            self._memory.mark(self._index, piece.id)
            answer = self._answer(piece)
            self._memory.mark(self._index, 0)
            self._link.sendall(encode(answer))

    def _receive(self) -> bool:
        """Take in what has arrived, waiting only if there is nothing to do; False at the end."""
        while True:
            ready, _, _ = select.select([self._link], [], [], 0 if len(self._queue) else None)
            if not ready:
                return True
            data = self._link.recv(MAX_FRAME)
            if not data:
                return False
            self._queue.push(decode_slice(data))

    def _answer(self, piece: Slice) -> Scored | Failed:
        if time.monotonic() >= piece.deadline:
            return Failed(piece.id, "deadline_exceeded", "the deadline passed before this was computed", [])
        try:
            return self._score(piece)
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

    def _score(self, piece: Slice) -> Scored:
        started = time.perf_counter()
        if self._prepared is None or self._prepared[0] != piece.request or piece.rows is not None:
            self._prepared = piece.request, self._prepare(piece)
        memories = tuple(
            np.frombuffer(self._memory.view, dtype=np.float64, count=count, offset=offset)
            for offset, count in piece.partials
        )
        score = self._kernel.score(self._prepared[1], piece.first, piece.last, memories)
        return Scored(
            id=piece.id,
            sum=score.sum.terms,
            weight_sum=None if score.weight_sum is None else score.weight_sum.terms,
            positives=score.positives.terms,
            count=score.count,
            pieces=[[(one.output, one.planes, one.length) for one in part] for part in score.pieces],
            seconds=time.perf_counter() - started,
        )

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


def main(arguments: str) -> None:
    """Run a worker, given its descriptors and its device as a JSON object."""
    options = json.loads(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    logging.basicConfig(level=options["log_level"].upper(), format="%(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(1)
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
