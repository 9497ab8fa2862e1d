"""Parameters of losses from their text on the command line."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import typer
from numpy.typing import NDArray

from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import LOSSES, SHARED
from lossd_client._calls.values import NORMALIZERS
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.sources import ColumnChoice, seen


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


_PARAMETERS: Final = {name for loss in LOSSES.values() for name in loss.parameters}


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None


def numbers_of(text: str, name: str) -> float | list[float] | NDArray[Any]:
    """Return --pos-weight, or another option with a number for each class: numbers, or the array of a file.

    Args:
        text: The option's text.
        name: The parameter's name.

    Raises:
        BadFile: It cannot be read.
    """
    option = option_of(name)
    numbers = _numbers(text)
    if numbers is not None:
        return numbers[0] if len(numbers) == 1 else numbers
    location = Location(text)
    if location.is_url or (location.path is not None and location.path.is_file()):
        file = open_file(text)
        if file.is_table and len(file.names) > 1:
            raise BadFile(
                f"{seen(file)}: a table for {option} has one column, with the classes in their order, or "
                "give the numbers themselves, as 1,2.5,4"
            )
        source = ColumnChoice(name, option).find(file)
        if source.names != name and source.names in _PARAMETERS:
            what = f"{seen(file)}, which by its name is for {option_of(str(source.names))}"
            raise BadFile(f"{what}, and not for {option}: rename it {name} if that is what it holds")
        return source.whole()
    raise typer.BadParameter(f"{option}: {text!r} is neither numbers nor a file")


def is_file(text: str) -> bool:
    """Return whether --pos-weight, or another option with a number for each class, names a file."""
    return _numbers(text) is None


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


def option_of(name: str) -> str:
    """Return the option of a parameter."""
    return f"--{name.replace('_', '-')}"


def refuse_others(loss: Loss, names: Iterable[str]) -> None:
    """Refuse parameters of other losses.

    Raises:
        BadParameter: One is among the names.
    """
    for name in names:
        if name not in loss.own:
            others = [other.name for other in LOSSES.values() if name in other.own]
            own = ", ".join(option_of(each) for each in loss.own if each not in SHARED)
            raise typer.BadParameter(
                f"{option_of(name)} goes with --loss {_or(others)}, and not with {loss.name}"
                + (f", which has {own}" if own else "")
            )


def own_params(loss: Loss, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the loss's own parameters from the texts of their options.

    Raises:
        BadParameter: One is none of the parameter's values.
        BadFile: A file with the numbers cannot be read.
    """
    return {name: _own_param(loss, name, text) for name, text in texts.items()}


def _own_param(loss: Loss, name: str, text: str) -> Any:  # noqa: ANN401 - any parameter
    parameter, option = loss.own[name], option_of(name)
    if parameter.has_none and text.lower() == "none":
        return None
    if parameter.kind == "word":
        if text not in parameter.words:
            what = f"{option}: {text!r} is not one of {loss.name}'s"
            raise typer.BadParameter(f"{what}: {', '.join(parameter.words)}")
        return text
    numbers = _numbers(text)
    if parameter.kind == "number":
        if numbers is None or len(numbers) > 1:
            raise typer.BadParameter(f"{option}: {text!r} is not a number")
        return numbers[0]
    if numbers is None and not Location(text).is_url and not Path(text).is_file():
        raise typer.BadParameter(f"{option}: {text!r} is neither numbers nor none, and no file")
    found = numbers_of(text, name)
    return [found] if isinstance(found, float) and not isinstance(parameter.default, float) else found


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def normalizer_of(text: str) -> str | float:
    """Return --normalizer."""
    if text in NORMALIZERS:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"--normalizer: {text!r} is neither a number nor {', '.join(NORMALIZERS)}"
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
