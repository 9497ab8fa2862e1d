"""A directory of Parquet files, and what one machine says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lossd.batch import Partial, Scorer

CLASSES: Final = 5
SCORER: Final = Scorer(
    "focal", gamma=2.0, sections=("classes", "histogram", "calibration"), by="camera", ids="image"
)


def write_shards(folder: Path, shards: int = 6) -> pa.Table:
    """Write shards of different lengths, the last one empty; return all rows."""
    rng = np.random.default_rng(4)
    tables = [_shard(rng, 0 if shard == shards - 1 else 40 + 13 * shard, shard) for shard in range(shards)]
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=16)
    return pa.concat_tables(tables)


def _shard(rng: np.random.Generator, rows: int, number: int) -> pa.Table:
    x = (rng.normal(0, 6, (rows, CLASSES)) * 10.0 ** rng.integers(-3, 2, (rows, CLASSES))).astype(np.float32)
    y = (rng.random((rows, CLASSES)) < 0.3).astype(np.float32)
    columns: dict[str, Any] = {
        "logits": pa.array(list(x), pa.list_(pa.float32())),
        "targets": pa.array(list(y), pa.list_(pa.float32())),
        "weight": pa.array(rng.random(rows)),
        "camera": pa.array([f"cam{i % 3}" for i in range(rows)], pa.string()),
        "image": pa.array([f"{number}/{i:04}.jpg" for i in range(rows)], pa.string()),
        "unused": pa.array([{"a": i} for i in range(rows)], pa.struct([pa.field("a", pa.int64())])),
    }
    return pa.table(columns)


def expected(table: pa.Table) -> Partial:
    """One machine's figures."""
    return SCORER.score(table)
