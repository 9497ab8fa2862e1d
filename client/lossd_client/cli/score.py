"""`lossd score`: scores arrays and columns of files."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from lossd_client import LossClient, LossResult, Progress, progress_bar
from lossd_client._addresses import without_password
from lossd_client.cli.exits import client_errors, leave_at_signals
from lossd_client.cli.files.data_file import Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.place import Place
from lossd_client.cli.inputs.arguments import STDIN, fill, read_shards, spool_for
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.parameters import (
    LossName,
    ReductionName,
    TargetsFormatName,
    VariantName,
    axis_of,
    ignore_index_of,
    is_file,
    normalizer_of,
    own_options,
    pos_weight_of,
)
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.inputs.sources import Wanted
from lossd_client.cli.options import QUICK, ApiKey, Timeout, Url
from lossd_client.cli.report import Groups, answer_of, print_groups, print_json, print_result
from lossd_client.cli.scoring.groups import score_groups
from lossd_client.cli.scoring.losses import Losses, check_out, open_out, part_of, refuse_groups
from lossd_client.cli.scoring.one_input import Question
from lossd_client.cli.scoring.one_input import score as score_inputs

_PANEL: Final = "Files"


def score(
    shards: Annotated[
        list[str],
        typer.Argument(
            metavar="SHARD",
            help="Files that have logits and targets each; or two, the logits and the targets. Also URLs, "
            "globs, folders, manifests (.txt, .lst, @FILE) and - for standard input.",
            show_default=False,
        ),
    ],
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="The targets of several files of logits: 'labels/part-*.npy', where what stands for * "
            "stands in the names of the logits, too.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    loss: Annotated[LossName, typer.Option(help="Which loss.")] = LossName.BCE,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Score probabilities, each in [0, 1], instead of logits.")
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
    logits_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|PREFIX",
            help="Columns with a class each, side by side: a,b,c, or what their names begin with.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    targets_columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES|PREFIX", help="Those with the targets.", rich_help_panel=_PANEL),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Join two files by this column, which tells their rows apart; may be given again. Else by "
            "those that both have and that are named like an id, such as image_id.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Weights that broadcast to the logits.", rich_help_panel=_PANEL),
    ] = None,
    weight_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Their column; of the shards without --weight.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Which elements count: true and false, or 1 and 0, that broadcast to the logits.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    mask_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Its column; of the shards without --mask.", rich_help_panel=_PANEL
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Print the losses by the values of this column, or of a file with one value a row; may be "
            "given again, for groups by several.",
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
        typer.Option(help="index: the targets are class ids, in the logits' shape less the class axis."),
    ] = TargetsFormatName.DENSE,
    background_index: Annotated[
        int | None,
        typer.Option(
            metavar="ID",
            help="Class ids only: this one is of no class, a negative of all of them, and counts.",
            show_default=False,
        ),
    ] = None,
    label_smoothing: Annotated[
        float, typer.Option(metavar="E", help="Turn each target y into y (1 - E) + E / 2.")
    ] = 0.0,
    ignore_index: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|nan", help="Drop the elements whose target equals this, or has no value."
        ),
    ] = None,
    drop_unlabelled: Annotated[
        bool,
        typer.Option(
            "--drop-unlabelled", help="Drop the elements that have no target; as --ignore-index nan."
        ),
    ] = False,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", help="Let a NaN propagate instead of refusing it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as one JSON object and nothing else.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the losses here: a float64 .npy, a .csv with a loss a line, or the .json of --json.",
            dir_okay=False,
        ),
    ] = None,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bar on a terminal.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 60.0,
) -> None:
    """Score files of logits and targets: npy, npz, parquet, Arrow, csv, jsonl, safetensors or pt.

    Files are read in blocks of rows, whatever their size, and the rows of several go on from one to the next.
    The column or array of a tensor's name is taken (logits, targets), or the one that an option names; where
    it is not clear what is meant, nothing is scored.
    """
    own = own_options(gamma, alpha, variant)
    if own and loss is not LossName.FOCAL:
        raise typer.BadParameter("--gamma, --alpha and --variant go with --loss focal")
    if (logits_columns and logits_column) or (targets_columns and targets_column):
        raise typer.BadParameter("a column and columns are named for the same: leave one of the options out")
    by = by or []
    if len(set(by)) < len(by):
        raise typer.BadParameter(f"--by {', '.join(by)}: one is named twice")
    if out is not None:
        check_out(out)
    dropped = ignore_index_of(ignore_index, drop_unlabelled)
    work = Work(by, as_json, out, not no_progress)
    with (
        client_errors(),
        LossClient(url, api_key=api_key, timeout=timeout, retry=QUICK) as client,
        spool_for(shards) as spool,
        leave_at_signals(*filter(None, [spool, part_of(out) if out is not None else None])),
    ):
        params = {
            "pos_weight": None if pos_weight is None else pos_weight_of(pos_weight),
            "reduction": reduction.value,
            "axis": axis_of(axis),
            "normalizer": normalizer_of(normalizer),
            "class_axis": class_axis,
            "targets_format": targets_format.value,
            "background_index": background_index,
            "label_smoothing": label_smoothing,
            "ignore_index": dropped,
            "allow_nan": allow_nan,
        }
        question = Question(loss.value, {**params, **own})
        if spool is not None:
            fill(spool)
        named = {"weight": (weight, weight_column, Kind.NUMBER), "mask": (mask, mask_column, Kind.FLAG)}
        given = {name: one for name, one in named.items() if one[:2] != (None, None)}
        inputs = Selection(
            read_shards(shards, targets, spool),
            Wanted(
                "probabilities" if probabilities else "logits",
                "--logits-column",
                column=logits_column,
                several=logits_columns,
                takes_ids=targets_format is TargetsFormatName.INDEX,
            ),
            Wanted(
                "targets",
                "--targets-column",
                column=targets_column,
                several=targets_columns,
                nulls=dropped == "nan",
            ),
            {
                name: Wanted(name, f"--{name}-column", kind, column)
                for name, (_, column, kind) in given.items()
            },
            {name: file for name, (file, _, _) in given.items()},
            by,
            ids or [],
        ).inputs()
        renamed = {str(spool): STDIN}
        read = {"pos_weight": pos_weight} if is_file(pos_weight) else {}
        work.run(client, question, inputs, read, renamed)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to become of the answer.

    Attributes:
        by: The columns or files that rows are grouped by.
        as_json: Whether it is printed as JSON.
        out: Where the losses are written.
        shows: Whether a bar may show how far it is.
    """

    by: Sequence[str]
    as_json: bool
    out: Path | None
    shows: bool

    def run(
        self,
        client: LossClient,
        question: Question,
        inputs: Inputs,
        read: dict[str, str | None],
        renamed: dict[str, str],
    ) -> None:
        """Score the inputs, write what is to be written, and print the answer.

        Args:
            client: Who asks the server.
            question: What is asked.
            inputs: The files.
            read: Other files that were read, by the tensor that they hold.
            renamed: What files are called in the answer.
        """
        dimensions = inputs.dimensions
        self._refuse(question, inputs, read)
        start = time.perf_counter()
        by_rows = question.joins_rows(dimensions)
        groups = None
        with open_out(self.out, question.left_axes(dimensions)) as file:
            losses = Losses(file, self.as_json)
            with _progress(client, inputs.rows, self.shows) as asking:
                if self.by:
                    result, of = score_groups(asking, question, inputs)
                    groups = Groups(self.by, of)
                else:
                    result = score_inputs(asking, question, inputs, losses.take if by_rows else _as_it_is)
            if not by_rows and groups is None:
                losses.add(result)
            result = replace(result, notes=tuple(dict.fromkeys([*inputs.notes(), *result.notes])))
            for path in renamed:
                result = replace(
                    result, notes=tuple(note.replace(path, "standard input") for note in result.notes)
                )
            about = _about(inputs, read, renamed)
            if file is not None or self.as_json:
                answer = answer_of(result, groups, about)
            if file is not None:
                file.finish(answer)
        elapsed = (time.perf_counter() - start) * 1000.0
        if self.as_json:
            print_json(answer)
            return
        if groups is not None:
            print_groups(groups)
        print_result(result, losses, inputs.joined_by, without_password(client.base_url), elapsed)

    def _refuse(self, question: Question, inputs: Inputs, read: dict[str, str | None]) -> None:
        """Refuse what cannot be asked of these inputs, before anything is sent."""
        dimensions = inputs.dimensions
        if self.by and not (question.is_scalar(dimensions) and question.goes_by_rows(dimensions)):
            raise typer.BadParameter(
                "--by needs one loss a group: no --axis, no --reduction none, no classes along axis 0, no "
                "pos_weight a row"
            )
        ids = question.params["targets_format"] == "index"
        if ids and dimensions == 1 and inputs.tensors["targets"].dimensions == 1:
            raise typer.BadParameter(
                "--targets-format index: the logits are one number a row, and the targets too. For 0 and 1 "
                "as labels leave --targets-format out; class ids need a logit a class, [N, C], as by "
                "--logits-columns"
            )
        if len(inputs.shards) > 1 and question.opens_out_along_rows(dimensions):
            raise typer.BadParameter(
                "--class-axis 0: rows are classes then, which cannot go on from shard to shard"
            )
        if self.out is None:
            return
        for place in inputs.places | {Place(text) for text in read.values() if text is not None}:
            if place.is_same(self.out):
                raise BadFile(f"--out {self.out} is {place}, which is read: name another file")
        if self.by:
            refuse_groups(self.out)


def _about(inputs: Inputs, read: dict[str, str | None], renamed: dict[str, str]) -> dict[str, Any]:
    """Give what the answer says of the files."""

    def name(value: Any) -> Any:  # noqa: ANN401 - what a description holds
        if isinstance(value, list):
            return [name(item) for item in value]
        return renamed.get(value, value) if isinstance(value, str) else value

    described = [{key: name(value) for key, value in one.items()} | read for one in inputs.described()]
    return {"inputs": described} | ({"joined_by": list(inputs.joined_by)} if inputs.joined_by else {})


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
