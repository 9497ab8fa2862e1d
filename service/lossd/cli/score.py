"""`lossd score`: scores two .npy files."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd.cli.exits import Exit, client_errors, fail
from lossd.cli.options import ApiKey, Timeout, Url
from lossd_client import LossClient, LossResult

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


class TargetsFormatName(StrEnum):
    """What the targets' file may hold."""

    DENSE = "dense"
    INDEX = "index"


class VariantName(StrEnum):
    """The focal loss's variants."""

    SIGMOID = "sigmoid"
    EXP = "exp"
    QUALITY = "quality"


def score(
    logits: Annotated[Path, typer.Argument(metavar="LOGITS", exists=True, dir_okay=False)],
    targets: Annotated[Path, typer.Argument(metavar="TARGETS", exists=True, dir_okay=False)],
    loss: Annotated[LossName, typer.Option(help="Which loss.")] = LossName.BCE,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="LOGITS holds probabilities, each in [0, 1], instead.")
    ] = False,
    weight: Annotated[
        Path | None,
        typer.Option(help="Weights, a .npy that broadcasts to LOGITS.", exists=True, dir_okay=False),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Which elements count, a .npy of bool or uint8 that broadcasts to LOGITS.",
            exists=True,
            dir_okay=False,
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
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 60.0,
) -> None:
    """Score LOGITS against TARGETS, two .npy files.

    The files are mapped, not read into memory: they go to the server from where they lie.
    """
    own = _own_options(gamma, alpha, variant)
    if own and loss is not LossName.FOCAL:
        raise typer.BadParameter("--gamma, --alpha and --variant go with --loss focal")
    given: dict[str, Any] = {
        "probabilities" if probabilities else "logits": _load(logits),
        "targets": _load(targets),
        "weight": None if weight is None else _load(weight),
        "mask": None if mask is None else _load(mask),
        "pos_weight": None if pos_weight is None else _pos_weight(pos_weight),
        "reduction": reduction.value,
        "axis": _axis(axis),
        "normalizer": _normalizer(normalizer),
        "class_axis": class_axis,
        "targets_format": targets_format.value,
        "label_smoothing": label_smoothing,
        "ignore_index": ignore_index,
        "allow_nan": allow_nan,
    }
    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout) as client:
        start = time.perf_counter()
        result = client.focal(**given, **own) if loss is LossName.FOCAL else client.bce(**given)
        elapsed = (time.perf_counter() - start) * 1000.0

    if out is not None:
        _save(out, result)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), allow_nan=False))
    else:
        Console(highlight=False).print(_table(result, client.base_url, elapsed))


def _load(path: Path) -> NDArray[Any]:
    try:  # what np.load does for a .npy with mmap_mode="r"; np.load itself would open archives too
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, OverflowError, ValueError) as error:
        fail(f"{path} is not a .npy file of numbers: {error}", Exit.USAGE)
    return array


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None


def _pos_weight(text: str) -> float | list[float] | NDArray[Any]:
    numbers = _numbers(text)
    if numbers is not None:
        return numbers[0] if len(numbers) == 1 else numbers
    if Path(text).is_file():
        return _load(Path(text))
    raise typer.BadParameter(f"--pos-weight: {text!r} is neither numbers nor a file")


def _own_options(gamma: float | None, alpha: str | None, variant: VariantName | None) -> dict[str, Any]:
    """The focal loss's own options, those that were given."""
    own: dict[str, Any] = {}
    if gamma is not None:
        own["gamma"] = gamma
    if alpha is not None:
        own["alpha"] = _alpha(alpha)
    if variant is not None:
        own["variant"] = variant.value
    return own


def _alpha(text: str) -> float | list[float] | None:
    if text.lower() == "none":
        return None
    numbers = _numbers(text)
    if numbers is None:
        raise typer.BadParameter(f"--alpha: {text!r} is neither numbers nor none")
    return numbers[0] if len(numbers) == 1 else numbers


def _normalizer(text: str) -> str | float:
    if text in _NORMALIZERS:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"--normalizer: {text!r} is neither a number nor {', '.join(_NORMALIZERS)}"
        ) from None


def _axis(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    try:
        axes = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--axis: {text!r} is not 0, -1 or 0,1") from None
    return axes[0] if len(axes) == 1 else axes


def _save(path: Path, result: LossResult) -> None:
    try:
        with path.open("wb") as file:  # np.save would add a suffix to a bare path
            np.save(file, np.asarray(result.loss, dtype=np.float64))
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", Exit.USAGE)


def _table(result: LossResult, url: str, elapsed: float) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(result):
        table.add_row(name, Text(value))
    stages = ", ".join(f"{stage} {ms:.3g}" for stage, ms in result.timing.items())
    table.add_row("server", Text(url))
    table.add_row("ms", f"{elapsed:.1f}" + (f" (in the server: {stages})" if stages else ""))
    return table


def _rows(result: LossResult) -> list[tuple[str, str]]:
    loss = result.loss
    if isinstance(loss, np.ndarray):
        rows = [("loss", f"array of shape {loss.shape}")]
        if loss.size:
            figures = (("min", loss.min()), ("mean", loss.mean()), ("max", loss.max()))
            rows += [(f"loss {name}", repr(float(value))) for name, value in figures]
    else:
        rows = [("loss", repr(loss))]
    params = "".join(f" {name}={value}" for name, value in result.params.items() if value is not None)
    return [
        *rows,
        ("sum", repr(result.sum)),
        ("count", str(result.count)),
        ("weight_sum", repr(result.weight_sum)),
        ("positives", repr(result.positives)),
        ("loss name", f"{result.loss_name}{params} reduction={result.reduction}"),
    ]
