"""Benchmark of reading numbers from JSON bodies, against orjson and json: ``make bench-json``.

Every body is read in turn by each parser, several times, on one thread. Only the ratios of one run are
comparable. Times are CPU times, so that other load on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from lossd.wire.json.document import arena_bytes, read_in_place

ROWS, COLUMNS = 5_000, 80


def bodies() -> dict[str, bytes]:
    """Return bodies of 400,000 numbers and more, as clients write them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (ROWS, COLUMNS))
    narrow = logits.astype(np.float32)
    targets = rng.random((4 * ROWS, COLUMNS)) < 0.1
    numbers = targets.astype(int).tolist()
    mixed = {"gamma": 2.0, "logits": narrow.tolist(), "targets": numbers[:ROWS]}
    return {
        "float32, tolist()": orjson.dumps({"logits": narrow.tolist()}),
        "float32, shortest": orjson.dumps({"logits": narrow}, option=orjson.OPT_SERIALIZE_NUMPY),
        "float64": orjson.dumps({"logits": logits.tolist()}),
        "0 and 1": orjson.dumps({"targets": numbers}),
        "0 and 1, one a row": orjson.dumps({"targets": targets.astype(int).reshape(-1, 1).tolist()}),
        "booleans": orjson.dumps({"targets": targets.tolist()}),
        "booleans and numbers": orjson.dumps({"targets": [[True, 0.5] * 40, [1, False] * 40] * ROWS}),
        "logits and targets": orjson.dumps(mixed),
        "logits and targets, json.dumps": json.dumps(mixed).encode(),
        "logits and targets, indented": json.dumps(mixed, indent=2).encode(),
    }


def ours(body: bytes) -> Callable[[], dict[str, np.ndarray]]:
    """Read a body in place, as the server does, into memory that has been used before."""
    region = memoryview(bytearray(arena_bytes(len(body))))
    region[: len(body)] = body

    def read() -> dict[str, np.ndarray]:
        return {
            name: np.frombuffer(region, tensor.dtype, tensor.size, tensor.offset).reshape(tensor.shape)
            for name, tensor in read_in_place(region, len(body)).tensors.items()
        }

    return read


def theirs(body: bytes, loads: Callable[[bytes], dict[str, object]]) -> Callable[[], dict[str, np.ndarray]]:
    """Read a body as Python objects, and convert them to arrays."""

    def read() -> dict[str, np.ndarray]:
        tensors = {name: value for name, value in loads(body).items() if isinstance(value, list)}
        return {name: np.array(value) for name, value in tensors.items()}

    return read


def seconds(action: Callable[[], object]) -> float:
    """Return the CPU seconds that an action takes."""
    began = time.process_time()
    action()
    return time.process_time() - began


def measure(body: bytes, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each parser, one value for each round."""
    ways = {"ours": ours(body), "orjson": theirs(body, orjson.loads), "json": theirs(body, json.loads)}
    found = {way: read() for way, read in ways.items()}  # this warms up, too
    for arrays in found.values():
        for name, array in found["ours"].items():
            np.testing.assert_array_equal(array, arrays[name])
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, read in ways.items():
            times[way].append(seconds(read))
    return times


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    title = "MB/s: median, least, greatest; and the others' time / ours"
    table = Table("body", "MB", "MB/s", "least", "most", "orjson", "json", title=title)
    for name, body in bodies().items():
        times = measure(body, options.rounds)
        rates = [1e-6 * len(body) / each for each in times["ours"]]
        ratios = [
            statistics.median(other / own for other, own in zip(times[way], times["ours"], strict=True))
            for way in ("orjson", "json")
        ]
        rate = (statistics.median(rates), min(rates), max(rates))
        table.add_row(
            name, f"{1e-6 * len(body):.1f}", *(f"{r:.0f}" for r in rate), *(f"{r:.1f}" for r in ratios)
        )
    Console().print(table)


if __name__ == "__main__":
    main()
