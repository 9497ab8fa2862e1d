"""Logging to mlflow."""

import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lossd_client.loggers._cells import cell
from lossd_client.loggers._contents import Contents
from lossd_client.loggers._names import PLAIN, name_of

_METRICS: Final = 1_000  # a request, at most
_PARAMS: Final = 100
_WORST: Final = {"top_rows", "top_elements", "changes"}


def write(contents: Contents, to: Any, step: int | None, prefix: str) -> None:  # noqa: ANN401 - mlflow's types
    """Write to the active run of the module, to a run, or to one given by a client and its id.

    A database of mlflow keeps the greatest float64 for an infinite number; the files have it as it is. Tables
    of mlflow's own are made where no step is given, since a run has room for the names of some 70 alone.
    """
    from mlflow.entities import Metric, Param, RunTag

    client, run_id = _run(to)
    now, path = time.time_ns() // 1_000_000, prefix.split("/")
    params = [Param(name_of([*path, name], PLAIN), str(value)) for name, value in contents.params.items()]
    tags = [RunTag(name_of([*path, name], PLAIN), text) for name, text in contents.about.items()]
    metrics = [
        Metric(name_of([*path, *name], PLAIN), figure, now, step or 0)
        for name, figure in contents.figures.items()
    ]
    for some in _chunks(params, _PARAMS):  # first of all, since mlflow refuses others than it has
        client.log_batch(run_id, params=some)
    for some in _chunks(metrics, _METRICS):
        client.log_batch(run_id, metrics=some)
    client.log_batch(run_id, tags=tags)

    folder = name_of([*path, *([] if step is None else [f"step-{step}"])], PLAIN)
    if step is None:
        folder = _free(client, run_id, folder)
        for name in _WORST & contents.tables.keys():
            table = {column: list(map(cell, cells)) for column, cells in contents.tables[name].items()}
            client.log_table(run_id, table, f"{folder}/{name}.json")
    with TemporaryDirectory() as made:
        contents.write(Path(made))
        client.log_artifacts(run_id, made, folder)


def _run(to: Any) -> tuple[Any, str]:  # noqa: ANN401
    import mlflow

    if isinstance(to, tuple):
        return to
    if to is mlflow:
        to = mlflow.active_run() or mlflow.start_run()  # as mlflow.log_metric does
    return mlflow.MlflowClient(), to.info.run_id


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _free(client: Any, run_id: str, folder: str) -> str:  # noqa: ANN401
    """Return the folder, or one with a number behind its name: mlflow adds to a table that is there."""
    names = (folder if number == 1 else f"{folder}-{number}" for number in count(1))
    return next(name for name in names if all(each.is_dir for each in client.list_artifacts(run_id, name)))
