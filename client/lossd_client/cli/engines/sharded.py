"""Stage 5 of `lossd score` and `lossd report` with --engine: shards as tasks; results merged in order."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lossd_client import LossResult, progress_bar
from lossd_client.cli.engines.engine import Engine, Here
from lossd_client.cli.engines.tasks import ShardScored, ShardTask, run
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.reporting.inputs_read import ShardsRead
from lossd_client.cli.reporting.labels import Labels
from lossd_client.cli.scoring.groups import Group, Key, listed
from lossd_client.cli.scoring.one_input import Rows
from lossd_client.cli.scoring.request import ScoreRequest, mean_of
from lossd_client.progress import Progress
from lossd_client.report._numbering import numbered_on


class Sharded:
    """The shards of an input, scored by an engine.

    Args:
        engine: The engine.
        here: Scoring in a process.
        selection: The files and columns.
        inputs: The input that these make.
        request: What is asked.
        shows: Whether a progress bar is shown on a terminal.
    """

    def __init__(
        self,
        engine: Engine,
        here: Here,
        selection: Selection,
        inputs: Inputs,
        request: ScoreRequest,
        *,
        shows: bool,
    ) -> None:
        self._engine, self._here = engine, here
        self._selection, self._inputs, self._request = selection, inputs, request
        self._rows = Rows(inputs, request)
        self._shows = shows

    def score(self) -> tuple[LossResult, list[tuple[Group, LossResult]]]:
        """Return the result of all rows, and under --by that of each group.

        Raises:
            BadFile: A file cannot be read.
            LossdError: A request cannot be answered.
            EngineFailed: The engine gave up.
        """
        averages = self._request.axes(self._inputs.dimensions).averages_rows
        asked = self._request.sums() if averages else self._request
        groups: dict[Key, LossResult] = {}

        def results() -> Iterator[LossResult]:
            for scored in self._scored(asked, is_report=False):
                for key, its in scored.groups.items():
                    groups[key] = LossResult.merge([groups[key], its]) if key in groups else its
                yield scored.result

        total = self._rows.noted(LossResult.merge(results()))
        return (mean_of(total) if averages else total), listed(groups, averages=averages)

    def report(self, labels: Labels, read: ShardsRead) -> LossResult:
        """Return the sums of the loss, with its report.

        Args:
            labels: The groups and ids, which must be alike in all shards.
            read: Takes what is said of the files.

        Raises:
            BadFile: A file cannot be read, or a shard is there twice.
            LossdError, EngineFailed: As `score`.
        """
        start = 0

        def results() -> Iterator[LossResult]:
            nonlocal start
            for scored in self._scored(self._request, is_report=True):
                labels.take(scored.labels, start)
                assert scored.read is not None
                read.take(dict(scored.read))
                assert scored.result.report is not None
                document = numbered_on(scored.result.report.to_dict(), start)
                start += scored.seen.rows
                yield replace(scored.result, report=type(scored.result.report)(document))

        return self._rows.noted(LossResult.merge(results()))

    def _scored(self, request: ScoreRequest, *, is_report: bool) -> Iterator[ShardScored]:
        """Yield the shards, as they were scored, in their order.

        Raises:
            Exception: What a task returned.
        """
        tasks = [
            ShardTask(self._selection.of_shard(shard), request, self._here.answer, os.getcwd(), is_report)  # noqa: PTH109
            for shard in self._inputs.shards
        ]
        done = 0
        with _progress(self._inputs.rows, self._shows) as show:
            for scored in self._engine.map(run, tasks):
                if isinstance(scored, Exception):
                    raise scored
                self._inputs.was_read(scored.seen.rows, scored.row_shapes, scored.notes)
                self._rows.take(scored.seen)
                done += scored.seen.rows
                show(done)
                yield scored


@contextmanager
def _progress(rows: int | None, shows: bool) -> Iterator[Callable[[int], None]]:
    """Yield what shows how many rows are done, on a terminal."""
    if not (shows and sys.stderr.isatty()):
        yield lambda done: None
        return
    with progress_bar() as show:
        yield lambda done: show(Progress(done, rows, 0, 0))
