"""Slices as a worker sees them: from a frame and an arena to work for the kernel, from sums to a frame."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lossd.core.grid import Grid
from lossd.core.kernel import Score
from lossd.core.work import Work, prepare
from lossd.engine.arena import Memory
from lossd.engine.frames import Scored, Slice
from lossd.request import Float64Array, Tensor

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


def answer_of(piece: Slice, score: Score, seconds: float, together: int) -> Scored:
    """The answer to a slice.

    Args:
        piece: The slice.
        score: What it came to.
        seconds: How long that took.
        together: As `Scored` has it.
    """
    return Scored(
        id=piece.id,
        sum=score.sum.terms,
        weight_sum=None if score.weight_sum is None else score.weight_sum.terms,
        positives=score.positives.terms,
        count=score.count,
        pieces=[[(one.output, one.planes, one.length) for one in part] for part in score.pieces],
        seconds=seconds,
        together=together,
    )


def work_of(piece: Slice, memory: Memory) -> Work:
    """The request that a slice is of, as far as the slice knows it, ready to score."""
    arrays = {name: _array(tensor, memory) for name, tensor in piece.tensors.items()}
    grid = Grid(piece.shape, piece.axes, piece.block, growing=piece.rows is not None)
    bfloat16 = frozenset(name for name, tensor in piece.tensors.items() if tensor.dtype == "bfloat16")
    return prepare(piece.loss, piece.params, grid, arrays, bfloat16, piece.rows)


def partials_of(piece: Slice, memory: Memory) -> list[Float64Array]:
    """Where a slice's partial sums go."""
    return [
        np.frombuffer(memory.view, dtype=np.float64, count=count, offset=offset)
        for offset, count in piece.partials
    ]


def _array(tensor: Tensor, memory: Memory) -> npt.NDArray[Any]:
    """A tensor where it lies in the arena, read in place."""
    dtype = np.dtype(_NUMPY[tensor.dtype]).newbyteorder(">" if tensor.big_endian else "<")
    flat = np.frombuffer(memory.view, dtype=dtype, count=tensor.size, offset=tensor.offset)
    return flat.reshape(tensor.shape, order="F" if tensor.fortran else "C")
