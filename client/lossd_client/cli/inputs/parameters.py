"""Parameters of losses from their text on the command line."""

from enum import StrEnum
from typing import Any, Final

import typer
from numpy.typing import NDArray

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.sources import ColumnChoice, seen

_NORMALIZERS: Final = ("count", "weight", "positives")


class LossName(StrEnum):
    """The losses."""

    BCE = "bce"
    FOCAL = "focal"


class ReductionName(StrEnum):
    """The client's reductions, as a choice on the command line."""

    NONE = "none"
    SUM = "sum"
    MEAN = "mean"


class RowLoss(StrEnum):
    """What a report takes as a row's loss."""

    SUM = "sum"
    MEAN = "mean"


class TargetsFormatName(StrEnum):
    """The formats of targets."""

    DENSE = "dense"
    INDEX = "index"


class VariantName(StrEnum):
    """The focal loss's variants."""

    SIGMOID = "sigmoid"
    EXP = "exp"
    QUALITY = "quality"


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None


def pos_weight_of(text: str) -> float | list[float] | NDArray[Any]:
    """Return --pos-weight: numbers, or the array of a file.

    Raises:
        BadFile: It cannot be read.
    """
    numbers = _numbers(text)
    if numbers is not None:
        return numbers[0] if len(numbers) == 1 else numbers
    location = Location(text)
    if location.is_url or (location.path is not None and location.path.is_file()):
        file = open_file(text)
        if file.is_table and len(file.names) > 1:
            raise BadFile(
                f"{seen(file)}: a table for --pos-weight has one column, with the classes in their order, or "
                "give the numbers themselves, as 1,2.5,4"
            )
        return ColumnChoice("pos_weight", "--pos-weight").find(file).whole()
    raise typer.BadParameter(f"--pos-weight: {text!r} is neither numbers nor a file")


def is_file(text: str | None) -> bool:
    """Return whether --pos-weight names a file."""
    return text is not None and _numbers(text) is None


def ignore_index_of(text: str | None, drops_unlabelled: bool) -> float | str | None:
    """Return --ignore-index, or "nan" for --drop-unlabelled."""
    found: float | str | None = None
    if text is not None:
        try:
            found = "nan" if text.lower() == "nan" else float(text)
        except ValueError:
            raise typer.BadParameter(f"--ignore-index: {text!r} is neither a number nor nan") from None
    if drops_unlabelled and found not in (None, "nan"):
        what = f"--drop-unlabelled drops what has no value, and --ignore-index {text} another"
        raise typer.BadParameter(f"{what}: leave one out, and write the targets to drop in one way")
    return "nan" if drops_unlabelled else found


def alpha_of(text: str) -> float | list[float] | None:
    """Return --alpha."""
    if text.lower() == "none":
        return None
    numbers = _numbers(text)
    if numbers is None:
        raise typer.BadParameter(f"--alpha: {text!r} is neither numbers nor none")
    return numbers[0] if len(numbers) == 1 else numbers


def normalizer_of(text: str) -> str | float:
    """Return --normalizer."""
    if text in _NORMALIZERS:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"--normalizer: {text!r} is neither a number nor {', '.join(_NORMALIZERS)}"
        ) from None


def bins_of(text: str) -> int | str:
    """Return --calibration-bins."""
    if text == "exact":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(
            f"--calibration-bins: {text!r} is neither a whole number nor exact"
        ) from None


def sweep_of(text: str) -> dict[str, list[float]]:
    """Return --sweep."""
    name, _, values = text.partition(":")
    numbers = _numbers(values)
    if name != "gamma" or numbers is None:
        raise typer.BadParameter(f"--sweep: {text!r} is not as gamma:0,1,2.5")
    return {name: numbers}


def axis_of(text: str | None) -> int | list[int] | None:
    """Return --axis."""
    if text is None:
        return None
    try:
        axes = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--axis: {text!r} is not 0, -1 or 0,1") from None
    return axes[0] if len(axes) == 1 else axes
