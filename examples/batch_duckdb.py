"""Score what a query of DuckDB gives, however large: rows stream through, and only sums are kept.

    python examples/batch_duckdb.py 'shards/*.parquet'

The files have columns `logits` and `targets`, lists with an item a class, and `camera`.
"""

import sys

import duckdb

from lossd.batch import Scorer

files = sys.argv[1]
scorer = Scorer("focal", gamma=2.0, sections="classes", by="camera")
rows = duckdb.sql(
    "SELECT logits, targets, camera FROM read_parquet(?) WHERE camera <> 'test'", params=[files]
)
partial = scorer.score(rows)

print(float(partial.result), partial.rows)
assert partial.report is not None  # groups were asked for
for camera, group in partial.report.groups.items():
    print(camera, group.mean)
