"""Logging to Weights & Biases."""

import math
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lossd_client.loggers._cells import cell, columns_of_bins
from lossd_client.loggers._contents import Contents
from lossd_client.loggers._names import IDENTIFIER, name_of
from lossd_client.report import Report
from lossd_client.report._tables import Columns

_BINS: Final = 512  # of a histogram, at most
_ROWS: Final = 1_000  # of a table: a new one is kept for each step


def write(contents: Contents, to: Any, step: int | None, prefix: str) -> None:  # noqa: ANN401 - wandb's types
    """Write to a run, or to the active one of the module; all at one step."""
    import wandb

    run = wandb.run if to is wandb else to
    if run is None:
        raise RuntimeError("wandb has no active run: call wandb.init() first")
    path = prefix.split("/")
    found: dict[str, Any] = {
        name_of([*path, *name], IDENTIFIER): each for name, each in contents.figures.items()
    }
    drawn = {name: _table(columns) for name, columns in contents.tables.items()} | _pictures(contents.report)
    found |= {name_of([*path, name], IDENTIFIER): each for name, each in drawn.items()}
    run.config.update({prefix: {**contents.params, **contents.about}}, allow_val_change=True)
    run.log(found, step=step)
    if contents.files:
        with TemporaryDirectory() as made:
            contents.write(Path(made))
            artifact = wandb.Artifact(f"{name_of(path, IDENTIFIER).replace('/', '-')}-{run.id}", "lossd")
            artifact.add_dir(made)
            run.log_artifact(artifact)


def _table(columns: Columns) -> Any:  # noqa: ANN401
    import wandb

    rows = islice(zip(*columns.values(), strict=True), _ROWS)
    return wandb.Table(
        columns=list(columns), data=[list(map(cell, row)) for row in rows], allow_mixed_types=True
    )


def _pictures(report: Report | None) -> dict[str, Any]:
    """Return histograms and a reliability diagram."""
    import wandb

    if report is None:
        return {}
    found: dict[str, Any] = {}
    if "histogram" in report.sections:
        for name, each in (("losses", report.element_histogram), ("row_losses", report.row_histogram)):
            edges, counts = columns_of_bins(each)
            if counts:
                found[name] = wandb.Histogram(np_histogram=_joined(counts, edges))
    if "calibration" in report.sections:
        bins = [each for each in report.calibration.reliability() if each.count]
        table = wandb.Table(
            columns=["probability", "rate"], data=[[each.probability, each.rate] for each in bins]
        )
        title = "Share of positives by probability"
        found["reliability_diagram"] = wandb.plot.line(table, "probability", "rate", title=title)
    return found


def _joined(counts: list[int], edges: list[float]) -> tuple[list[int], list[float]]:
    """Return a histogram's counts and edges, with neighbours joined if there are more than wandb takes."""
    size = math.ceil(len(counts) / _BINS)
    starts = range(0, len(counts), size)
    limits = [edges[min(start + size, len(counts))] for start in starts]
    return [sum(counts[start : start + size]) for start in starts], [edges[0], *limits]
