"""A tensor of a request, broadcast to the request's shape by strides. No bytes are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd.types import FLOATS, ITEMSIZE, Tensor

_NUMPY: Final = {
    "float16": "f2",
    "bfloat16": "u2",  # bit patterns
    "float32": "f4",
    "float64": "f8",
    "bool": "u1",  # so that bytes other than 0 and 1 are detected
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
}


class Operand(NamedTuple):
    """A tensor, broadcast to the request's shape.

    Attributes:
        name: The tensor's name.
        tensor: The tensor.
        shape: The request's shape.
        axes: The request's axis for each axis of the tensor.
        strides: Bytes from one element to the next along each of the request's axes; 0 where it repeats.
        first_row: Number of rows, along the first axis, that a stream had before these.
    """

    name: str
    tensor: Tensor
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    strides: tuple[int, ...]
    first_row: int

    def with_axes(self, order: Sequence[int], added: int = 0) -> Operand:
        """Return the same over the request's axes in another order.

        Args:
            order: The axes in that order.
            added: How many axes of length 1 to put before them.
        """
        place = {axis: added + at for at, axis in enumerate(order)}
        return self._replace(
            shape=(1,) * added + tuple(self.shape[axis] for axis in order),
            axes=tuple(place[axis] for axis in self.axes),
            strides=(0,) * added + tuple(self.strides[axis] for axis in order),
        )

    @property
    def is_float(self) -> bool:
        """Whether its dtype is a float."""
        return self.tensor.dtype in FLOATS

    def array(self, memory: memoryview | bytes, offset: int) -> npt.NDArray[Any]:
        """Return a view of the elements, of the request's shape; bfloat16 as bit patterns."""
        dtype = np.dtype(_NUMPY[self.tensor.dtype]).newbyteorder(">" if self.tensor.big_endian else "<")
        return np.ndarray(self.shape, dtype, memory, offset + self.tensor.offset, self.strides)

    def pointer(self, position: int) -> str:
        """Return the JSON pointer of the element at a position in the request's shape, in C order."""
        index = np.unravel_index(position, self.shape)
        own = [
            0 if n == 1 else int(index[axis]) for axis, n in zip(self.axes, self.tensor.shape, strict=True)
        ]
        if self.axes[:1] == (0,) and self.tensor.shape[:1] != (1,):
            own[0] += self.first_row
        return "".join(f"/{part}" for part in (self.name, *own))


def spread(
    name: str, tensor: Tensor, shape: tuple[int, ...], axes: Sequence[int] | None = None, first_row: int = 0
) -> Operand:
    """Broadcast a tensor to a request's shape.

    Args:
        name: The tensor's name.
        tensor: The tensor.
        shape: The request's shape, to which it is known to broadcast.
        axes: The request's axis for each of its axes; by default the last ones, as in numpy.
        first_row: As in `Operand`.
    """
    own = tensor.shape
    placed = tuple(range(len(shape) - len(own), len(shape)) if axes is None else axes)
    strides = [0] * len(shape)
    step = ITEMSIZE[tensor.dtype]
    for place in range(len(own)) if tensor.fortran else reversed(range(len(own))):
        if own[place] != 1:
            strides[placed[place]] = step
        step *= own[place]
    return Operand(name, tensor, shape, placed, tuple(strides), first_row)


def merged(operand: Operand) -> tuple[list[int], list[int]]:
    """Return the fewest axes, as lengths and strides, with the same elements in the same order."""
    lengths: list[int] = []
    strides: list[int] = []
    for n, stride in zip(operand.shape, operand.strides, strict=True):
        if n == 1:
            continue
        if lengths and strides[-1] == stride * n:
            lengths[-1] *= n
            strides[-1] = stride
        else:
            lengths.append(n)
            strides.append(stride)
    return (lengths, strides) if lengths else ([math.prod(operand.shape)], [0])
