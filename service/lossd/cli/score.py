"""`lossd score`: scores arrays and columns of files."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from lossd.cli.exits import Exit, client_errors, fail, leave_at_signals
from lossd.cli.files.errors import BadFile
from lossd.cli.files.place import Place
from lossd.cli.groups import Group, score_groups
from lossd.cli.inputs import Inputs
from lossd.cli.losses import Losses, LossFile, part_of
from lossd.cli.options import QUICK, ApiKey, Timeout, Url
from lossd.cli.parameters import (
    LossName,
    ReductionName,
    TargetsFormatName,
    VariantName,
    axis_of,
    normalizer_of,
    own_options,
    pos_weight_of,
)
from lossd.cli.report import print_groups, print_json, print_result
from lossd.cli.scoring import Question
from lossd.cli.scoring import score as score_inputs
from lossd.cli.selection import Selection
from lossd_client import LossClient, LossResult, Progress, progress_bar
from lossd_client.message import without_password

_PANEL: Final = "Files"


def score(
    logits: Annotated[str, typer.Argument(metavar="LOGITS", help="A file or URL.", show_default=False)],
    targets: Annotated[
        str | None,
        typer.Argument(metavar="TARGETS", help="Another; LOGITS, if it has both.", show_default=False),
    ] = None,
    loss: Annotated[LossName, typer.Option(help="Which loss.")] = LossName.BCE,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="LOGITS holds probabilities, each in [0, 1], instead.")
    ] = False,
    logits_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The column or array with the logits or probabilities.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    targets_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one with the targets.", rich_help_panel=_PANEL)
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Weights that broadcast to LOGITS.", rich_help_panel=_PANEL),
    ] = None,
    weight_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Their column, of LOGITS or TARGETS without --weight.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Which elements count: bool or uint8 that broadcasts to LOGITS.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    mask_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Its column, of LOGITS or TARGETS without --mask.", rich_help_panel=_PANEL
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Print the losses by the values of this column, or of a file with one value a row.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    pos_weight: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS|FILE", help="The positives' weight: 2, or 1,2.5,4 one a class."),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Focal only: the server's default is 1.5.", show_default=False)
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS|none",
            help="Focal only: 0.5, or 0.5,0.25,0.1 one a class; the server's default is 0.25.",
        ),
    ] = None,
    variant: Annotated[
        VariantName | None,
        typer.Option(help="Focal only: the server's default is sigmoid.", show_default=False),
    ] = None,
    reduction: Annotated[
        ReductionName, typer.Option(help="What becomes of the elements' losses.")
    ] = ReductionName.MEAN,
    axis: Annotated[
        str | None, typer.Option(metavar="AXES", help="Reduce over these axes only: 0, -1 or 0,1.")
    ] = None,
    normalizer: Annotated[
        str,
        typer.Option(metavar="count|weight|positives|NUMBER", help="What a mean divides by."),
    ] = "count",
    class_axis: Annotated[int, typer.Option(help="The axis along which the classes lie.")] = -1,
    targets_format: Annotated[
        TargetsFormatName,
        typer.Option(help="index: TARGETS holds integer class ids, in LOGITS' shape less the class axis."),
    ] = TargetsFormatName.DENSE,
    label_smoothing: Annotated[
        float, typer.Option(metavar="E", help="Turn each target y into y (1 - E) + E / 2.")
    ] = 0.0,
    ignore_index: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Drop the elements whose target equals this.")
    ] = None,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", help="Let a NaN propagate instead of refusing it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as one JSON object and nothing else.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the loss here, as a float64 .npy.", dir_okay=False)
    ] = None,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bar on a terminal.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 60.0,
) -> None:
    """Score LOGITS against TARGETS: npy, npz, parquet, Arrow, csv or safetensors, from disk or a URL.

    Files are read in blocks of rows, whatever their size. Of files with several columns or arrays, the one of
    a tensor's name is taken (logits, targets), or the one that an option names.
    """
    own = own_options(gamma, alpha, variant)
    if own and loss is not LossName.FOCAL:
        raise typer.BadParameter("--gamma, --alpha and --variant go with --loss focal")
    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout, retry=QUICK) as client:
        params = {
            "pos_weight": None if pos_weight is None else pos_weight_of(pos_weight),
            "reduction": reduction.value,
            "axis": axis_of(axis),
            "normalizer": normalizer_of(normalizer),
            "class_axis": class_axis,
            "targets_format": targets_format.value,
            "label_smoothing": label_smoothing,
            "ignore_index": ignore_index,
            "allow_nan": allow_nan,
        }
        masks = mask is not None or mask_column is not None
        question = Question(loss.value, {**params, **own}, masks)
        inputs = Selection(
            logits,
            targets,
            {"weight": weight, "mask": mask},
            {
                "logits": logits_column,
                "targets": targets_column,
                "weight": weight_column,
                "mask": mask_column,
            },
            by,
            probabilities,
            targets_format is TargetsFormatName.INDEX,
        ).inputs()
        if out is not None:
            _refuse_inputs(out, inputs, pos_weight)
        start = time.perf_counter()
        losses, result, groups = _scored(client, question, inputs, by, as_json, out, not no_progress)
        elapsed = (time.perf_counter() - start) * 1000.0

    if as_json:
        print_json(result, by, groups)
        return
    if by is not None:
        print_groups(by, groups)
    print_result(result, losses, without_password(client.base_url), elapsed)


def _refuse_inputs(out: Path, inputs: Inputs, pos_weight: str | None) -> None:
    """Refuses to write over what is read."""
    read = inputs.places | ({Place(pos_weight)} if pos_weight is not None else set())
    for place in read:
        if place.is_same(out):
            raise BadFile(f"--out {out} is {place}, which is read: name another file")


def _scored(
    client: LossClient,
    question: Question,
    inputs: Inputs,
    by: str | None,
    as_json: bool,
    out: Path | None,
    shows: bool,
) -> tuple[Losses, LossResult, dict[Group, LossResult]]:
    """Scores the input and writes what is to be written."""
    by_rows = question.joins_rows(inputs.dimensions)
    if by is not None and not (
        question.is_scalar(inputs.dimensions) and question.goes_by_rows(inputs.dimensions)
    ):
        raise typer.BadParameter(
            "--by needs one loss a group: no --axis, no --reduction none, no classes along axis 0"
        )
    groups: dict[Group, LossResult] = {}
    with _out(out, by_rows) as file, _progress(client, inputs.rows, shows) as asking:
        losses = Losses(file, as_json)
        if by is not None:
            result, groups = score_groups(asking, question, inputs)
        else:
            result = score_inputs(asking, question, inputs, losses.take if by_rows else _as_it_is)
        if not by_rows:
            result = losses.take(result)
    if out is not None and file is None:
        _save(out, result)
    return losses, result, groups


def _as_it_is(result: LossResult) -> LossResult:
    return result


@contextmanager
def _progress(client: LossClient, rows: int | None, shows: bool) -> Iterator[LossClient]:
    """Gives a client that shows a bar on standard error while it works, if that is a terminal."""
    if not (shows and sys.stderr.isatty()):
        yield client
        return
    with progress_bar() as show:

        def tell(progress: Progress) -> None:
            show(replace(progress, total_rows=rows))

        yield client.with_options(progress=tell)


@contextmanager
def _out(path: Path | None, by_rows: bool) -> Iterator[LossFile | None]:
    """Gives the file for losses that come row by row, if they do and there shall be one.

    A signal ends the command meanwhile, and leaves nothing of the file behind.
    """
    is_special = path is not None and path.exists() and not path.is_file()  # a pipe, which has no way back
    if path is None or not by_rows or is_special:
        with leave_at_signals():
            yield None
        return
    try:
        with leave_at_signals(part_of(path)):
            file = LossFile(path)
            try:
                yield file
                file.finish()
            finally:
                file.discard()
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", Exit.USAGE)


def _save(path: Path, result: LossResult) -> None:
    try:
        with path.open("wb") as file:  # np.save would add a suffix to a bare path
            np.save(file, np.asarray(result.loss, dtype=np.float64))
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", Exit.USAGE)
