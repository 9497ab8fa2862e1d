"""What tasks and actors of the tests run: some of it ends its process, once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lossd.batch import Partial, Scorer


def die_once(block: pa.Table, marker: str) -> pa.Table:
    """Return the block; the first to come here kills its process instead."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return block
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def slowly(block: pa.Table, folder: str) -> pa.Table:
    """Return the block after a while, and leave a file for it."""
    time.sleep(0.3)
    Path(folder, f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return block


def without_image(block: pa.Table, image: int) -> pa.Table:
    """Return the block, or nothing of the one that has an image."""
    return block.slice(0, 0) if image in block["image"].to_pylist() else block


class MortalScorer(Scorer):
    """A scorer that kills the first process that uses it."""

    def __init__(self, marker: str, **arguments: Any) -> None:  # noqa: ANN401 - as it
        super().__init__(**arguments)
        self._marker, self._given = marker, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _mortal, (self._marker, self._given)

    def _score(self, batches: Iterable[pa.RecordBatch]) -> Partial:
        die_once(pa.table({}), self._marker)
        return super()._score(batches)


def _mortal(marker: str, arguments: dict[str, Any]) -> MortalScorer:
    return MortalScorer(marker, **arguments)
