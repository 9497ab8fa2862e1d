"""`lossd score`: scores two .npy files."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd.cli.exits import Exit, client_errors, fail
from lossd.cli.options import ApiKey, Timeout, Url
from lossd_client import DEFAULT, Default, LossClient, LossResult


class LossName(StrEnum):
    """The losses."""

    BCE = "bce"
    FOCAL = "focal"


class ReductionName(StrEnum):
    """The client's reductions, as a choice on the command line."""

    NONE = "none"
    SUM = "sum"
    MEAN = "mean"


def score(
    logits: Annotated[Path, typer.Argument(metavar="LOGITS", exists=True, dir_okay=False)],
    targets: Annotated[Path, typer.Argument(metavar="TARGETS", exists=True, dir_okay=False)],
    loss: Annotated[LossName, typer.Option(help="Which loss.")] = LossName.BCE,
    weight: Annotated[
        Path | None,
        typer.Option(help="Weights, a .npy that broadcasts to LOGITS.", exists=True, dir_okay=False),
    ] = None,
    pos_weight: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS|FILE", help="The positives' weight: 2, or 1,2.5,4 one a class."),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Focal only: the server's default is 1.5.", show_default=False)
    ] = None,
    alpha: Annotated[
        str | None, typer.Option(metavar="NUMBER|none", help="Focal only: the server's default is 0.25.")
    ] = None,
    reduction: Annotated[
        ReductionName, typer.Option(help="What becomes of the elements' losses.")
    ] = ReductionName.MEAN,
    axis: Annotated[
        str | None, typer.Option(metavar="AXES", help="Reduce over these axes only: 0, -1 or 0,1.")
    ] = None,
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
    """Score LOGITS against TARGETS, two .npy files of one shape.

    The files are mapped, not read into memory: they go to the server from where they lie.
    """
    if loss is not LossName.FOCAL and (gamma is not None or alpha is not None):
        raise typer.BadParameter("--gamma and --alpha go with --loss focal")
    tensors: dict[str, Any] = {"logits": _load(logits), "targets": _load(targets)}
    if weight is not None:
        tensors["weight"] = _load(weight)
    if pos_weight is not None:
        tensors["pos_weight"] = _pos_weight(pos_weight)
    shaping: dict[str, Any] = {"reduction": reduction.value, "axis": _axis(axis)}

    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout) as client:
        start = time.perf_counter()
        if loss is LossName.FOCAL:
            power = DEFAULT if gamma is None else gamma
            result = client.focal(**tensors, **shaping, gamma=power, alpha=_alpha(alpha))
        else:
            result = client.bce(**tensors, **shaping)
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


def _alpha(text: str | None) -> float | Default | None:
    if text is None:
        return DEFAULT
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--alpha: {text!r} is neither a number nor none") from None


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
