"""A loss with its parameters, which scores tables wherever it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lossd.batch.catalog import loss_of
from lossd.batch.columns import ArrowStream, batches_of
from lossd.batch.kernels import kernel_for
from lossd.batch.partial import Partial
from lossd.batch.scoring import Scoring
from lossd.batch.state import Question, state_of_nothing
from lossd.batch.sums import settings
from lossd.core.parameters import check_params, check_targets
from lossd.core.report.parameters import check_report
from lossd.error_text import unknown_tensor
from lossd.requests.loss_checks import check_streamed
from lossd.types import GROUP_PREFIX, TENSOR_DTYPES, ErrorCode, RequestError

_DEVICE: Final = re.compile(r"cpu|cuda(:[0-9]+)?", re.ASCII)
_FIELDS: list[pa.Field[Any]] = [pa.field("rows", pa.int64()), pa.field("partial", pa.binary())]
_OUTPUT: Final = pa.schema(_FIELDS)
"""What `Scorer.map_arrow` yields."""
_INPUTS: Final = ("logits", "probabilities", "boxes")


class Scorer:
    """Scores tables by one loss. Pickled by its arguments; threads may share one.

    Args:
        loss: The loss's name.
        sections: The sections of a report, or ``all``; by default ``groups`` if `by` is given and ``top`` if
            `ids` is, and no report without either.
        by: The columns that hold groups: integers or strings.
        ids: The column that holds the ids of rows, by which the section ``top`` names them.
        columns: Tensor to column, where their names differ. Columns with the name of a tensor that the loss
            takes, such as ``weight`` and ``mask``, are always used if present.
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
        groups = [by] if isinstance(by, str) else [str(name) for name in by]
        wanted = sections.split(",") if isinstance(sections, str) and sections else list(sections)
        columns = dict(columns or {})
        params = {name: _plain(value) for name, value in params.items()}
        self._arguments: Final[dict[str, object]] = {
            "loss": loss, "sections": wanted, "by": groups, "ids": ids, "columns": columns, "device": device,
            **params,
        }  # fmt: skip
        _check_where(device, columns)
        self._device = device
        self._losses = settings().losses
        asked = list(wanted)
        if "all" not in asked:
            asked += [name for name, its in (("groups", groups), ("top", ids)) if its and name not in asked]
        given = params | ({"report": asked} if asked else {})
        found = loss_of(loss)
        checked = check_params(found, given)
        check_targets(checked)
        check_report(found, checked)
        check_streamed(found, checked)
        if checked["reduction"] == "none":
            detail = "losses row by row are not added up; use reduction mean or sum"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/reduction", "none")])
        self._question = Question(loss, given | {"reduction": "sum"}, checked["reduction"] == "mean")
        self._needed = columns | {f"{GROUP_PREFIX}{name}": name for name in groups}
        if ids is not None:
            self._needed["ids"] = ids
        others = TENSOR_DTYPES.keys() - {"groups", "ids"} - self._needed.keys()
        self._inputs = {self._needed.get(name, name) for name in found.inputs}
        self._optional = {name: name for name in found.tensors if name in others}
        self._foreign = {name: name for name in _INPUTS if name in others - self._optional.keys()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self._arguments, self._losses)

    @property
    def nothing(self) -> Partial:
        """The partial of no rows, which adds nothing to others."""
        return Partial(state_of_nothing(self._question))

    def select(self, names: Iterable[str]) -> list[str]:
        """Return which of a table's columns are scored, so that an engine need not read the others."""
        found = list(names)
        used = {*self._needed.values(), *self._optional_of(found).values()}
        return [name for name in found if name in used]

    def _optional_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the tensors that a table of these columns may have, and their columns.

        Another loss's inputs are among them where the table has none of this loss's, so that the error says
        what they are, and not only what is missing.
        """
        return self._optional if self._inputs.intersection(names) else self._optional | self._foreign

    def score(self, table: Any) -> Partial:  # noqa: ANN401 - any table
        """Score a table.

        Args:
            table: A pyarrow Table, RecordBatch or RecordBatchReader, or anything that is a stream of Arrow
                data: a data frame of polars or pandas, a relation of DuckDB.

        Raises:
            RequestError: The table has not the columns that are needed, or a value is not allowed; the text
                is the service's.
            RuntimeError: This machine does not have the device.
            TypeError: This is no table.
        """
        return self._score(batches_of(table))

    def map_arrow(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield one row for all batches: their number of rows, and the bytes of their partial.

        Raises:
            RequestError: As `score`; or the columns of a batch are not those of the first.
        """
        partial = self._score(batches)
        yield pa.RecordBatch.from_pylist(
            [{"rows": partial.rows, "partial": partial.to_bytes()}], schema=_OUTPUT
        )

    def _score(self, batches: Iterable[pa.RecordBatch]) -> Partial:
        stream: ArrowStream | None = None
        scoring: Scoring | None = None
        for batch in batches:
            if not batch.num_rows:
                continue  # its columns may have no types
            if stream is None or scoring is None:  # a driver of others may have no device
                kernel = kernel_for(self._device, is_native=loss_of(self._question.loss).is_native)
                stream = ArrowStream(self._needed, self._optional_of(batch.schema.names))
                scoring = Scoring(self._question, kernel, settings().max_report_cells)
            for pieces in stream.pieces(batch):
                scoring.feed(pieces)
        if stream is None or scoring is None:
            return self.nothing
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
    """Return a parameter as JSON has it, in a copy: the caller may change his."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value
