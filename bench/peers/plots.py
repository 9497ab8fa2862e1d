"""Plots of a run, drawn in an environment that has matplotlib: ``python plots.py RUN.json FOLDER``."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


def draw(found: dict[str, Any], size: str, path: Path) -> None:
    """Requests a second on 16 connections (1 for the largest), a bar a server and form."""
    connections = 1 if size.startswith("262") else 16
    rates: dict[str, list[float]] = {}
    for one in found["rounds"]:
        for cell in one["cells"]:
            if cell["size"] == size and cell["connections"] == connections:
                rates.setdefault(f"{cell['server']}: {cell['form']}", []).append(cell["rate"])
    bars = sorted(((statistics.median(value), name, value) for name, value in rates.items()))
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.3 * len(bars)), layout="constrained")
    middle = [bar[0] for bar in bars]
    errors = [
        [bar[0] - min(bar[2]) for bar in bars],
        [max(bar[2]) - bar[0] for bar in bars],
    ]
    axes.barh([bar[1] for bar in bars], middle, xerr=errors)
    axes.set_xscale("log")
    axes.set_xlabel(f"requests/s of {size} float32, {connections} connections")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    plt.rcParams["svg.hashsalt"] = "lossd"
    run = json.loads(Path(sys.argv[1]).read_text())
    for name, word in (("32x80", "small"), ("4,096x80", "middle"), ("262,144x80", "large")):
        draw(run, name, Path(sys.argv[2]) / f"performance-{word}.svg")
