"""What --engine cannot do, and what to do instead."""

import typer

from lossd_client.cli.engines.engine import check_engine
from lossd_client.cli.inputs.arguments import STDIN
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.options import FileOptions
from lossd_client.cli.scoring.request import ScoreRequest


def refuse_options(engine: str, options: FileOptions) -> None:
    """Refuse options that do not go with an engine, before a file is opened.

    Raises:
        BadParameter: There is one.
    """
    check_engine(engine)
    for name, given in (("--url", options.url), ("--api-key", options.api_key)):
        if given is not None:
            raise typer.BadParameter(f"--engine scores without a server: leave {name} out, or --engine")
    if STDIN in options.shards:
        raise typer.BadParameter(
            f"--engine reads files in many processes, and {STDIN} can be read by one: save it to a file"
        )


def refuse_inputs(request: ScoreRequest, inputs: Inputs) -> None:
    """Refuse what cannot be computed shard by shard, before anything is read.

    Raises:
        BadParameter: Such is asked for.
    """
    remedy = "leave --engine out, which sends all of it to a server"
    if inputs.dimensions == 0:
        raise typer.BadParameter(f"--engine: the input is a single number: {remedy}")
    if request.axes(inputs.dimensions).joins_rows:
        raise typer.BadParameter(
            f"--engine adds up the losses of rows, and gives no loss per row: {remedy}, or reduce over axis 0"
        )
    if len(inputs.shards) == 1:
        return
    if not request.can_split(inputs.dimensions):
        raise typer.BadParameter(
            "--engine scores each shard by itself, and --class-axis 0, --per class or all, or a pos_weight a "
            f"row needs all rows at once: {remedy}"
        )
    if inputs.running:
        raise typer.BadParameter(
            f"--engine reads each shard by itself, and {inputs.running[0]} has the rows of all: put them "
            f"into the shards as a column, or {remedy}"
        )
