"""What becomes of many losses, whose number grows with the rows: a file, figures of them, or an array."""

import math
import os
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client import LossResult

_HEADER: Final = 128  # bytes; written at the end, when the number of rows is known


def part_of(path: Path) -> Path:
    """Where a file lies until all of it is there."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{os.getpid()}.part")


class LossFile:
    """A float64 .npy file, written as losses come. It has its name only when all of it is there."""

    def __init__(self, path: Path) -> None:
        self._path, self.part = path.resolve(), part_of(path)
        self._shape: tuple[int, ...] = ()
        self._file: BinaryIO = self.part.open("wb")
        self._file.write(bytes(_HEADER))

    def add(self, losses: NDArray[np.float64]) -> None:
        """Writes losses behind those before."""
        rows = self._shape[0] if self._shape else 0
        self._shape = (rows + losses.shape[0], *losses.shape[1:])
        self._file.write(np.ascontiguousarray(losses, dtype="<f8").reshape(-1).view(np.uint8).data)

    def finish(self) -> None:
        """Gives the file its name."""
        about = repr({"descr": "<f8", "fortran_order": False, "shape": self._shape}).encode()
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER - 10)
        self._file.seek(0)
        self._file.write(start + about.ljust(_HEADER - 11) + b"\n")
        self._file.close()
        self.part.replace(self._path)

    def discard(self) -> None:
        """Removes what was written, unless it has its name already."""
        self._file.close()
        with suppress(OSError):
            self.part.unlink()


class Losses:
    """The losses of all blocks, if they come as arrays of rows.

    Args:
        file: Where they are written to.
        keeps: Whether the result shall have them; it takes memory for all of them.
    """

    def __init__(self, file: LossFile | None, keeps: bool) -> None:
        self._file, self._keeps = file, keeps
        self.shape: tuple[int, ...] = ()
        self.smallest, self.largest = math.inf, -math.inf
        self._sums: list[float] = []

    @property
    def mean(self) -> float:
        """The mean of the losses."""
        return math.fsum(self._sums) / math.prod(self.shape)

    def take(self, result: LossResult) -> LossResult:
        """Takes a block's result, and gives what is to be kept of it."""
        losses = result.loss
        if not isinstance(losses, np.ndarray):
            return result
        rows = self.shape[0] if self.shape else 0
        self.shape = (rows + losses.shape[0], *losses.shape[1:])
        if losses.size:
            # A NaN anywhere shall show.
            self.smallest = float(np.minimum(self.smallest, losses.min()))
            self.largest = float(np.maximum(self.largest, losses.max()))
            self._sums.append(float(losses.sum()))
        if self._file is not None:
            self._file.add(losses)
        return result if self._keeps else replace(result, loss=np.empty((0, *losses.shape[1:])))
