"""Score a directory of Parquet files with polars, some files at a time, and merge what they give.

    python examples/batch_polars.py shards

The files have columns `logits` and `targets`, lists with an item a class, and `camera`. Threads suffice: the
kernel holds no lock of the interpreter.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from lossd.batch import Partial, Scorer, merge

files = sorted(Path(sys.argv[1]).glob("*.parquet"))
scorer = Scorer("focal", gamma=2.0, sections="classes", by="camera")


def score(file: Path) -> Partial:
    """Score one file; only the columns that are needed are read."""
    return scorer.score(pl.read_parquet(file, columns=scorer.select(pl.read_parquet_schema(file))))


rows = pl.scan_parquet(files).select(pl.len()).collect().item()
with ThreadPoolExecutor(os.cpu_count()) as pool:
    partial = merge(pool.map(score, files), rows=rows)

print(float(partial.result), partial.rows)
assert partial.report is not None  # groups were asked for
for camera, group in partial.report.groups.items():
    print(camera, group.mean)
