"""Copies of a block's tensors on the device that computes, as float64.

Bytes are copied in their own dtype, often half of float64's or less, and converted on the device. The next
block is copied while this one is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossd.core.operand import Operand

Read: TypeAlias = Callable[[Operand], Tensor]
"""Returns the elements of one of a block's tensors, float64, [n]."""


class Run(NamedTuple):
    """Elements of a tensor.

    Attributes:
        operand: The tensor.
        start: The first element, counted in C order.
        stop: The element after the last.
    """

    operand: Operand
    start: int
    stop: int


class Fetch:
    """Copies blocks to a device, on a stream of its own.

    Bytes are copied from where they lie, beside other work if that memory is pinned
    (`lossd.core.losses.pinned`). Elements that are not contiguous are first gathered in pinned memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def begin(self, runs: Sequence[Run], memory: memoryview | bytes, offset: int) -> Read:
        """Begin to copy runs of elements of a request's tensors.

        The copies belong to this stream and are used on the current one, so the caller must wait for the
        computations on a block before it drops the block.

        Args:
            runs: The tensors and their elements.
            memory: The memory that holds them.
            offset: The offset in it that theirs are counted from.
        """
        with torch.cuda.stream(self._stream):
            copies = {run.operand.name: self._copy(run, memory, offset) for run in runs}
        arrived = None if self._stream is None else self._stream.record_event()

        def read(operand: Operand) -> Tensor:
            if arrived is not None:
                torch.cuda.current_stream(self._device).wait_event(arrived)
            copy = copies[operand.name]
            return (copy.view(torch.bfloat16) if operand.tensor.dtype == "bfloat16" else copy).double()

        return read

    def _copy(self, asked: Run, memory: memoryview | bytes, offset: int) -> Tensor:
        operand = asked.operand
        run = run_of(operand.array(memory, offset), asked.start, asked.stop)
        in_place = run.flags.aligned and run.flags.writeable and run.dtype.isnative
        if not in_place:
            run = run.astype(run.dtype.newbyteorder("="))
        if operand.tensor.dtype == "bfloat16":
            run = run.view(np.int16)  # bit patterns; torch makes no uint16 a bfloat16
        there = torch.from_numpy(run)
        if self._stream is not None and not in_place:
            there = there.pin_memory(self._device)
        return there.to(self._device, non_blocking=True, copy=True)


def run_of(array: npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
    """Return the elements [start, stop) of an array, in C order; a view if they are contiguous."""
    if array.flags.c_contiguous:
        return array.reshape(-1)[start:stop]
    out = np.empty(stop - start, array.dtype)
    _copy_run(array, start, stop, out)
    return out


def _copy_run(array: npt.NDArray[Any], start: int, stop: int, out: npt.NDArray[Any]) -> None:
    """Copy a run of elements, in C order, out of an array of any strides, by few large copies."""
    if array.ndim <= 1:
        np.copyto(out, array[start:stop] if array.ndim else array)
        return
    row = array[0].size
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
        np.copyto(out[done : done + whole].reshape(last - first, *array.shape[1:]), array[first:last])
        done += whole
    if tail:
        _copy_run(array[last], 0, tail, out[done:])
