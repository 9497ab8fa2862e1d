"""Logging to TensorBoard."""

import os
import re
from collections.abc import Iterable
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from lossd_client.loggers._cells import cell, columns_of_bins
from lossd_client.loggers._contents import Contents
from lossd_client.loggers._names import PLAIN, name_of
from lossd_client.report._figures.histogram import Histogram

_SPECIAL: Final = re.compile(r"([\\`*_\[\]|])")
_ROWS: Final = 100  # of a table, which TensorBoard shows as text


def write(contents: Contents, to: Any, step: int | None, prefix: str) -> None:  # noqa: ANN401 - a SummaryWriter
    """Write to a SummaryWriter, and the report's files beside its event files.

    Scalars are float32 there; tables have all digits.
    """
    path = prefix.split("/")
    for name, figure in contents.figures.items():
        to.add_scalar(name_of([*path, *name], PLAIN), figure, step)
    about = {**contents.params, **contents.about}
    tables = {"parameters": {"name": list(about), "value": list(about.values())}, **contents.tables}
    for table, columns in tables.items():
        to.add_text(name_of([*path, table], PLAIN), _markdown(columns), step)
    report = contents.report
    if report is not None and "histogram" in report.sections:
        for table, histogram in (("losses", report.element_histogram), ("row_losses", report.row_histogram)):
            _add_histogram(to, name_of([*path, table], PLAIN), histogram, step)
    to.flush()
    folder = Path(os.fspath(to.logdir if hasattr(to, "logdir") else to.log_dir))
    contents.write(folder / name_of([*path, *([] if step is None else [f"step-{step}"])], PLAIN))


def _markdown(columns: dict[str, list[Any]]) -> str:
    rows = list(zip(*columns.values(), strict=True))
    lines = [_line(columns), "| --- " * len(columns) + "|", *(_line(map(cell, row)) for row in rows[:_ROWS])]
    rest = f"\n\n{len(rows) - _ROWS} more rows are in the file." if len(rows) > _ROWS else ""
    return "\n".join(lines) + rest


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join("" if each is None else _plain(str(each)) for each in cells) + " |"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", escape(" ".join(text.split()), quote=False))


def _add_histogram(to: Any, name: str, histogram: Histogram, step: int | None) -> None:  # noqa: ANN401
    edges, counts = columns_of_bins(histogram)
    if not counts:
        return
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    to.add_histogram_raw(
        name,
        min=edges[0],
        max=edges[-1],
        num=sum(counts),
        sum=sum(count * middle for count, middle in zip(counts, middles, strict=True)),
        sum_squares=sum(count * middle**2 for count, middle in zip(counts, middles, strict=True)),
        bucket_limits=edges[1:],
        bucket_counts=counts,
        global_step=step,
    )
