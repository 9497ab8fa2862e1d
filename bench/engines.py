"""Benchmark of engines over shards, beside a server: ``make bench-engines``.

Eight parquet shards are scored in turn by Ray Data (`lossd.batch.ray`), by ``lossd score --engine local`` and
by ``lossd score`` with a server, each with all cores of this machine. The cluster and the server are up
beforehand; the processes of ``--engine local`` are started each time. Prints elements a second, and ratios to
the server's.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.table import Figure, of_figures, options, tell
from examples.local_server import LocalServer

SHARDS, CLASSES = 8, 80
BIN = Path(sys.executable).parent


def write_shards(folder: Path, rows: int) -> None:
    """Write shards of float32 logits and targets of 0 and 1."""
    random = np.random.default_rng(0)
    for shard in range(SHARDS):
        logits = random.standard_normal((rows, CLASSES), dtype=np.float32)
        targets = (random.random((rows, CLASSES), dtype=np.float32) < 0.1).astype(np.float32)
        columns = {"logits": logits, "targets": targets}
        lists = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), CLASSES)
            for name, array in columns.items()
        }
        pq.write_table(pa.table(lists), folder / f"{shard}.parquet", row_group_size=8192)


def command(folder: Path, *args: str) -> float:
    """Run `lossd score`; return the loss."""
    words = [str(BIN / "lossd"), "score", str(folder), "--loss", "focal", "--json", *args]
    done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603 - our own command
    return float(json.loads(done.stdout)["loss"])


def on_ray(folder: Path) -> float:
    """Score by Ray Data; return the loss."""
    import ray.data

    from lossd.batch import Scorer
    from lossd.batch import ray as batch

    return float(batch.score(ray.data.read_parquet(str(folder)), Scorer("focal")).result)


def main() -> None:
    """Measure, and print."""
    parser = options("engines", __doc__, rounds=5)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of a shard")
    given = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as name, LocalServer(BIN / "lossd") as server:
        folder = Path(name)
        write_shards(folder, given.rows)
        ways: dict[str, Callable[[], float]] = {
            "lossd score, a server": lambda: command(folder, "--url", server.url),
            "lossd score --engine local": lambda: command(folder, "--engine", "local"),
            "Ray Data": lambda: on_ray(folder),
        }
        figures = {way: Figure(f"{way}, million elements a second") for way in ways}
        assert len({score() for score in ways.values()}) == 1  # warm, and the same bits
        for _ in range(given.rounds):
            for way, score in ways.items():
                began = time.perf_counter()
                score()
                seconds = time.perf_counter() - began
                figures[way].found.append(SHARDS * given.rows * CLASSES / seconds / 1e6)
    ray.shutdown()
    tell("bench-engines", given, of_figures([*figures.values(), *ratios(*figures.values())]))


def ratios(first: Figure, *others: Figure) -> list[Figure]:
    """Return how many times as fast others are, round by round."""
    names = [each.what.partition(",")[0] for each in (first, *others)]
    return [
        Figure(
            f"{name} against {names[0]}",
            [its / mine for its, mine in zip(each.found, first.found, strict=True)],
        )
        for name, each in zip(names[1:], others, strict=True)
    ]


if __name__ == "__main__":
    main()
