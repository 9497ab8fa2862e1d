"""Benchmark of the core against torch's own losses: ``make bench-core``.

Both sides score the same numbers in turn, several times, on one thread. Times are CPU times. Only the ratios
of one run are comparable. lossd computes in float64 with exact sums, torch in float32.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bench.table import Figure, number, of_figures, options, table, tell
from lossd.core.catalog import LOSSES
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Kernel
from lossd.core.losses.kernel import TorchKernel
from lossd.core.native.kernel import NativeKernel
from lossd.core.parameters import check_params, reduced_axes
from lossd.core.prepare import prepare
from lossd.types import Tensor

ELEMENTS = 1 << 17
"""Elements of a part, as in a worker."""
SMALL, CACHED, LARGE = (32, 80), (4096, 80), (1 << 24,)
GAMMA, ALPHA = 1.5, 0.25
REPORTED = (16384, 80)
"""The shape whose reports are measured, in parts as a worker with two threads gets."""
SWEPT = (0.0, 1.0, 1.5, 2.0, 3.0)
REPORT_BYTES = 1 << 26
"""More than a partial report takes."""

Array = npt.NDArray[Any]


class Numbers(NamedTuple):
    """Numbers to score: a body for lossd, and the same numbers as tensors for torch."""

    shape: tuple[int, ...]
    body: memoryview
    tensors: dict[str, Tensor]
    logits: torch.Tensor
    targets: torch.Tensor


def numbers(shape: tuple[int, ...]) -> Numbers:
    """Return float32 logits and 0/1 targets."""
    rng = np.random.default_rng(0)
    body = np.stack([rng.normal(0, 3, shape), rng.random(shape) < 0.1]).astype(np.float32)
    tensors = {
        name: Tensor("float32", shape, offset)
        for name, offset in (("logits", 0), ("targets", body.nbytes // 2))
    }
    logits, targets = torch.from_numpy(body)
    return Numbers(shape, memoryview(body.data).cast("B"), tensors, logits, targets)


def ours(kernel: Kernel, loss: str, given: Numbers, elements: int = ELEMENTS) -> float:
    """Return lossd's mean."""
    params = check_params(LOSSES[loss], {})
    work = prepare(loss, params, given.shape, reduced_axes(params, given.shape), elements, given.tensors)
    parts = [kernel.score(work, given.body, 0, index) for index in range(work.cut.parts)]
    if len(parts) == 1:
        return parts[0].loss[0] / parts[0].count
    total = ExactSum()
    for part in parts:
        total.add_all(part.loss)
    return total.value / work.cut.size


def torch_bce(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the mean of torch.nn.BCEWithLogitsLoss, float32."""
    return torch.nn.functional.binary_cross_entropy_with_logits(x, y).item()


def yolov5_focal(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the mean of YOLOv5's FocalLoss, float32."""
    losses = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    p = torch.sigmoid(x)
    p_t = y * p + (1 - y) * (1 - p)
    return (losses * (y * ALPHA + (1 - y) * (1 - ALPHA)) * (1.0 - p_t) ** GAMMA).mean().item()


def seconds(action: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    """Return the average seconds that an action takes, by a clock."""
    began = clock()
    for _ in range(times):
        action()
    return (clock() - began) / times


class Race(NamedTuple):
    """Two actions, the number of repetitions, and the ratio of the first's time to the second's."""

    figure: Figure
    one: Callable[[], object]
    other: Callable[[], object]
    times: int
    clock: Callable[[], float] = time.thread_time

    def run(self, turn: int) -> None:
        """Measure both, each first in every other turn."""
        taken = {}
        for action in (self.one, self.other) if turn % 2 else (self.other, self.one):
            taken[action] = seconds(action, self.times, self.clock)
        self.figure.found.append(taken[self.one] / taken[self.other])


def races(fast: Kernel, slow: Kernel) -> list[Race]:
    """Return the comparisons."""
    small, cached, large = numbers(SMALL), numbers(CACHED), numbers(LARGE)
    found = []
    for loss, rival in (("bce", torch_bce), ("focal", yolov5_focal)):
        name = "torch's float32 BCE" if loss == "bce" else "YOLOv5's formula in torch"
        for what, given, times in (("4,096x80 in the cache", cached, 20), ("16.7 M elements", large, 1)):

            def theirs(rival: Callable[..., float] = rival, given: Numbers = given) -> float:
                return rival(given.logits, given.targets)

            def native(loss: str = loss, given: Numbers = given) -> float:
                return ours(fast, loss, given)

            found.append(Race(Figure(f"{loss}, {what}: {name} by lossd"), theirs, native, times))

    params, body = check_params(LOSSES["bce"], {}), bytes(small.body)
    work = prepare("bce", params, SMALL, reduced_axes(params, SMALL), ELEMENTS, small.tensors)

    def whole_call() -> float:
        """Score as a front end does a body of a known layout."""
        found = fast.score(work, body, 0, 0)
        return found.loss[0] / found.count

    def torch_call() -> float:
        return torch_bce(small.logits, small.targets)

    found.append(
        Race(
            Figure("bce, 32x80, a call for a body of a known layout: torch's float32 BCE by lossd"),
            torch_call,
            whole_call,
            2000,
        )
    )
    two = NativeKernel(2)

    def on_one() -> float:
        return ours(fast, "focal", large, 2 * ELEMENTS)

    def on_two() -> float:
        return ours(two, "focal", large, 2 * ELEMENTS)

    figure = Figure("focal, 16.7 M elements, by the clock: one thread by two")
    found.append(Race(figure, on_one, on_two, 1, time.perf_counter))
    for loss in LOSSES:

        def defined(loss: str = loss) -> float:
            return ours(slow, loss, cached)

        def compiled(loss: str = loss) -> float:
            return ours(fast, loss, cached)

        found.append(
            Race(Figure(f"{loss}, 4,096x80: the torch definition by the native kernel"), defined, compiled, 2)
        )
    return found


def section_costs(kernel: Kernel, rounds: int) -> str:
    """Return the table of what each section of a report costs: ns an element, and the ratio to none."""
    given = numbers(REPORTED)
    report = memoryview(bytearray(REPORT_BYTES))
    rows = []
    for section in ("", "totals", "classes", "top", "histogram", "calibration", "sweep", "all"):
        cells = [section or "no report"]
        for loss in ("bce", "focal"):
            costs = [
                (
                    _section_cost(kernel, loss, given, "", report),
                    _section_cost(kernel, loss, given, section, report),
                )
                for _ in range(rounds)
            ]
            ratio = statistics.median(cost / plain for plain, cost in costs)
            cells += [number(1e9 * min(cost for _, cost in costs)), number(ratio)]
        rows.append(tuple(cells))
    return table(("section, with totals", "bce, ns", "ratio", "focal, ns", "ratio"), rows)


def _section_cost(kernel: Kernel, loss: str, given: Numbers, section: str, report: memoryview) -> float:
    """Return the CPU seconds of an element."""
    asked: dict[str, object] = {"report": [section]} if section else {}
    if section == "sweep" and loss == "focal":
        asked["sweep"] = list(SWEPT)
    params = {**check_params(LOSSES[loss], {}), **asked}
    axes = reduced_axes(params, given.shape)
    work = prepare(loss, params, given.shape, axes, 4 * ELEMENTS, given.tensors)
    began = time.thread_time()
    for index in range(work.cut.parts):
        kernel.score(work, given.body, 0, index, report=report if section else None)
    return (time.thread_time() - began) / math.prod(given.shape)


def on_device(device: str) -> list[Race]:
    """Return the comparisons of the torch definition with torch's own losses on a device, copies included."""
    kernel, large = TorchKernel(device), numbers(LARGE)
    found = []
    for loss, rival in (("bce", torch_bce), ("focal", yolov5_focal)):

        def theirs(rival: Callable[..., float] = rival) -> float:
            return rival(large.logits.to(device), large.targets.to(device))

        def exact(loss: str = loss) -> float:
            return ours(kernel, loss, large, 128 * ELEMENTS)

        figure = Figure(f"{loss}, 16.7 M elements, copies included: torch's float32 on {device} by lossd")
        found.append(Race(figure, theirs, exact, 1, time.perf_counter))
    return found


def main() -> None:
    """Measure and print."""
    parser = options("core", __doc__, rounds=9)
    parser.add_argument("--width", help="vector instructions to use, such as avx2; the widest by default")
    parser.add_argument(
        "--device", help="measure the torch definition here, too; a CUDA device, if there is one"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    fast = NativeKernel(width=given.width)
    compared = races(fast, TorchKernel())
    if given.device or torch.cuda.is_available():
        compared += on_device(given.device or "cuda:0")
    for race in compared:
        race.run(0)  # a warm-up
        race.figure.found.clear()
    for turn in range(given.rounds):
        for race in compared:
            race.run(turn)
    costs = []
    for loss, race in zip(LOSSES, compared[::2], strict=False):
        taken = min(seconds(race.other, race.times, race.clock) for _ in range(given.rounds))
        costs.append(f"{loss} {1e9 * taken / math.prod(CACHED):.2f}")
    built = f"torch {torch.__version__}, {fast.width}; ns an element of 4,096x80: {', '.join(costs)}."
    sections = section_costs(fast, given.rounds)
    tell("bench-core", given, built, of_figures([race.figure for race in compared]), sections)


if __name__ == "__main__":
    main()
