"""Benchmark of the core against torch's own losses: ``make bench-core``.

Both sides score the same numbers in turn, several times, on one thread. Times are CPU times. Only the ratios
of one run are comparable. lossd computes in float64 with exact sums, torch in float32.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from bench.rivals import RIVALS, Numbers, Rival, labels
from bench.table import Figure, number, of_figures, options, table, tell
from lossd.core.catalog import LOSSES
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Kernel
from lossd.core.losses.kernel import TorchKernel
from lossd.core.native.kernel import NativeKernel
from lossd.core.parameters import check_params, losses_shape, reduced_axes
from lossd.core.prepare import prepare

ELEMENTS = 1 << 17
"""Elements of a part, as in a worker."""
SMALL, LARGE = (32, 80), (1 << 24,)
REPORTED = (16384, 80)
"""The shape whose reports are measured, in parts as a worker with two threads gets."""
SWEPT = (0.0, 1.0, 1.5, 2.0, 3.0)
REPORT_BYTES = 1 << 26
"""More than a partial report takes."""


def ours(kernel: Kernel, loss: str, given: Numbers, elements: int = ELEMENTS) -> float:
    """Return lossd's mean."""
    entry = LOSSES[loss]
    params = check_params(entry, RIVALS[loss].params)
    shape = losses_shape(entry, params, given.shape)
    work = prepare(loss, params, shape, reduced_axes(params, shape), elements, given.tensors)
    parts = [kernel.score(work, given.body, 0, index) for index in range(work.cut.parts)]
    if len(parts) == 1:
        return parts[0].loss[0] / parts[0].count
    total = ExactSum()
    for part in parts:
        total.add_all(part.loss)
    return total.value / work.cut.size


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
    small, large = labels(SMALL), labels(LARGE)
    found = [race for loss in LOSSES for race in against_rival(fast, loss)]
    params, body = check_params(LOSSES["bce"], {}), bytes(small.body)
    work = prepare("bce", params, SMALL, reduced_axes(params, SMALL), ELEMENTS, small.tensors)

    def whole_call() -> float:
        """Score as a front end does a body of a known layout."""
        found = fast.score(work, body, 0, 0)
        return found.loss[0] / found.count

    def torch_call() -> float:
        return RIVALS["bce"].mean(small)

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
    return [*found, *(against_definition(fast, slow, loss) for loss in LOSSES)]


def against_rival(fast: Kernel, loss: str) -> Iterator[Race]:
    """Yield the comparisons of a loss with the form that is written in torch."""
    rival = RIVALS[loss]
    for shape, where, times in zip(rival.shapes, (" in the cache", ""), (20, 1), strict=True):
        given = rival.make(shape)

        def theirs(given: Numbers = given) -> float:
            return rival.mean(given)

        def native(given: Numbers = given) -> float:
            return ours(fast, loss, given)

        what = f"{loss}, {_shown(shape)}{where}: {rival.title} by lossd"
        yield Race(Figure(what), theirs, native, times)


def against_definition(fast: Kernel, slow: Kernel, loss: str) -> Race:
    """Return the comparison of a loss's two definitions."""
    shape = RIVALS[loss].shapes[0]
    given = RIVALS[loss].make(shape)

    def defined() -> float:
        return ours(slow, loss, given)

    def compiled() -> float:
        return ours(fast, loss, given)

    figure = Figure(f"{loss}, {_shown(shape)}: the torch definition by the native kernel")
    return Race(figure, defined, compiled, 2)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(f"{n:,}" for n in shape)


def section_costs(kernel: Kernel, rounds: int) -> str:
    """Return the table of what each section of a report costs: ns an element, and the ratio to none."""
    given = labels(REPORTED)
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
    kernel, found = TorchKernel(device), []
    for loss, rival in RIVALS.items():
        large = rival.make(rival.shapes[1])

        def theirs(rival: Rival = rival, large: Numbers = large) -> float:
            return rival.formula(large.inputs.to(device), large.targets.to(device)).item()

        def exact(loss: str = loss, large: Numbers = large) -> float:
            return ours(kernel, loss, large, 128 * ELEMENTS)

        figure = Figure(f"{loss}, 16.7 M inputs, copies included: {rival.title} on {device} by lossd")
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
    for loss in LOSSES:
        race = next(against_rival(fast, loss))
        taken = min(seconds(race.other, race.times, race.clock) for _ in range(given.rounds))
        costs.append(f"{loss} {1e9 * taken / math.prod(RIVALS[loss].shapes[0]):.2f}")
    built = f"torch {torch.__version__}, {fast.width}; ns an input in the cache: {', '.join(costs)}."
    sections = section_costs(fast, given.rounds)
    tell("bench-core", given, built, of_figures([race.figure for race in compared]), sections)


if __name__ == "__main__":
    main()
