"""The order of the lists of a report.

The greatest loss is first, and NaN before all. Equal ones are ordered by id, then by the position within the
row; without ids by index: the row, then the position.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lossd.core.report.partial import Entries, Int64Array


def best(entries: Entries, count: int, ids: npt.DTypeLike | None) -> Entries:
    """Return the first entries of a list, in order.

    Args:
        entries: Entries in any order.
        count: Most entries to return.
        ids: int64 or uint64, the dtype that the ids are compared as; None if rows have none.
    """
    return entries[_order(entries, ids)[:count]]


def _order(entries: Entries, ids: npt.DTypeLike | None) -> Int64Array:
    key = entries["key"]
    first = (-key, ~np.isnan(key))  # numpy sorts by the last of the keys first
    if ids is None:
        return np.lexsort((entries["position"], entries["row"], *first))
    return np.lexsort((entries["row"], entries["position"], entries["id"].view(ids), *first))
