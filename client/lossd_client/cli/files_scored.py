"""Stages 1 to 5 of `lossd report`, and of `lossd compare` of files: from the command line to the report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from lossd_client import LossClient, LossResult
from lossd_client.cli.engines.engine import load_here
from lossd_client.cli.engines.opening import open_engine
from lossd_client.cli.engines.refusals import refuse_inputs, refuse_options
from lossd_client.cli.engines.sharded import Sharded
from lossd_client.cli.exits import client_errors, leave_at_signals
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.arguments import fill, spool_for, with_stdin
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.options import ReportOptions
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.options import QUICK
from lossd_client.cli.part_file import PartFile, open_parts, part_of
from lossd_client.cli.reporting.asking import ask, refuse_no_rows, report_request
from lossd_client.cli.reporting.class_names import named, read_class_names
from lossd_client.cli.reporting.inputs_read import ShardsRead
from lossd_client.cli.reporting.labels import Labels
from lossd_client.cli.scoring.checks import refuse_impossible, refuse_overwriting
from lossd_client.cli.scoring.one_input import Rows
from lossd_client.cli.scoring.progress import progress_shown
from lossd_client.cli.scoring.request import ScoreRequest
from lossd_client.report import Report

Outputs: TypeAlias = Mapping[str, Path | None]
"""The files to write, by their options."""

_NONE: Final[Outputs] = {}


class FilesScored(NamedTuple):
    """What was made of files.

    Attributes:
        report: The report.
        notes: What a user should know.
        groups: The names of its groups, in the order of the options.
        parts: The files to write, in the order of the outputs.
    """

    report: Report
    notes: list[str]
    groups: list[str]
    parts: list[PartFile | None]


@contextmanager
def files_scored(
    options: ReportOptions,
    select: Callable[[Path | None], Selection],
    outputs: Outputs,
    appended: Outputs = _NONE,
) -> Iterator[FilesScored]:
    """Score files, and yield their report, with the files to write opened before. Errors end the command.

    Args:
        options: The options.
        select: Finds the files; takes the file that stands for standard input.
        outputs: The files to write.
        appended: Files that the caller appends to.
    """
    if options.engine is not None:
        refuse_options(options.engine, options)
    paths = [path for path in outputs.values() if path is not None]
    with (
        client_errors(),
        LossClient(options.url, api_key=options.api_key, timeout=options.timeout, retry=QUICK) as client,
        spool_for(options.shards) as spool,
        leave_at_signals(*filter(None, [spool, *map(part_of, paths)])),
    ):
        request = report_request(options)
        class_names = read_class_names(options.class_names)
        if spool is not None:
            fill(spool)
        selection = select(spool)
        inputs = selection.inputs()
        request = request.of_inputs(inputs)
        refuse_impossible(request, inputs)
        refuse_no_rows(request, inputs)
        for option, path in (*outputs.items(), *appended.items()):
            if path is not None:
                refuse_overwriting(option, path, inputs, options.number_files().values())
        if options.engine is not None:
            refuse_inputs(request, inputs)
        has_ids, clusters = selection.row_ids is not None, len(selection.clusters)
        labels = Labels(inputs, has_ids=has_ids, clusters=clusters)
        read = ShardsRead(inputs, labels.names, spool)
        with open_parts(*outputs.values()) as parts:
            result = _scored(client, options, request, selection, inputs, labels, read)
            assert result.report is not None
            numbers = {
                name: {"path": text, "sha256": Location(text).sha256()}
                for name, text in options.number_files().items()
            }
            document = result.report.to_dict()
            document["run"] = {
                **document.get("run", {}),
                "inputs": [shard | numbers for shard in read.described()],
            }
            made, unnamed = named(Report(document), class_names, options.class_names)
            notes = _said((*inputs.notes(), *result.notes, *unnamed), spool)
            yield FilesScored(made, notes, labels.groups, parts)


def _scored(
    client: LossClient,
    options: ReportOptions,
    request: ScoreRequest,
    selection: Selection,
    inputs: Inputs,
    labels: Labels,
    read: ShardsRead,
) -> LossResult:
    shows = not options.no_progress
    if options.engine is not None:
        here = load_here()
        with open_engine(options.engine, here) as engine:
            return Sharded(engine, here, selection, inputs, request, shows=shows).report(labels, read)
    rows = Rows(inputs, request)
    with progress_shown(client, inputs.rows, shows) as asking:
        return rows.noted(ask(asking, request, inputs, labels, read, rows))


def _said(notes: Sequence[str], spool: Path | None) -> list[str]:
    return list(dict.fromkeys(with_stdin(note, spool) for note in notes))
