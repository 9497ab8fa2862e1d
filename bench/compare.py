"""Benchmark of comparisons: ``make bench-compare``.

The CPU time of ``lossd compare`` of two models' files, divided by that of ``lossd report`` of one model's, in
turn: the command's own and that of all of the server's processes. With ``--out`` it has all sections of that
report. Then what the gate says of models that are as good as the baseline, worse by the bound, and worse by
twice the bound.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.memory import cpu_seconds, family
from bench.servers import ROOT, Running, lossd
from bench.table import Figure, number, options, table, tell

Array = npt.NDArray[Any]

IMAGES: Final = (64, 8400, 80)
LOSSES: Final[Mapping[str, tuple[str, ...]]] = {"bce": (), "focal": ("--loss", "focal", "--gamma", "2")}
BOUND: Final = 0.005
"""The relative regression that the gate lets pass."""
SHIFT: Final = 0.01
"""How much images differ by chance: the standard deviation of what is added to an image's logits."""
_REGRESSED: Final = 4
"""The exit status of a regression."""
MODELS: Final[Mapping[str, float]] = {
    "as good as the baseline": 0.0,
    "worse by the bound": 1.0,
    "worse by twice the bound": 2.0,
}
"""The models that the gate judges, by how many times the bound they are worse."""


class Cost(NamedTuple):
    """CPU seconds of a command and of the server's processes for it."""

    client: float
    server: float

    @property
    def both(self) -> float:
        """Both together."""
        return self.client + self.server


@dataclass(slots=True)
class Costs:
    """What reports of one model and of two cost.

    Attributes:
        loss: The loss.
        one: CPU seconds of one model's report.
        two: Those of both models' with the comparison, divided by these; one for each round.
        server: The same of the server's processes alone.
        gate: As `two`, of the comparison alone.
    """

    loss: str
    one: Figure = field(default_factory=lambda: Figure("one"))
    two: Figure = field(default_factory=lambda: Figure("two"))
    server: Figure = field(default_factory=lambda: Figure("server"))
    gate: Figure = field(default_factory=lambda: Figure("gate"))

    def add(self, one: Cost, two: Cost, gate: Cost) -> None:
        """Add a round."""
        self.one.found.append(one.both)
        self.two.found.append(two.both / one.both)
        self.server.found.append(two.server / one.server)
        self.gate.found.append(gate.both / one.both)

    def row(self) -> tuple[str, ...]:
        """Return its row of the table."""
        cells = [one.row()[1:] for one in (self.one, self.two, self.server, self.gate)]
        return (self.loss, *(f"{median} ({spread})" for median, spread in cells))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files of two models' logits, float16, and of their targets, bool, in a folder."""

    folder: Path
    logits: Array
    targets: Array

    @classmethod
    def written(cls, folder: Path, shape: tuple[int, ...] = IMAGES) -> Inputs:
        """Draw them, one target in twenty positive, and write them."""
        rng = np.random.default_rng(0)
        logits = (3.0 * rng.standard_normal(shape, np.float32)).astype(np.float16)
        targets = rng.random(shape, np.float32) < 0.05
        np.save(folder / "baseline.npy", logits)
        np.save(folder / "targets.npy", targets)
        return cls(folder, logits, targets)

    @property
    def baseline(self) -> str:
        """The path of the baseline's logits."""
        return str(self.folder / "baseline.npy")

    def write_model(self, worse: float) -> None:
        """Write logits that differ from the baseline's by chance, and whose mean loss is so much greater.

        Args:
            worse: By how much, relative; nearly.
        """
        rng = np.random.default_rng(1)
        images = rng.normal(0.0, SHIFT, len(self.logits))
        images -= images.mean()
        shift = self._shift(worse) + images.reshape(-1, *(1 for _ in self.logits.shape[1:]))
        noise = rng.standard_normal(self.logits.shape, np.float32)
        np.save(
            self.folder / "new.npy",
            (self.logits + shift.astype(np.float32) + 0.01 * noise).astype(np.float16),
        )

    def _shift(self, worse: float) -> float:
        """Return what to add to logits so that the cross entropy is so much greater; by the first image."""
        x, y = self.logits[0].astype(np.float64), self.targets[0]
        least, most = 0.0, 1.0
        now = _cross_entropy(x, y)
        for _ in range(30):
            middle = (least + most) / 2
            least, most = (
                (middle, most) if _cross_entropy(x + middle, y) < (1 + worse) * now else (least, middle)
            )
        return least

    def commands(self, loss: str) -> list[list[str]]:
        """Return a report of the model written last, a comparison with such a report, and one without."""
        new, targets, out = (str(self.folder / name) for name in ("new.npy", "targets.npy", "report.json"))
        two = [new, str(self.folder / "baseline.npy"), targets, *LOSSES[loss]]
        return [
            ["report", new, targets, *LOSSES[loss], "--out", out],
            ["compare", *two, "--out", out],
            ["compare", *two, "--max-regression", f"{100 * BOUND:g}%", "--json"],
        ]


def _cross_entropy(x: Array, y: Array) -> float:
    return float((np.logaddexp(0.0, x) - x * y).mean())


def run(running: Running, arguments: list[str]) -> tuple[Cost, bytes]:
    """Run a command, and return what it cost and its output.

    Raises:
        OSError: It failed.
    """
    before = cpu_seconds(*family(running.pid))
    process = subprocess.Popen(  # noqa: S603 -- our own command
        [sys.executable, "-m", "lossd", *arguments, "--url", f"http://127.0.0.1:{running.port}"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/service{os.pathsep}{ROOT}/client"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as output:
        text = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, _REGRESSED):
        raise OSError(f"lossd {arguments[0]} ended with {process.returncode}")
    server = cpu_seconds(*family(running.pid)) - before
    return Cost(usage.ru_utime + usage.ru_stime, server), text


def costs(running: Running, inputs: Inputs, rounds: int) -> Iterator[Costs]:
    """Measure the commands in turn, another one first in each round, for each loss."""
    for loss in LOSSES:
        found, commands = Costs(loss), inputs.commands(loss)
        for arguments in commands:
            run(running, arguments)  # a warm-up
        for turn in range(rounds):
            order = [(turn + at) % len(commands) for at in range(len(commands))]
            cost = {at: run(running, commands[at])[0] for at in order}
            found.add(*(cost[at] for at in sorted(cost)))
        yield found


def verdicts(running: Running, inputs: Inputs) -> Iterator[tuple[str, ...]]:
    """Yield what the gate says of each model, as a row of the table."""
    for name, times in MODELS.items():
        inputs.write_model(times * BOUND)
        found = json.loads(run(running, inputs.commands("bce")[-1])[1])
        low, high = (f"{100 * end:+.3f} %" for end in found["whole"]["relative_interval"])
        yield (name, found["verdict"], f"{100 * found['whole']['relative']:+.3f} %", f"{low} to {high}")


def main() -> None:
    """Measure, and print the tables."""
    parser = options("compare", __doc__, rounds=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, lossd(settings={"LOSSD_DEVICE": "cpu"}) as running:
        inputs = Inputs.written(Path(folder))
        inputs.write_model(BOUND)
        measured = [*costs(running, inputs, given.rounds)]
        judged = [*verdicts(running, inputs)]
    sent = number((inputs.logits.nbytes + inputs.targets.nbytes) / 1e6)
    heads = (
        f"{sent} MB a model",
        "lossd report: CPU s",
        "lossd compare --out, by that",
        "the server alone",
        "lossd compare, by the first",
    )
    bound = f"{number(inputs.logits.size / 1e6)} M pairs, bound {100 * BOUND:g} %"
    tell(
        "bench-compare",
        given,
        table(heads, [one.row() for one in measured]),
        table((bound, "verdict", "change", "interval"), judged),
    )


if __name__ == "__main__":
    main()
