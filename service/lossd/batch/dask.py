"""Data frames of Dask, or delayed tables: scored by its threads, processes or workers, merged in a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lossd.batch.partial import Partial, merge
from lossd.batch.scorer import Scorer
from lossd.extras import needs

if TYPE_CHECKING:
    from dask.dataframe import DataFrame
    from dask.delayed import Delayed

_TOGETHER: Final = 16
"""So many partials are merged by a task."""


def score(tables: DataFrame | Sequence[Delayed], scorer: Scorer, **how: Any) -> Partial:  # noqa: ANN401
    """Score a data frame, or tables.

    Args:
        tables: A data frame, or delayed tables of any kind that `Scorer.score` takes. Without ids, the
            section ``top`` names rows by their place in the order of these.
        scorer: The loss.
        how: For ``dask.compute``: ``scheduler="processes"`` and the like.

    Raises:
        RowsMissing: The rows scored are not as many as Dask counts in the tables.
        RequestError: A row is refused; the text is the service's.
    """
    with needs("lossd.batch.dask", "local,dask"):
        import dask

    if not isinstance(tables, Sequence):
        tables = tables[scorer.select(tables.columns)].to_delayed()
    counts = [dask.delayed(len)(table) for table in tables]
    partials = [dask.delayed(scorer.score)(table) for table in tables]
    while len(partials) > 1:
        starts = range(0, len(partials), _TOGETHER)
        partials = [dask.delayed(merge)(partials[start : start + _TOGETHER]) for start in starts]
    found, rows = dask.compute(partials, counts, **how)
    return merge([scorer.nothing, *found], rows=sum(rows))
