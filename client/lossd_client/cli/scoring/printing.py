"""Stage 6 of `lossd score`: the answer as JSON and as tables."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd_client import LossResult
from lossd_client.cli.inputs.ids import called
from lossd_client.cli.scoring.groups import Group, texts_of
from lossd_client.cli.scoring.losses import FIGURES, Losses

_TERMS: Final = ("sum_terms", "weight_sum_terms", "positives_terms")


@dataclass(frozen=True, slots=True)
class Groups:
    """The results of groups.

    Attributes:
        by: The columns that rows are grouped by.
        of: The results.
    """

    by: Sequence[str]
    of: Sequence[tuple[Group, LossResult]]


def answer_of(result: LossResult, groups: Groups | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer as a JSON object: the result's fields, the groups' figures, and `about`."""
    found = result.to_dict() | dict(about)
    if groups is not None:
        listed = [
            {"group": list(key) if isinstance(key, tuple) else key, **_plain(one, *FIGURES, *_TERMS)}
            for key, one in groups.of
        ]
        found |= {"by": groups.by[0] if len(groups.by) == 1 else list(groups.by), "groups": listed}
    return found


def print_json(answer: Mapping[str, Any]) -> None:
    """Print the answer as one object."""
    typer.echo(json.dumps(answer, allow_nan=False))


def print_result(
    result: LossResult, losses: Losses, joined_by: Sequence[str], shown: tuple[str, str], elapsed: float
) -> None:
    """Print the result as a table; `shown` is a row of it that says where it is from."""
    # As wide as it needs: notes that are cut into lines cannot be looked for.
    Console(highlight=False, width=10_000).print(_table(result, losses, joined_by, shown, elapsed))


def print_groups(groups: Groups) -> None:
    """Print the groups' results as a table, a row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in groups.by:
        table.add_column(Text(name))
    for name in FIGURES:
        table.add_column(name, justify="right")
    texts = texts_of([key for key, _ in groups.of])
    for values, (_, result) in zip(texts, groups.of, strict=True):
        figures = _plain(result, *FIGURES)
        cells = [str(figures[name]) if name == "count" else repr(figures[name]) for name in FIGURES]
        table.add_row(*(Text("(none)" if value is None else value) for value in values), *cells)
    # As wide as it needs: numbers that are cut off are of no use, and a pipe has no edge.
    console = Console(highlight=False, width=10_000)
    console.print(table)
    console.print()


def _plain(result: LossResult, *names: str) -> dict[str, Any]:
    plain = result.to_dict()
    return {name: plain[name] for name in names}


def _table(
    result: LossResult, losses: Losses, joined_by: Sequence[str], shown: tuple[str, str], elapsed: float
) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(result, losses):
        table.add_row(name, Text(value))
    if joined_by:
        table.add_row("joined by", Text(called(joined_by)))
    for note in result.notes:
        table.add_row("note", Text(note))
    stages = ", ".join(f"{stage} {ms:.3g}" for stage, ms in result.timing.items())
    table.add_row(shown[0], Text(shown[1]))
    table.add_row("ms", f"{elapsed:.1f}" + (f" (in the server: {stages})" if stages else ""))
    return table


def _rows(result: LossResult, losses: Losses) -> list[tuple[str, str]]:
    if isinstance(result.loss, float):
        rows = [("loss", repr(result.loss))]
    else:
        rows = [("loss", f"array of shape {losses.shape}")]
        if math.prod(losses.shape):
            # Of what is dropped the losses are 0, and in a mean of all the others it has no part.
            each = result.reduction == "none" and result.count
            mean = result.sum / result.count if each else losses.mean
            figures = (("min", losses.smallest), ("mean", mean), ("max", losses.largest))
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
