"""The options of `lossd score` and `lossd report`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final

import typer

from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import LOSSES, SHARED
from lossd_client.cli.inputs.loss_options import LossName, LossOptions
from lossd_client.cli.inputs.parameters import (
    ReductionName,
    RowLoss,
    TargetsFormatName,
    ignore_index_of,
    is_file,
    normalizer_of,
    option_of,
    refuse_others,
)
from lossd_client.cli.options import ApiKey, Timeout, Url

_FILES: Final = "Files"
_ENGINES: Final = "Engines"


@dataclass(frozen=True, slots=True)
class FileOptions(LossOptions):
    """The options of files, losses and the server, with their help texts."""

    shards: Annotated[
        list[str],
        typer.Argument(
            metavar="SHARD",
            help="Files that have logits and targets each; or two, the logits and the targets. Also URLs, "
            "globs, folders, manifests (.txt, .lst, @FILE) and - for standard input.",
            show_default=False,
        ),
    ]
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="The targets of several files of logits: 'labels/part-*.npy', where what stands for * "
            "stands in the names of the logits, too.",
            rich_help_panel=_FILES,
        ),
    ] = None
    loss: Annotated[LossName, typer.Option(help="Which loss.")] = LossName.BCE
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Score probabilities, each in [0, 1], instead of logits.")
    ] = False
    logits_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The column or array with the logits or probabilities, or the boxes.",
            rich_help_panel=_FILES,
        ),
    ] = None
    targets_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one with the targets.", rich_help_panel=_FILES)
    ] = None
    logits_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|PREFIX",
            help="Columns with a class each, side by side: a,b,c, or what their names begin with.",
            rich_help_panel=_FILES,
        ),
    ] = None
    targets_columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES|PREFIX", help="Those with the targets.", rich_help_panel=_FILES),
    ] = None
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Join two files by this column, which tells their rows apart; may be given again. By "
            "default: shared columns named like an id, such as image_id.",
            rich_help_panel=_FILES,
        ),
    ] = None
    weight: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Weights that broadcast to the losses.", rich_help_panel=_FILES),
    ] = None
    weight_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Their column; of the shards without --weight.",
            rich_help_panel=_FILES,
        ),
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Which losses count: true and false, or 1 and 0, that broadcast to the losses.",
            rich_help_panel=_FILES,
        ),
    ] = None
    mask_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Its column; of the shards without --mask.", rich_help_panel=_FILES
        ),
    ] = None
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Give the losses by the values of this column, or of a file with one value a row; may be "
            "given again, for groups by several.",
            rich_help_panel=_FILES,
        ),
    ] = None
    pos_weight: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS|FILE", help="The positives' weight: 2, or 1,2.5,4 one a class."),
    ] = None
    normalizer: Annotated[
        str,
        typer.Option(metavar="count|weight|positives|NUMBER", help="What a mean divides by."),
    ] = "count"
    class_axis: Annotated[int, typer.Option(help="The axis along which the classes lie.")] = -1
    targets_format: Annotated[
        TargetsFormatName | None,
        typer.Option(
            help="index: the targets are class ids, in the logits' shape less the class axis. By default "
            "dense, and of cross_entropy and softmax_focal what the targets' shape says.",
            show_default=False,
        ),
    ] = None
    background_index: Annotated[
        int | None,
        typer.Option(
            metavar="ID",
            help="Class ids only: this one is of no class, a negative of all of them, and counts.",
            show_default=False,
        ),
    ] = None
    label_smoothing: Annotated[
        float,
        typer.Option(
            metavar="E",
            help="Turn each target y into y (1 - E) + E / 2; of cross_entropy and softmax_focal + E / C, "
            "with C classes.",
        ),
    ] = 0.0
    ignore_index: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|nan", help="Drop the elements whose target equals this, or has no value."
        ),
    ] = None
    drop_unlabelled: Annotated[
        bool,
        typer.Option(
            "--drop-unlabelled", help="Drop the elements that have no target; as --ignore-index nan."
        ),
    ] = False
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", help="Let a NaN propagate instead of refusing it.")
    ] = False
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bar on a terminal.")
    ] = False
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="local|ray|ray://HOST:PORT",
            help="Score without a server, each shard where it is read: in processes of this machine, one a "
            "core, or on a Ray cluster. ray takes that of RAY_ADDRESS, else one that runs on this machine, "
            "else starts one there.",
            show_default=False,
            rich_help_panel=_ENGINES,
        ),
    ] = None
    url: Url = None
    api_key: ApiKey = None
    timeout: Timeout = 60.0

    def check(self) -> None:
        """Refuse options that cannot be meant together, before a file is opened.

        Raises:
            BadParameter: There are such, or the text of --ignore-index or --normalizer is none.
        """
        loss = self.known_loss
        refuse_others(loss, self.own_texts())
        if self.probabilities and "probabilities" not in loss.inputs:
            raise typer.BadParameter(f"--probabilities: {loss.name} takes {loss.inputs[0]} alone")
        for name, given in {**self.shared(), "pos_weight": self.pos_weight}.items():
            if given != SHARED[name] and name not in loss.parameters:
                raise typer.BadParameter(f"{option_of(name)}: {loss.name} has no such parameter")
        for columns, column in (
            (self.logits_columns, self.logits_column),
            (self.targets_columns, self.targets_column),
        ):
            if columns and column:
                raise typer.BadParameter(
                    "a column and columns are named for the same: leave one of the options out"
                )
        by = self.by or []
        if len(set(by)) < len(by):
            raise typer.BadParameter(f"--by {', '.join(by)}: one is named twice")

    @property
    def known_loss(self) -> Loss:
        """The loss."""
        return LOSSES[self.loss.value]

    def own_texts(self) -> dict[str, str]:
        """Return the texts of losses' own parameters that are given."""
        texts = {each.name: getattr(self, each.name) for each in fields(LossOptions)}
        return {name: text for name, text in texts.items() if text is not None}

    def number_files(self) -> dict[str, str]:
        """Return the files that hold a number for each class, by their parameters."""
        own = self.known_loss.own
        texts = {
            name: text
            for name, text in self.own_texts().items()
            if own[name].kind == "numbers" and text.lower() != "none"
        }
        if self.pos_weight is not None:
            texts["pos_weight"] = self.pos_weight
        return {name: text for name, text in texts.items() if is_file(text)}

    def shared(self) -> dict[str, object]:
        """Return the parameters in common that are not read from files."""
        given = self.targets_format
        return {
            "normalizer": normalizer_of(self.normalizer),
            "class_axis": self.class_axis,
            "targets_format": SHARED["targets_format"] if given is None else given.value,
            "background_index": self.background_index,
            "label_smoothing": self.label_smoothing,
            "ignore_index": self.ignored(),
            "allow_nan": self.allow_nan,
        }

    def ignored(self) -> float | str | None:
        """Return --ignore-index, or "nan" for --drop-unlabelled."""
        return ignore_index_of(self.ignore_index, self.drop_unlabelled)


@dataclass(frozen=True, slots=True)
class ScoreOptions(FileOptions):
    """The options of `lossd score`."""

    reduction: Annotated[ReductionName, typer.Option(help="What becomes of the elements' losses.")] = (
        ReductionName.MEAN
    )
    axis: Annotated[
        str | None, typer.Option(metavar="AXES", help="Reduce over these axes only: 0, -1 or 0,1.")
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as one JSON object and nothing else.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the losses here: a float64 .npy, a .csv with a loss a line, or the .json of --json.",
            dir_okay=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class ReportOptions(FileOptions):
    """The options of `lossd report`."""

    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Another model's logits (or probabilities) of the same rows, to compare with: a column of "
            "the shards, a file, or a pattern of a file a shard.",
            rich_help_panel=_FILES,
        ),
    ] = None
    baseline_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Their column; of the shards without --baseline. By default as that of the logits.",
            rich_help_panel=_FILES,
        ),
    ] = None
    baseline_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|PREFIX",
            help="Columns with a class each, as --logits-columns.",
            rich_help_panel=_FILES,
        ),
    ] = None
    row_ids: Annotated[
        str | None,
        typer.Option(
            "--ids",
            metavar="COLUMN|FILE",
            help="The rows' own names, whole numbers or text, each there once, to list the worst by.",
            rich_help_panel=_FILES,
        ),
    ] = None
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the classes are called, in their order: a text file with a name a line.",
            rich_help_panel=_FILES,
            dir_okay=False,
        ),
    ] = None
    first_row: Annotated[
        int,
        typer.Option(help="The number of the first row, which the lists of the worst count on from.", min=0),
    ] = 0
    sections: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Only these sections: totals,classes,groups,top,histogram,calibration,sweep,paired. By "
            "default all that the inputs allow, but sweep of bce.",
        ),
    ] = None
    top: Annotated[int | None, typer.Option(metavar="K", help="List this many of the worst: 20.", min=1)] = (
        None
    )
    row: Annotated[
        RowLoss | None,
        typer.Option(
            help="A row's loss: the sum of its elements' losses, or their mean.", show_default=False
        ),
    ] = None
    calibration_bins: Annotated[
        str | None,
        typer.Option(
            metavar="N|exact",
            help="Bins of probabilities: 64. exact counts each value of 16-bit logits or probabilities.",
        ),
    ] = None
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="gamma:G,G",
            help="Focal only: what other gammas would give, and with each every alpha and pos_weight.",
        ),
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object and nothing else.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report here: a .json or a .json.gz.", dir_okay=False),
    ] = None
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it as a page, in one file, here.", dir_okay=False),
    ] = None
