"""Datasets of Ray Data: each block is scored where it lies, and the driver adds up what they gave.

Without GPUs blocks are scored by tasks, which keep the kernel of their process. Actors that hold their cores
all the time would leave none to those who read the blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from lossd.batch.partial import Partial, merge
from lossd.batch.scorer import Scorer
from lossd.extras import needs

if TYPE_CHECKING:
    from ray.data import Dataset

_TOGETHER: Final = 16
"""So many partials are merged by a task before they come to the driver."""
_GPU_ROWS: Final = 1 << 14
"""Rows of a batch for a GPU, for which Ray wants a number."""
_RETRIES: Final = 4
"""How often a block is scored again whose process or machine is lost. By default Ray would try for ever."""
_TASK_RETRIES: Final = {"max_retries": _RETRIES}
_ACTOR_RETRIES: Final = {"max_restarts": _RETRIES, "max_task_retries": _RETRIES}


def score(
    ds: Dataset, scorer: Scorer, *, gpus: float = 0.0, actors: int | None = None, rows: int | None = None
) -> Partial:
    """Score a dataset.

    Blocks that are scored again, since their process or machine is lost, do not count twice: Ray passes on
    one result.

    Args:
        ds: The dataset. Without ids, the section ``top`` names rows by their place in its order, which Ray is
            then asked to keep.
        scorer: The loss; with GPUs of ``device="cuda"``.
        gpus: The GPUs of an actor; 0 for tasks on CPUs.
        actors: The most actors; by default the cluster's GPUs divided by `gpus`.
        rows: The number of rows; by default ``ds.count()``, which looks at the metadata of files, or else
            runs what makes the dataset once more.

    Raises:
        RowsMissing: The rows scored are not as many.
        ray.exceptions.RayTaskError: A row is refused; the message holds the service's text.
    """
    with needs("lossd.batch.ray", "local,ray"):
        from ray.data import ActorPoolStrategy

    schema = ds.schema()
    names = [] if schema is None else schema.names
    chosen = ds.select_columns(list(scorer.select(names)))
    if gpus:
        pool = ActorPoolStrategy(min_size=1, max_size=actors or _actors(gpus))
        given = {"fn_constructor_args": (scorer,), "compute": pool, "num_gpus": gpus, **_ACTOR_RETRIES}
        scored = _mapped(chosen, _Actor, _GPU_ROWS, given)
    else:
        scored = _mapped(chosen, _score, None, {"fn_args": (scorer,), "num_cpus": 1, **_TASK_RETRIES})
    merged = _mapped(scored, _merge, _TOGETHER, {"num_cpus": 1, **_TASK_RETRIES})
    merged.context.execution_options.preserve_order = True
    found = scorer.nothing
    for batch in merged.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=1):
        found = found.merge(*_partials(batch))
    counted = ds.count() if rows is None else rows
    return merge([found], rows=counted)


def _mapped(ds: Dataset, run: Callable[..., object], rows: int | None, how: Mapping[str, Any]) -> Dataset:
    """Return a dataset of what a function makes of batches of rows, of whole blocks by default."""
    with warnings.catch_warnings():
        # Ray 2.60 wants named parameters, and has no name yet for the number of retries.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", DeprecationWarning)
        return ds.map_batches(run, batch_format="pyarrow", batch_size=rows, **how)


def _score(table: pa.Table, scorer: Scorer) -> pa.Table:
    """Return one row for a block: its number of rows, and its partial."""
    return pa.Table.from_batches(list(scorer.map_arrow(iter(table.to_batches()))))


class _Actor:
    """An actor that has the scorer, and so a device's kernel."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        return _score(table, self._scorer)


def _merge(table: pa.Table) -> pa.Table:
    """Return one row for several."""
    found = merge(_partials(table))
    return pa.table({"rows": pa.array([found.rows]), "partial": pa.array([found.to_bytes()], pa.binary())})


def _partials(table: pa.Table) -> Iterator[Partial]:
    for row in table.to_pylist():
        yield Partial.from_bytes(row["partial"])


def _actors(gpus: float) -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("GPU", 0) / gpus))
