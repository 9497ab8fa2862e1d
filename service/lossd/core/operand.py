"""A tensor of a request as the core sees it: any run of its elements, in C order, as float64.

Nothing is converted ahead of time: a bool target costs a byte an element until its block is scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.request import Float64Array


class Operand:
    """An array broadcast to the request's shape.

    Args:
        name: The tensor's name, for faults.
        array: Any layout, alignment and byte order; bfloat16 as uint16 bit patterns.
        shape: The request's shape.
        axes: The request's axis that each of the array's own lies along, ascending; by default its last ones,
            as numpy broadcasts.
        bfloat16: The elements are bfloat16 bit patterns.
        first_row: How many rows, along the first axis, the request has before these.
    """

    __slots__ = ("_array", "_axes", "_contiguous", "_first_row", "_flat", "_own_shape", "bfloat16", "name")

    def __init__(
        self,
        name: str,
        array: npt.NDArray[Any],
        shape: tuple[int, ...],
        *,
        axes: Sequence[int] | None = None,
        bfloat16: bool = False,
        first_row: int = 0,
    ) -> None:
        self.name = name
        self._first_row = first_row
        self._own_shape = array.shape
        self._axes = tuple(range(len(shape) - array.ndim, len(shape)) if axes is None else axes)
        if array.dtype == np.bool_:
            array = array.view(np.uint8)  # a byte other than 0 and 1 is then seen for what it is
        self._array = array if array.shape == shape else self._broadcast(array, shape)
        self.bfloat16 = bfloat16
        self._contiguous = self._array.flags.c_contiguous
        self._flat = self._array.reshape(-1) if self._contiguous else self._array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements, in the machine's byte order; booleans are bytes."""
        return self._array.dtype.newbyteorder("=")

    @property
    def is_float(self) -> bool:
        """Whether elements may be other than whole numbers."""
        return self.bfloat16 or self._array.dtype.kind == "f"

    def read(self, start: int, stop: int, out: Float64Array) -> None:
        """Write the elements [start, stop), counted in C order, to ``out``, [stop - start]."""
        if self.bfloat16:
            bits = np.empty(stop - start, dtype=np.uint32)
            self._copy(start, stop, bits)
            np.left_shift(bits, 16, out=bits)
            out[:] = bits.view(np.float32)
        else:
            self._copy(start, stop, out)

    def view(self, start: int, stop: int) -> npt.NDArray[Any] | None:
        """The elements [start, stop) where they lie; None where only reading makes them a row of numbers."""
        if not self._contiguous or self.bfloat16:
            return None
        flat = self._flat
        return (
            flat[start:stop] if flat.flags.aligned and flat.dtype.isnative and flat.flags.writeable else None
        )

    def pointer(self, position: int) -> str:
        """The JSON pointer of the element at ``position`` of the broadcast array, in C order."""
        index = np.unravel_index(position, self._array.shape)
        own = [0 if n == 1 else int(index[axis]) for axis, n in zip(self._axes, self._own_shape, strict=True)]
        if self._first_row and self._axes[:1] == (0,):
            own[0] += self._first_row
        return "".join(f"/{part}" for part in (self.name, *own))

    def _broadcast(self, array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        placed = [1] * len(shape)
        for axis, n in zip(self._axes, self._own_shape, strict=True):
            placed[axis] = n
        return np.broadcast_to(array.reshape(placed), shape)

    def _copy(self, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        if self._contiguous:
            np.copyto(out, self._flat[start:stop], casting="unsafe")
        else:
            _copy_run(self._array, start, stop, out)


class Positions:
    """Where along one axis each element of a shape lies, read as an `Operand` is, and nowhere laid down.

    Args:
        name: For the memory that a block of it is read into.
        shape: The request's shape.
        axis: The axis.
    """

    __slots__ = ("_inner", "_length", "name")

    def __init__(self, name: str, shape: Sequence[int], axis: int) -> None:
        self.name = name
        self._inner = math.prod(shape[axis + 1 :])
        self._length = shape[axis]

    def read(self, start: int, stop: int, out: Float64Array) -> None:
        """Write the positions of the elements [start, stop), counted in C order, to ``out``."""
        np.copyto(out, np.arange(start, stop) // self._inner % self._length)

    def view(self, start: int, stop: int) -> None:
        """None: they lie nowhere."""


def _copy_run(array: npt.NDArray[Any], start: int, stop: int, out: npt.NDArray[Any]) -> None:
    """Copy a run of elements, in C order, out of an array of any strides, in few large pieces."""
    if array.ndim <= 1:
        np.copyto(out, array[start:stop] if array.ndim else array, casting="unsafe")
        return
    row = math.prod(array.shape[1:])
    first, head = divmod(start, row)
    last, tail = divmod(stop, row)
    if first == last:  # within one row
        _copy_run(array[first], head, tail, out)
        return
    done = 0
    if head:
        done = row - head
        _copy_run(array[first], head, row, out[:done])
        first += 1
    if first < last:
        whole = (last - first) * row
        np.copyto(
            out[done : done + whole].reshape(last - first, *array.shape[1:]),
            array[first:last],
            casting="unsafe",
        )
        done += whole
    if tail:
        _copy_run(array[last], 0, tail, out[done:])
