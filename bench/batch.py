"""What a cluster's run is made of: ``make bench-batch``.

On one thread, in CPU time: scoring a table, reading it from a Parquet file, and merging partials from bytes,
as a driver does. docs/how-to/scaling.md reckons with these figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.table import Figure, number, options, table, tell
from lossd.batch import Scorer, merge

ROWS, CLASSES, GROUPS = 16_384, 80, 100
MERGED: Final = 100
"""Partials that are merged at a time."""


class Setup(NamedTuple):
    """A question, and what is measured of it.

    Attributes:
        scorer: The question.
        score: Nanoseconds an element.
        merge: Milliseconds a partial.
    """

    scorer: Scorer
    score: Figure
    merge: Figure


def rows() -> pa.Table:
    """Return float32 logits and uint8 targets of 80 classes, with groups and ids."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 3, ROWS * CLASSES).astype(np.float32), rng.random(ROWS * CLASSES) < 0.1
    columns: dict[str, Any] = {
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(x), CLASSES),
        "targets": pa.FixedSizeListArray.from_arrays(pa.array(y.astype(np.uint8)), CLASSES),
        "camera": [f"camera {i % GROUPS}" for i in range(ROWS)],
        "image": [f"{i:08}.jpg" for i in range(ROWS)],
    }
    return pa.table(columns)


def setups() -> dict[str, Setup]:
    """Return the questions."""
    asked: dict[str, dict[str, Any]] = {
        "the loss alone": {},
        f"{CLASSES} classes": {"sections": "classes"},
        f"{GROUPS} groups": {"by": "camera"},
        f"{GROUPS} groups of {CLASSES} classes": {"by": "camera", "sections": "classes"},
        "top 20 by ids, histogram, calibration": {"ids": "image", "sections": ("histogram", "calibration")},
    }
    return {
        name: Setup(Scorer("focal", **its), Figure("score"), Figure("merge")) for name, its in asked.items()
    }


def seconds(call: Callable[[], object]) -> float:
    """Return the CPU time that a call takes."""
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    """Measure all of it in turn, and print the table."""
    given = options("batch", __doc__, rounds=7).parse_args()
    whole, found, reading = rows(), setups(), Figure("read")
    partials = {name: setup.scorer.score(whole).to_bytes() for name, setup in found.items()}
    pa.set_cpu_count(1)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        pq.write_table(whole, file)
        for _ in range(given.rounds):
            taken = seconds(lambda: pq.read_table(file, columns=["logits", "targets"], use_threads=False))
            reading.found.append(1e9 * taken / (ROWS * CLASSES))
            for name, setup in found.items():
                scoring, merging = setup.scorer.score, [partials[name]] * MERGED
                setup.score.found.append(1e9 * seconds(lambda: scoring(whole)) / (ROWS * CLASSES))  # noqa: B023
                setup.merge.found.append(1e3 * seconds(lambda: merge(merging)) / MERGED)  # noqa: B023
    lines = [
        (name, setup.score.row()[1], number(len(partials[name]) / 1e3), setup.merge.row()[1])
        for name, setup in found.items()
    ]
    lines.append(("reading Parquet", reading.row()[1], "", ""))
    tell("bench-batch", given, table(("what", "ns an element", "kB a partial", "merging it, ms"), lines))


if __name__ == "__main__":
    main()
