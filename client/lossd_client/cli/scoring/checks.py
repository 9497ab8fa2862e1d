"""What cannot be computed, or written, is refused before anything is sent."""

from collections.abc import Iterable
from pathlib import Path

import typer

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.shards import BROADCAST, instead_of_rows
from lossd_client.cli.scoring.request import ScoreRequest


def refuse_impossible(request: ScoreRequest, inputs: Inputs) -> None:
    """Refuse a loss that cannot be computed of these inputs.

    Raises:
        BadParameter: It cannot.
    """
    dimensions = inputs.dimensions
    if request.by_index and dimensions == 1 and inputs.tensors["targets"].dimensions == 1:
        raise typer.BadParameter(
            "--targets-format index: the logits are one number a row, and the targets too. For 0 and 1 "
            "as labels leave --targets-format out; class ids need a logit a class, [N, C], as by "
            "--logits-columns"
        )
    if (
        len(inputs.shards) > 1
        and (request.by_index or request.known_loss.row)
        and request.axes(dimensions).classes_are_rows
    ):
        raise typer.BadParameter(
            "--class-axis 0: rows are classes then, which cannot go on from shard to shard"
        )


def refuse_values_of_rows(inputs: Inputs) -> None:
    """Refuse weights and masks of rows, or of shards, where no loss belongs to a row.

    As many rows as there are classes would be taken for these.

    Raises:
        BadFile: There are such.
    """
    shard, number = inputs.shards[0], len(inputs.shards)
    for name in () if shard.losses_have_rows else BROADCAST:
        source = inputs.tensors.get(name)
        if source is None or not (source.file.is_table or (number > 1 and name in shard.tensors)):
            continue
        has = "a value for each row" if source.file.is_table else f"values for each of {number} shards"
        what = f"{source.file.location}: the {name} has {has}, and"
        raise BadFile(f"{what} {instead_of_rows(name, shard.losses)}")


def refuse_overwriting(option: str, out: Path, inputs: Inputs, others: Iterable[str]) -> None:
    """Refuse to write to a file that is read.

    Args:
        option: The option that names the file to write.
        out: That file.
        inputs: The inputs.
        others: The other files that are read, as the command line names them.

    Raises:
        BadFile: It is read.
    """
    for location in inputs.locations | {Location(other) for other in others}:
        if location.is_same(out):
            raise BadFile(f"{option} {out} is {location}, which is read: name another file")
