"""A block's tensors, brought to where they are computed with, as float64, padded to whole vectors.

On a CPU they are converted where they lie, into memory that is used again (`Staged`). To another device their
bytes are copied as they are, which is often half of float64's or less, and converted there; the copies of
the next block run beside the computations of this one (`Copied`). Both give the same numbers: every
dtype's values convert in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lossd.core.grid import Block
from lossd.core.operand import Operand, Positions
from lossd.core.work import Work
from lossd.request import Float64Array

VECTOR: Final = 64
"""Blocks are padded to a multiple of this, so that no element is left to torch's scalar tail code."""

Read: TypeAlias = Callable[[Operand | Positions], Tensor]
"""Gives the elements of one of a block's tensors, float64, [n padded with zeros to whole vectors]."""


class Staged:
    """Reads a tensor when it is asked for. What is read is overwritten when the next block's is.

    Args:
        longest: The longest block, in elements.
    """

    ahead: Final = False
    """Fetching the next block early would gain nothing."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffers: dict[str, tuple[Tensor, Float64Array]] = {}

    def fetch(self, work: Work, block: Block) -> Read:
        """Begin to bring a block of a request."""
        return lambda operand: self._read(operand, block)

    def _read(self, operand: Operand | Positions, block: Block) -> Tensor:
        if operand.name not in self._buffers:
            memory = torch.zeros(self._longest, dtype=torch.float64)
            self._buffers[operand.name] = memory, memory.numpy()
        buffer, staging = self._buffers[operand.name]
        n = block.stop - block.start
        padded = _padded(n)
        operand.read(block.start, block.stop, staging[:n])
        if n < padded:
            staging[n:padded] = 0.0
        return buffer[:padded]


class Copied:
    """Copies a block's bytes to a device, on a stream of its own, as soon as the block is named.

    They are read where they lie, which is beside other work if that memory is pinned (`lossd.core.pinned`).
    What cannot be read in place is staged in pinned memory, in turn in two places for each tensor, so that
    the one is written while the other is copied from.

    On a CPU all is done in order, and gives the same.

    Args:
        device: The device.
        longest: The longest block, in elements.
    """

    ahead: Final = True

    def __init__(self, device: torch.device, longest: int) -> None:
        self._device = device
        self._longest = longest
        self._stream = _stream(device) if device.type == "cuda" else None
        self._places: dict[tuple[str, int], _Place] = {}
        self._turn = 0

    def fetch(self, work: Work, block: Block) -> Read:
        """Begin to bring a block of a request.

        The copies' memory belongs to the stream of the copies, and is used on the current one: whoever reads
        a block waits for what is computed of it before letting go of it. A copy of a block that is not read
        after all may read what is another's by then, and nobody looks at it.
        """
        self._turn = 1 - self._turn
        with torch.cuda.stream(self._stream):
            copies = {operand.name: self._copy(operand, block) for operand in work.operands}
        arrived = None if self._stream is None else self._stream.record_event()
        n = block.stop - block.start

        def read(operand: Operand | Positions) -> Tensor:
            if arrived is not None:
                torch.cuda.current_stream(self._device).wait_event(arrived)
            return _widened(copies[operand.name], n)

        return read

    def _copy(self, operand: Operand | Positions, block: Block) -> Tensor:
        there = operand.view(block.start, block.stop)
        if there is not None:
            return torch.from_numpy(there).to(self._device, non_blocking=True, copy=True)
        place = self._places.setdefault((operand.name, self._turn), _Place(self._longest, self._stream))
        return place.copy(operand, block, self._device)


class _Place:
    """Memory to stage a block in.

    Args:
        longest: The longest block, in elements.
        stream: The stream that it is copied from on; None on a CPU.
    """

    def __init__(self, longest: int, stream: torch.cuda.Stream | None) -> None:
        self._longest = longest
        self._stream = stream
        self._buffer: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def copy(self, operand: Operand | Positions, block: Block, device: torch.device) -> Tensor:
        """A block's elements as float64, on their way to a device."""
        if self._buffer is None:
            pinned = self._stream is not None
            self._buffer = torch.empty(self._longest, dtype=torch.float64, pin_memory=pinned)
        if self._copied is not None:
            self._copied.synchronize()
        staged = self._buffer[: block.stop - block.start]
        operand.read(block.start, block.stop, staged.numpy())
        copy = staged.to(device, non_blocking=True, copy=True)
        if self._stream is not None:
            self._copied = self._stream.record_event()
        return copy


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's


def _padded(n: int) -> int:
    return -(-n // VECTOR) * VECTOR


def _widened(values: Tensor, n: int) -> Tensor:
    """float64, padded with zeros to whole vectors."""
    if n % VECTOR == 0:
        return values.double()
    padded = torch.zeros(_padded(n), dtype=torch.float64, device=values.device)
    padded[:n] = values
    return padded
