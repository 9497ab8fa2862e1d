"""Stage 6 of `lossd score`: losses of rows, written to the file of --out and summarised for printing."""

import csv
import io
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import typer
from numpy.typing import NDArray

from lossd_client import LossResult
from lossd_client.cli.part_file import PartFile, is_special, writing
from lossd_client.cli.scoring.groups import texts_of

FIGURES: Final = ("loss", "sum", "count", "weight_sum", "positives")
"""The figures of groups in tables."""

_HEADER: Final = 128  # bytes; written at the end, when the number of rows is known
_ROWS: Final = 1 << 14  # that are made text at a time


class LossFile(PartFile):
    """A float64 .npy file, written as losses come. It gets its name when it is complete.

    Args:
        path: Its name.
        axes: The axes of the inputs that the losses have.
    """

    suffix: ClassVar = ".npy"

    def __init__(self, path: Path, axes: Sequence[int] = ()) -> None:
        super().__init__(path)
        self._axes = axes
        self._shape: tuple[int, ...] | None = None
        self._begin()

    def add(self, losses: NDArray[np.float64]) -> None:
        """Write losses behind those before."""
        rows = self._shape[0] if self._shape else 0
        self._write(losses, rows)
        self._shape = (rows + losses.shape[0], *losses.shape[1:]) if losses.ndim else ()

    def finish(self, about: Mapping[str, Any]) -> None:
        """Give the file its name.

        Args:
            about: The rest of the answer.
        """
        self._end(about)
        self.publish()

    def _begin(self) -> None:
        self._file.write(bytes(_HEADER))

    def _write(self, losses: NDArray[np.float64], row: int) -> None:
        self._file.write(np.ascontiguousarray(losses, dtype="<f8").reshape(-1).view(np.uint8).data)

    def _end(self, about: Mapping[str, Any]) -> None:
        header = repr({"descr": "<f8", "fortran_order": False, "shape": self._shape or ()}).encode()
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER - 10)
        self._file.seek(0)
        self._file.write(start + header.ljust(_HEADER - 11) + b"\n")


class CsvLossFile(LossFile):
    """A text table: a loss a line, after its indices; or a group a line."""

    suffix: ClassVar = ".csv"

    def _begin(self) -> None:
        pass  # the first line tells whether these are losses of rows, or of groups

    def _write(self, losses: NDArray[np.float64], row: int) -> None:
        if self._shape is None:
            self._lines([[*("row" if axis == 0 else f"axis{axis}" for axis in self._axes), "loss"]])
        if losses.ndim == 0:
            self._lines([[repr(float(losses))]])
            return
        for start in range(0, len(losses), _ROWS):
            part = losses[start : start + _ROWS]
            places = np.indices(part.shape).reshape(part.ndim, -1)
            places[0] += row + start
            self._lines(zip(*places.tolist(), map(repr, part.reshape(-1).tolist()), strict=True))

    def _lines(self, rows: Any) -> None:  # noqa: ANN401 - rows of whatever csv writes
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())

    def _end(self, about: Mapping[str, Any]) -> None:
        if "groups" not in about:
            return
        by = about["by"] if isinstance(about["by"], list) else [about["by"]]
        figures = FIGURES if about["groups"] else FIGURES[:1]
        self._lines([[*by, *figures]])
        keys = [tuple(key) if isinstance(key := group["group"], list) else key for group in about["groups"]]
        for texts, group in zip(texts_of(keys), about["groups"], strict=True):
            self._lines([[*texts, *(group[name] for name in figures)]])


class JsonLossFile(LossFile):
    """The JSON object that --json prints, with the losses as nested lists."""

    suffix: ClassVar = ".json"

    def _begin(self) -> None:
        self._file.write(b'{"loss": ')
        self._mark = b"["

    def _write(self, losses: NDArray[np.float64], row: int) -> None:
        if losses.ndim == 0:
            self._file.write(_json(losses))
            return
        for start in range(0, len(losses), _ROWS):
            self._file.write(self._mark + _json(losses[start : start + _ROWS])[1:-1])
            self._mark = b", "

    def _end(self, about: Mapping[str, Any]) -> None:
        if self._shape:
            self._file.write(b"]" if self._mark == b", " else b"[]")
        elif self._shape is None:
            self._file.write(json.dumps(about["loss"], allow_nan=False).encode())
        rest = json.dumps({name: value for name, value in about.items() if name != "loss"}, allow_nan=False)
        self._file.write(b", " + rest[1:].encode() + b"\n")


def _json(losses: NDArray[np.float64]) -> bytes:
    values: Any = losses.tolist()
    if not np.isfinite(losses).all():
        words = np.array(losses, dtype=object)
        words[np.isnan(losses)] = "NaN"
        words[losses == math.inf] = "Infinity"
        words[losses == -math.inf] = "-Infinity"
        values = words.tolist()
    return json.dumps(values).encode()


_FILES: Final = {kind.suffix: kind for kind in (LossFile, CsvLossFile, JsonLossFile)}


def check_out(path: Path) -> None:
    """Refuse a name without a known suffix, before anything is scored."""
    if not is_special(path) and path.suffix.lower() not in _FILES:
        raise typer.BadParameter(
            f"--out {path}: its name must end in {', '.join(_FILES)}, which says what is written"
        )


def refuse_groups(path: Path) -> None:
    """Refuse an array file for losses of groups."""
    if path.suffix.lower() not in (CsvLossFile.suffix, JsonLossFile.suffix):
        raise typer.BadParameter(
            f"--out {path}: an array cannot say which group a loss is of; name a .csv or .json"
        )


@contextmanager
def open_out(path: Path | None, axes: Sequence[int]) -> Iterator[LossFile | None]:
    """Yield the file of --out, if there is one; remove it if it is not finished."""
    if path is None:
        yield None
        return
    with writing(path):
        file = _FILES.get(path.suffix.lower(), LossFile)(path, axes)
        try:
            yield file
        finally:
            file.discard()


class Losses:
    """The losses of all blocks: their shape, range and mean.

    Args:
        file: The file of --out.
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
        """Add the losses of some rows, and return the result without them unless they are kept."""
        self.add(result)
        if self._keeps or not isinstance(result.loss, np.ndarray):
            return result
        return replace(result, loss=np.empty((0, *result.loss.shape[1:])))

    def add(self, result: LossResult) -> None:
        """Add all losses, or those of the next rows."""
        losses = np.asarray(result.loss, dtype=np.float64)
        if losses.ndim:
            rows = self.shape[0] if self.shape else 0
            self.shape = (rows + losses.shape[0], *losses.shape[1:])
        if losses.size:
            # A NaN anywhere shall show.
            self.smallest = float(np.minimum(self.smallest, losses.min()))
            self.largest = float(np.maximum(self.largest, losses.max()))
            self._sums.append(float(losses.sum()))
        if self._file is not None:
            self._file.add(losses)
