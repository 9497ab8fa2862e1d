"""Losses of tables that lie on many machines: each is scored where it lies, and what is left adds up.

Sums are exact, so blocks, order, machines and retries change no bit of the answer. Adapters for engines are
`lossd.batch.ray`, `lossd.batch.spark` and `lossd.batch.dask`.
"""

from lossd.extras import needs

with needs("lossd.batch", "local"):
    from lossd.batch.partial import Partial, RowsMissing, merge
    from lossd.batch.scorer import Scorer
    from lossd.types import RequestError

__all__ = ["Partial", "RequestError", "RowsMissing", "Scorer", "merge"]
