"""A loss with its parameters, which scores tables wherever it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from lossd.batch.columns import ArrowBody
from lossd.batch.partial import Partial
from lossd.batch.scoring import Scoring
from lossd.core.catalog import LOSSES, Loss, register
from lossd.core.parameters import check_params, check_targets
from lossd.core.report.parameters import check_report
from lossd.settings import Settings
from lossd.types import GROUP_PREFIX, TENSOR_DTYPES, ErrorCode, RequestError

_OUTPUT: Final = pa.schema([("rows", pa.int64()), ("partial", pa.binary())])
"""What `Scorer.map_arrow` yields."""


class Scorer:
    """Scores tables by one loss. Pickled by its arguments; threads may share one.

    Args:
        loss: The loss's name.
        sections: The sections of a report, or ``all``; by default those that `by` and `ids` are for, and no
            report without these.
        by: The columns that hold groups: integers or strings.
        ids: The column that holds the ids of rows, by which the section ``top`` names them.
        columns: The column of each tensor that is not called as the tensor is.
        device: ``cpu`` or ``cuda:N``.
        params: All other parameters of a request.

    Raises:
        RequestError: A parameter is unknown, not allowed, or does not go with the others.
    """

    def __init__(
        self,
        loss: str,
        *,
        sections: str | Sequence[str] = (),
        by: str | Sequence[str] = (),
        ids: str | None = None,
        columns: Mapping[str, str] | None = None,
        device: str = "cpu",
        **params: object,
    ) -> None:
        self._arguments = (
            loss,
            {"sections": sections, "by": by, "ids": ids, "columns": columns, "device": device, **params},
        )
        self.device: Final = device
        self._settings = Settings()
        self._loss = _loss_of(loss, self._settings)
        groups = [by] if isinstance(by, str) else list(by)
        asked = sections.split(",") if isinstance(sections, str) else list(sections)
        if "all" not in asked:
            asked += [name for name, its in (("groups", groups), ("top", ids)) if its and name not in asked]
        given = {name: _plain(value) for name, value in params.items()}
        checked = check_params(self._loss, given | ({"report": asked} if asked else {}))
        if checked["reduction"] == "none":
            detail = "partials have no losses row by row; use reduction mean or sum"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/reduction", detail)])
        check_targets(checked)
        check_report(self._loss, checked)
        self._is_mean = checked["reduction"] == "mean"
        self._params = given | {"reduction": "sum"} | ({"report": asked} if asked else {})
        self._needed = dict(columns or {}) | {f"{GROUP_PREFIX}{name}": name for name in groups}
        if ids is not None:
            self._needed["ids"] = ids
        named = TENSOR_DTYPES.keys() - {"groups", "ids"} - self._needed.keys()
        self._optional = {name: name for name in TENSOR_DTYPES if name in named}

    def __reduce__(self) -> tuple[Any, ...]:
        loss, arguments = self._arguments
        return _make, (loss, arguments)

    def score(self, table: Any) -> Partial:  # noqa: ANN401 - any table
        """Score a table.

        Args:
            table: A pyarrow Table, RecordBatch or RecordBatchReader, or anything that is a stream of Arrow
                data: a data frame of polars or pandas, a relation of DuckDB.

        Raises:
            RequestError: The table has not the columns that are needed, or a value is not allowed; the text
                is the service's.
        """
        if isinstance(table, pa.RecordBatch):
            return self._score([table])
        return self._score(pa.RecordBatchReader.from_stream(table))

    def map_arrow(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield one row for all batches: their number of rows, and the bytes of their partial."""
        partial = self._score(batches)
        yield pa.RecordBatch.from_pylist(
            [{"rows": partial.rows, "partial": partial.to_bytes()}], schema=_OUTPUT
        )

    def _score(self, batches: Iterable[pa.RecordBatch]) -> Partial:
        body: ArrowBody | None = None
        scoring = Scoring(self._loss, self._params, self.device, self._settings)
        rows = 0
        for batch in batches:
            if not batch.num_rows:
                continue  # its columns may have no types
            rows += batch.num_rows
            if body is None:
                body = ArrowBody(batch.schema, self._needed, self._optional)
            for chunks in body.chunks(batch):
                scoring.feed(chunks)
        if body is None:
            return Partial()
        scoring.feed(body.end())
        return Partial.of(scoring.finish(), rows, is_mean=self._is_mean)


def _make(loss: str, arguments: Mapping[str, Any]) -> Scorer:
    return Scorer(loss, **arguments)


def _loss_of(name: str, settings: Settings) -> Loss:
    for entry in settings.losses:
        register(entry)
    return LOSSES[name]


def _plain(value: object) -> object:
    """Return a parameter as JSON has it."""
    return list(map(_plain, value)) if isinstance(value, tuple) else value
