# Written by `make reference` from lossd/core/catalog.py: change that.
"""The losses, and their own parameters, on the command line."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

_PANEL: Final = "Parameters of some losses"


class LossName(StrEnum):
    """The losses."""

    BCE = "bce"
    FOCAL = "focal"
    ASYMMETRIC = "asymmetric"
    VARIFOCAL = "varifocal"
    CROSS_ENTROPY = "cross_entropy"
    SOFTMAX_FOCAL = "softmax_focal"
    DICE = "dice"
    TVERSKY = "tversky"
    SQUARED = "squared"
    HINGE = "hinge"
    BOX = "box"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """The losses' own parameters as text, which `parameters.py` reads as the loss has it."""

    gamma: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="focal: How much less easy elements count, those that the model gets right: each loss is "
            "multiplied by (1 - p_t)^gamma, where p_t is the probability that it gives the truth. By "
            "default 1.5. varifocal: How much less easy negatives count: p^gamma. By default 2. "
            "softmax_focal: How much less easy rows count: (1 - p_c)^gamma. By default 2.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    alpha: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS|FILE|NUMBER|none",
            help="focal: The balance of positives and negatives: the loss of a positive is multiplied by "
            "alpha, that of a negative by 1 - alpha. By default 0.25. varifocal: What the loss of "
            "negatives is multiplied by. By default 0.75. softmax_focal: A factor for each class, by "
            "which the loss of its rows is multiplied; by default none. tversky: What false positives "
            "are multiplied by. By default 0.5.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="sigmoid|exp|quality|iou|giou|diou|ciou",
            help="focal: What is raised to the power gamma. By default sigmoid. box: iou: the boxes' overlap "
            "over their union; giou: IoU, less the part of the smallest enclosing box that neither box "
            "covers; diou: IoU, less the distance of their centres; ciou: less that and the difference "
            "of their shapes. By default iou.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    gamma_pos: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="asymmetric: How much less easy positives count: (1 - p)^gamma_pos. By default 1.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    gamma_neg: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="asymmetric: How much less easy negatives count: m^gamma_neg. By default 4.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="asymmetric: Negatives with a probability up to this cost nothing. By default 0.05.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    class_weight: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS|FILE|none",
            help="cross_entropy: A weight for each class: a row counts with the weight of its target's "
            "class.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    smooth: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="dice and tversky: Added to the divisor: the larger it is, the smaller are losses of small "
            "objects. By default 1.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    per: Annotated[
        str | None,
        typer.Option(
            metavar="sample|class|all",
            help="dice and tversky: One loss for each sample, an index of axis 0; for each class, over all "
            "samples; or for all together. By default sample.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    beta: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="tversky: What false negatives are multiplied by. By default 0.5.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            metavar="xyxy|cxcywh",
            help="box: How a box is written: two corners, or its centre, width and height. By default xyxy.",
            rich_help_panel=_PANEL,
        ),
    ] = None
