"""What `lossd score` says of its results."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd.cli.groups import Group
from lossd.cli.losses import Losses
from lossd_client import LossResult

_FIGURES: Final = ("loss", "sum", "count", "weight_sum", "positives")


def print_json(result: LossResult, by: str | None, groups: Mapping[Group, LossResult]) -> None:
    """Prints the result as one object, with the groups' figures in it if there are groups."""
    found = result.to_dict()
    if by is not None:
        found |= {"by": by, "groups": [{"group": key, **_figures(one)} for key, one in groups.items()]}
    typer.echo(json.dumps(found, allow_nan=False))


def print_result(result: LossResult, losses: Losses, url: str, elapsed: float) -> None:
    """Prints the result as a table."""
    Console(highlight=False).print(_table(result, losses, url, elapsed))


def print_groups(by: str, groups: Mapping[Group, LossResult]) -> None:
    """Prints the groups' results as a table, a row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(Text(by))
    for name in _FIGURES:
        table.add_column(name, justify="right")
    for key, result in groups.items():
        figures = _figures(result)
        cells = [str(figures[name]) if name == "count" else repr(figures[name]) for name in _FIGURES]
        table.add_row(Text("(none)" if key is None else str(key)), *cells)
    # As wide as it needs: numbers that are cut off are of no use, and a pipe has no edge.
    console = Console(highlight=False, width=10_000)
    console.print(table)
    console.print()


def _figures(result: LossResult) -> dict[str, Any]:
    plain = result.to_dict()
    return {name: plain[name] for name in _FIGURES}


def _table(result: LossResult, losses: Losses, url: str, elapsed: float) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(result, losses):
        table.add_row(name, Text(value))
    stages = ", ".join(f"{stage} {ms:.3g}" for stage, ms in result.timing.items())
    table.add_row("server", Text(url))
    table.add_row("ms", f"{elapsed:.1f}" + (f" (in the server: {stages})" if stages else ""))
    return table


def _rows(result: LossResult, losses: Losses) -> list[tuple[str, str]]:
    if isinstance(result.loss, float):
        rows = [("loss", repr(result.loss))]
    else:
        rows = [("loss", f"array of shape {losses.shape}")]
        if math.prod(losses.shape):
            figures = (("min", losses.smallest), ("mean", losses.mean), ("max", losses.largest))
            rows += [(f"loss {name}", repr(value)) for name, value in figures]
    params = "".join(f" {name}={value}" for name, value in result.params.items() if value is not None)
    return [
        *rows,
        ("sum", repr(result.sum)),
        ("count", str(result.count)),
        ("weight_sum", repr(result.weight_sum)),
        ("positives", repr(result.positives)),
        ("loss name", f"{result.loss_name}{params} reduction={result.reduction}"),
    ]
