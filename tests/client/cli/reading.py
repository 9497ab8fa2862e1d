"""Reads a column of a file in blocks, as the command does."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.formats import open_file


def read(
    path: Path | str, name: str = "", kind: Kind = Kind.NUMBER, *, nulls: bool = False, rows: int = 3
) -> NDArray[Any]:
    column = Column(name, kind, nulls)
    blocks = [block[column] for block in open_file(str(path)).blocks([column], rows)]
    assert len({block.dtype for block in blocks}) == 1
    whole = open_file(str(path)).whole(column)
    joined: NDArray[Any] = np.concatenate(blocks)
    np.testing.assert_array_equal(joined, whole, strict=True)
    return joined
