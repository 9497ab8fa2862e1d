"""A shard's task: its rows, read by the command's own readers and scored where the task runs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from lossd_client import LossdError, LossResult
from lossd_client.cli.engines.answered import client_of
from lossd_client.cli.engines.engine import Answer
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.reporting.asking import ask
from lossd_client.cli.reporting.inputs_read import ShardsRead
from lossd_client.cli.reporting.labels import LabelColumn, Labels
from lossd_client.cli.scoring.groups import Key, sums_by_group
from lossd_client.cli.scoring.one_input import Rows, Seen
from lossd_client.cli.scoring.request import ScoreRequest


@dataclass(frozen=True, slots=True)
class ShardTask:
    """A shard to be scored.

    Attributes:
        selection: Its files and columns.
        request: What is asked of them, of sums that merge.
        answer: Answers the requests.
        folder: The folder from which the files are named.
        is_report: Whether a report is asked for.
    """

    selection: Selection
    request: ScoreRequest
    answer: Answer
    folder: str
    is_report: bool


@dataclass(frozen=True, slots=True)
class ShardScored:
    """A shard that was scored.

    Attributes:
        result: The sums, with the report if one was asked for.
        groups: The sums of each group, of `lossd score --by`.
        seen: What was seen of the rows.
        row_shapes: The shape of a row of the logits and of the targets; empty if there are no rows.
        notes: The notes of the files.
        labels: The groups and ids of a report.
        read: What a report says of the files.
    """

    result: LossResult
    seen: Seen
    row_shapes: Mapping[str, tuple[int, ...]]
    notes: Sequence[tuple[str, str]]
    groups: Mapping[Key, LossResult]
    labels: Sequence[LabelColumn] = ()
    read: Mapping[str, Any] | None = None


def run(task: ShardTask) -> ShardScored | Exception:
    """Score a shard; return what is wrong with it, if anything is."""
    try:
        _go_to(task.folder)
        inputs = task.selection.inputs()
        return _reported(task, inputs) if task.is_report else _scored(task, inputs)
    except (LossdError, BadFile, typer.BadParameter, OSError, ImportError, TypeError, ValueError) as error:
        return error  # as the command itself takes them; others fail the run


def _go_to(folder: str) -> None:
    """Go to a folder, unless it is where this process is.

    Raises:
        BadFile: It is not there.
    """
    if Path(folder) == Path.cwd():
        return
    try:
        os.chdir(folder)
    except OSError as error:
        what = f"{os.uname().nodename} cannot read {folder} ({error.strerror})"
        raise BadFile(f"{what}: every machine must see the files by the same names; URLs are such") from error


def _scored(task: ShardTask, inputs: Inputs) -> ShardScored:
    request = task.request
    rows = Rows(inputs, request)
    groups: dict[Key, LossResult] = {}
    with client_of(task.answer) as client:
        result = None
        if task.selection.by:
            result, groups = sums_by_group(client, request, inputs, rows)
        if result is None:
            blocks = inputs.blocks() if request.can_split(inputs.dimensions) else iter([inputs.whole()])
            tensors = ({name: block[name] for name in inputs.names} for block in blocks)  # without groups
            result = LossResult.merge(rows.results(client, request, rows.counted(tensors)))
    return ShardScored(result, rows.seen, inputs.row_shapes, inputs.file_notes(), groups)


def _reported(task: ShardTask, inputs: Inputs) -> ShardScored:
    rows = Rows(inputs, task.request)
    selection = task.selection
    labels = Labels(inputs, has_ids=selection.row_ids is not None, clusters=len(selection.clusters))
    read = ShardsRead(inputs, labels.names, None)
    with client_of(task.answer) as client:
        result = ask(client, task.request, inputs, labels, read, rows)
    return ShardScored(
        result, rows.seen, inputs.row_shapes, inputs.file_notes(), {}, labels.columns, read.described()[0]
    )
