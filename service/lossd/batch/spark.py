"""Data frames of Spark: each partition is scored where it lies, and the driver adds up what they gave.

A partition's figures take about 0.2 kB for the loss alone, and in a report 16 bytes for each figure of each
group and class.
All of them come to the driver, within ``spark.driver.maxResultSize``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lossd.batch.partial import Partial, merge
from lossd.batch.scorer import Scorer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SCHEMA: Final = "rows long, partial binary"


def score(df: DataFrame, scorer: Scorer) -> Partial:
    """Score a data frame.

    Tasks that are tried again or run twice do not count twice: Spark passes on one result. A data frame
    that has other rows each time it is computed (``rand``, ``limit`` without an order) raises
    `RowsMissing`; write it to files first.

    Args:
        df: The data frame. Without ids, the section ``top`` names rows by their place in the order of its
            partitions.
        scorer: The loss.

    Raises:
        RowsMissing: The rows scored are not as many as ``df.count()``.
        pyspark.errors.PythonException: A row is refused; the message holds the service's text.
    """
    chosen = df.select(*(f"`{name}`" for name in scorer.select(df.columns)))
    found = chosen.mapInArrow(scorer.map_arrow, _SCHEMA).collect()
    return merge([scorer.nothing, *(row.partial for row in found)], rows=df.count())
