"""A loss with its parameters, which scores tables wherever it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from lossd.batch.catalog import loss_of
from lossd.batch.columns import ArrowStream
from lossd.batch.kernels import kernel_for
from lossd.batch.partial import Partial
from lossd.batch.scoring import Scoring
from lossd.batch.state import Question
from lossd.batch.sums import settings
from lossd.core.parameters import check_params, check_targets
from lossd.core.report.parameters import check_report
from lossd.error_text import unknown_tensor
from lossd.types import GROUP_PREFIX, TENSOR_DTYPES, ErrorCode, RequestError

_DEVICE: Final = re.compile(r"cpu|cuda(:[0-9]+)?", re.ASCII)
_FIELDS: list[pa.Field[Any]] = [pa.field("rows", pa.int64()), pa.field("partial", pa.binary())]
_OUTPUT: Final = pa.schema(_FIELDS)
"""What `Scorer.map_arrow` yields."""


class Scorer:
    """Scores tables by one loss. Pickled by its arguments; threads may share one.

    Args:
        loss: The loss's name.
        sections: The sections of a report, or ``all``; by default ``groups`` if `by` is given and ``top`` if
            `ids` is, and no report without either.
        by: The columns that hold groups: integers or strings.
        ids: The column that holds the ids of rows, by which the section ``top`` names them.
        columns: Tensor to column, where their names differ. Columns with the name of a tensor, such as
            ``weight`` and ``mask``, are always used if present.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
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
        **params: Any,  # noqa: ANN401 - JSON values
    ) -> None:
        self._arguments: Final[dict[str, object]] = {
            "loss": loss, "sections": sections, "by": by, "ids": ids, "columns": columns, "device": device,
            **params,
        }  # fmt: skip
        _check_where(device, columns or {})
        self._device = device
        self._losses = settings().losses
        groups = [by] if isinstance(by, str) else list(by)
        asked = sections.split(",") if isinstance(sections, str) and sections else list(sections)
        if "all" not in asked:
            asked += [name for name, its in (("groups", groups), ("top", ids)) if its and name not in asked]
        given = {name: _plain(value) for name, value in params.items()} | ({"report": asked} if asked else {})
        found = loss_of(loss)
        checked = check_params(found, given)
        check_targets(checked)
        check_report(found, checked)
        if checked["reduction"] == "none":
            detail = "losses row by row are not added up; use reduction mean or sum"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/reduction", "none")])
        self._question = Question(loss, given | {"reduction": "sum"}, checked["reduction"] == "mean")
        self._needed = dict(columns or {}) | {f"{GROUP_PREFIX}{name}": name for name in groups}
        if ids is not None:
            self._needed["ids"] = ids
        others = TENSOR_DTYPES.keys() - {"groups", "ids"} - self._needed.keys()
        self._optional = {name: name for name in TENSOR_DTYPES if name in others}

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self._arguments, self._losses)

    def select(self, names: Iterable[str]) -> list[str]:
        """Return which of a table's columns are scored, so that an engine need not read the others."""
        used = {*self._needed.values(), *self._optional.values()}
        return [name for name in names if name in used]

    def score(self, table: Any) -> Partial:  # noqa: ANN401 - any table
        """Score a table.

        Args:
            table: A pyarrow Table, RecordBatch or RecordBatchReader, or anything that is a stream of Arrow
                data: a data frame of polars or pandas, a relation of DuckDB.

        Raises:
            RequestError: The table has not the columns that are needed, or a value is not allowed; the text
                is the service's.
            RuntimeError: This machine does not have the device.
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
        stream: ArrowStream | None = None
        kernel = kernel_for(self._device, is_native=loss_of(self._question.loss).is_native)
        scoring = Scoring(self._question, kernel, settings().max_report_cells)
        for batch in batches:
            if not batch.num_rows:
                continue  # its columns may have no types
            if stream is None:
                stream = ArrowStream(batch.schema, self._needed, self._optional)
            for pieces in stream.pieces(batch):
                scoring.feed(pieces)
        if stream is None:
            return Partial()
        scoring.feed(stream.end())
        return Partial(scoring.finish())


def _made(arguments: Mapping[str, Any], losses: tuple[str, ...]) -> Scorer:
    """Return a scorer that was pickled, where LOSSD_LOSSES may be another."""
    loss_of(arguments["loss"], losses)
    return Scorer(**arguments)


def _check_where(device: str, columns: Mapping[str, str]) -> None:
    """Check where to score, and which columns."""
    if not _DEVICE.fullmatch(device):
        detail = f"device {device!r} must be cpu, cuda or cuda:N"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/device", detail)])
    for name in columns:
        if name not in TENSOR_DTYPES:
            raise unknown_tensor(name)
        if name in ("groups", "ids"):
            detail = f"columns names {name}; give their columns as {'by' if name == 'groups' else name}="
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/columns", name)])


def _plain(value: object) -> object:
    """Return a parameter as JSON has it."""
    return list(map(_plain, value)) if isinstance(value, tuple) else value
