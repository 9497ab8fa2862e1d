"""What the core costs beside torch's own losses: ``make bench-core``.

Both sides score the same numbers in turn, several times, on one thread, by its CPU time; ratios of one run
are what counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lossd.core.catalog import LOSSES, check_params
from lossd.core.compiled import CompiledKernel
from lossd.core.grid import Grid, grid_of
from lossd.core.kernel import EagerKernel
from lossd.core.work import Work, prepare

LARGE = (1 << 24,)
SMALL = (32, 80)
GAMMA, ALPHA = 1.5, 0.25


def torch_bce(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """torch.nn.BCEWithLogitsLoss, float32."""
    return torch.nn.functional.binary_cross_entropy_with_logits(x, y)


def yolov5_focal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """YOLOv5's FocalLoss on whole tensors, float32."""
    losses = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    p = torch.sigmoid(x)
    p_t = y * p + (1 - y) * (1 - p)
    return (losses * (y * ALPHA + (1 - y) * (1 - ALPHA)) * (1.0 - p_t) ** GAMMA).mean()


def work(loss: str, shape: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> Work:
    """A request for the mean of a loss."""
    grid = Grid(shape, range(len(shape)))
    return prepare(loss, check_params(LOSSES[loss], {}), grid, {"logits": x, "targets": y})


def cpu_seconds(action: Callable[[], object], times: int = 1) -> float:
    """This thread's CPU time for an action, a time."""
    began = time.thread_time()
    for _ in range(times):
        action()
    return (time.thread_time() - began) / times


def large(kernels: list[EagerKernel], rounds: int) -> Table:
    """16,777,216 elements: ratios to torch, interleaved."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, LARGE).astype(np.float32)
    y = (rng.random(LARGE) < 0.1).astype(np.float32)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    rivals = {"bce": torch_bce, "focal": yolov5_focal}
    table = Table(
        "loss", "kernel", "torch's time / ours: median", "least", "greatest", title=f"{LARGE[0]:,} float32"
    )
    for loss, rival in rivals.items():
        job = work(loss, LARGE, x, y)
        ratios: dict[str, list[float]] = {kernel.name: [] for kernel in kernels}
        for turn in range(rounds + 1):
            theirs = cpu_seconds(lambda rival=rival: rival(*tensors))  # type: ignore[misc] # a default binds it
            for kernel in kernels:
                ours = cpu_seconds(lambda kernel=kernel, job=job: kernel.score(job, 0, job.grid.blocks))  # type: ignore[misc] # likewise
                if turn:  # the first is a warm-up
                    ratios[kernel.name].append(theirs / ours)
        for name, found in ratios.items():
            middle = statistics.median(found)
            table.add_row(loss, name, f"{middle:.2f}", f"{min(found):.2f}", f"{max(found):.2f}")
    return table


def small(kernels: list[EagerKernel], rounds: int) -> Table:
    """32x80: microseconds of CPU time in the core, from arrays and checked parameters to sums."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, SMALL).astype(np.float32)
    y = (rng.random(SMALL) < 0.1).astype(np.float32)
    title = "32x80 float32: CPU microseconds a request"
    table = Table("loss", "kernel", "alone: median", "least", "prepared before", "8 together", title=title)
    for loss in LOSSES:
        params, grid = check_params(LOSSES[loss], {}), grid_of(SMALL, (0, 1))

        def ready(loss: str = loss, params: dict[str, object] = params, grid: Grid = grid) -> Work:
            return prepare(loss, params, grid, {"logits": x, "targets": y})

        job = ready()
        for kernel in kernels:
            ways: dict[str, list[float]] = {"alone": [], "prepared": [], "together": []}
            for turn in range(rounds + 1):
                found = {
                    "alone": cpu_seconds(lambda: kernel.score(ready(), 0, 1), 500),  # noqa: B023 -- run at once
                    "prepared": cpu_seconds(lambda: kernel.score(job, 0, 1), 500),  # noqa: B023 -- as well
                    "together": cpu_seconds(
                        lambda: kernel.score_together(job, [(x, y)] * 8),  # noqa: B023 -- as well
                        100,
                    )
                    / 8,
                }
                for way, taken in found.items() if turn else ():  # the first is a warm-up
                    ways[way].append(1e6 * taken)
            middle = {way: f"{statistics.median(taken):.1f}" for way, taken in ways.items()}
            least = f"{min(ways['alone']):.1f}"
            table.add_row(loss, kernel.name, middle["alone"], least, middle["prepared"], middle["together"])
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager-only", action="store_true", help="leave the compiled kernel out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kernels = [EagerKernel()] if options.eager_only else [EagerKernel(), CompiledKernel()]
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    console.print(large(kernels, options.rounds))
    console.print(small(kernels, options.rounds))


if __name__ == "__main__":
    main()
