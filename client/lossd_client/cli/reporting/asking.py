"""Stage 5 of `lossd report`: blocks of rows, sent as requests, and their reports merged."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import typer

from lossd_client import LossClient, LossResult
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.options import ReportOptions
from lossd_client.cli.inputs.parameters import bins_of, sweep_of
from lossd_client.cli.reporting.inputs_read import ShardsRead
from lossd_client.cli.reporting.labels import Labels
from lossd_client.cli.scoring.one_input import Rows
from lossd_client.cli.scoring.request import ScoreRequest


def report_request(options: ReportOptions) -> ScoreRequest:
    """Return the request that the command line says.

    Raises:
        BadParameter: An option's text is not what it should be.
        BadFile: The file of --pos-weight cannot be read.
    """
    # Of sums, which are there where nothing is left to divide by, too.
    request = ScoreRequest.of(options, "sum", None)
    asked: dict[str, Any] = {
        "sections": "all" if options.sections is None else options.sections,
        "first_row": options.first_row,
        "top": options.top,
        "row": None if options.row is None else options.row.value,
        "calibration_bins": None if options.calibration_bins is None else bins_of(options.calibration_bins),
        "sweep": None if options.sweep is None else sweep_of(options.sweep),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(request, params={**request.params, **given})


def refuse_no_rows(request: ScoreRequest, inputs: Inputs) -> None:
    """Refuse inputs without rows that can be told apart.

    Raises:
        BadParameter: They are such.
    """
    if inputs.dimensions == 0:
        raise typer.BadParameter("the input is a single number, which has no rows to report on")
    if request.axes(inputs.dimensions).is_over_rows:
        raise typer.BadParameter(
            f"--per {request.params['per']}: a loss over all samples has no rows to report on; --per sample"
        )
    if inputs.labels and not request.can_split(inputs.dimensions):
        raise typer.BadParameter("--by and --ids need rows: no classes along axis 0, no pos_weight a row")


def ask(
    client: LossClient, request: ScoreRequest, inputs: Inputs, labels: Labels, read: ShardsRead, rows: Rows
) -> LossResult:
    """Return the sums of the loss, with its report.

    Args:
        client: The client.
        request: What is asked.
        inputs: The inputs.
        labels: Their groups and ids.
        read: Takes the shards as they are read.
        rows: Takes what is seen of the rows.

    Raises:
        BadFile: A file cannot be read, or a shard is there twice.
        LossdError: As the client.
    """
    blocks = inputs.blocks() if request.can_split(inputs.dimensions) else iter([inputs.whole()])
    batches = _labelled(rows.counted(blocks), inputs, labels, read)
    return LossResult.merge(rows.results(client, request, batches))


def _labelled(
    blocks: Iterator[dict[str, Any]], inputs: Inputs, labels: Labels, read: ShardsRead
) -> Iterator[dict[str, Any]]:
    """Yield blocks with their labels as the client takes them, and look at the shards that end in them."""
    start = 0
    for block in blocks:
        yield labels.put_into(block, start)
        start += len(block[inputs.names[0]])
        read.look()
