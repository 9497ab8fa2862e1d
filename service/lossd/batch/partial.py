"""The exact figures of some rows, of a loss and a report; they add up to those of all rows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import msgspec
import orjson

from lossd.batch.catalog import loss_of
from lossd.batch.state import Question, State
from lossd.batch.sums import Sums
from lossd.core.parameters import check_params
from lossd.types import ErrorCode, RequestError
from lossd.types import LossResult as Scored
from lossd.wire import write_report
from lossd.wire.json.writing import write_value
from lossd_client import LossResult, Report


class RowsMissing(ValueError):  # noqa: N818 - named by what is wrong, as the client's errors are
    """The number of scored rows differs from the expected number."""


class Partial:
    """The figures of some rows, of one table or of many. Equal if the figures are, to the last bit.

    Args:
        state: The figures; None for those of no rows.
    """

    def __init__(self, state: State | None = None) -> None:
        self._state = state

    @property
    def rows(self) -> int:
        """The number of rows."""
        return 0 if self._state is None else self._state.rows

    def merge(self, *others: Partial) -> Partial:
        """Return the figures of these rows and those of others, which follow them; see `merge`."""
        return merge([self, *others])

    def to_bytes(self) -> bytes:
        """Return it as bytes: the same for the same rows, however they were split and ordered.

        Without ids, though, the section ``top`` names rows by their numbers, which are those of the order.
        """
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Partial:
        """Read what `to_bytes` made.

        Raises:
            ValueError: These are other bytes.
        """
        try:
            return cls(msgspec.msgpack.decode(data, type=State | None))
        except msgspec.MsgspecError as error:
            msg = f"these are not the bytes of a Partial, or of another version: {error}"
            raise ValueError(msg) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return Partial.from_bytes, (self.to_bytes(),)

    def __eq__(self, other: object) -> bool:
        return self.to_bytes() == other.to_bytes() if isinstance(other, Partial) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        return f"<Partial of {self.rows} rows: {self.result!r}>"

    @property
    def report(self) -> Report | None:
        """The report; None if none was asked for, or if there are no rows."""
        return self.result.report

    @cached_property
    def result(self) -> LossResult:
        """The loss: the mean, unless the sum was asked for or there is nothing to divide by; else the sum."""
        if self._state is None:
            return LossResult(0.0, 0.0, 0, 0.0, 0.0, "sum")
        if self._state.question.is_mean:
            try:
                return _result_of(_sums_of(self._state).result("mean"))
            except RequestError as error:
                if error.code is not ErrorCode.EMPTY_MEAN:
                    raise
        return _result_of(_sums_of(self._state).result("sum"))


def merge(partials: Iterable[Partial | bytes], rows: int | None = None) -> Partial:
    """Return the figures of all rows.

    Args:
        partials: The figures of some rows each, or their bytes; any iterable, read once. Their order matters
            only where rows are named by their numbers.
        rows: The expected number of rows, counted independently.

    Raises:
        RowsMissing: The partials have fewer rows, or more.
        ValueError: They are of different losses, parameters or columns.
        RequestError: There are too many groups.
    """
    total, first, sums = 0, None, None
    for each in partials:
        state = (Partial.from_bytes(each) if isinstance(each, bytes) else each)._state
        if state is None:
            continue
        total += state.rows
        if first is None:
            first = state
            continue
        if state.question != first.question:
            _refuse_unlike(first.question, state.question)
        if sums is None:
            sums = _sums_of(first)
        sums.add(state)
    if rows is not None and rows != total:
        msg = (
            f"{total} rows were scored, and there are {rows}: a part was lost or scored twice, or the data "
            "changed in between; score all of them again"
        )
        raise RowsMissing(msg)
    return Partial(first if sums is None else sums.state())


def _sums_of(state: State) -> Sums:
    """Return the sums of some rows, to which others can be added."""
    loss_of(state.question.loss)
    sums = Sums(state.question)
    sums.add(state)
    return sums


def _refuse_unlike(mine: Question, its: Question) -> None:
    """Refuse figures that do not add up; defaults may be given or left out."""
    sides = [
        {
            "loss": each.loss,
            **check_params(loss_of(each.loss), each.params),
            "reduction": "mean" if each.is_mean else "sum",
            **{f"column {its.name}": its for its in each.columns},
        }
        for each in (mine, its)
    ]
    first, other = sides
    names = [name for name in first | other if repr(first.get(name)) != repr(other.get(name))]
    if names:
        shown = "; ".join(f"{name} {first.get(name)!r} and {other.get(name)!r}" for name in names)
        msg = f"figures of different questions do not add up: {shown}"
        raise ValueError(msg)


def _result_of(scored: Scored) -> LossResult:
    """Return a result as the client reads it from an answer."""
    report = None
    if scored.report is not None:
        document = orjson.loads(b"".join(write_report(scored, request_id="", version="")))
        document["run"] = {"first_row": document["run"]["first_row"]}
        report = Report(document)
    return LossResult(
        loss=scored.loss,
        sum=scored.sum,
        count=scored.count,
        weight_sum=scored.weight_sum,
        positives=scored.positives,
        reduction=scored.reduction,
        params=orjson.loads(write_value(dict(scored.params))),
        loss_name=scored.loss_name,
        shape=scored.shape,
        options=orjson.loads(write_value(dict(scored.options))),
        notes=scored.notes,
        sum_terms=scored.sum_terms,
        weight_sum_terms=scored.weight_sum_terms,
        positives_terms=scored.positives_terms,
        loss_terms=scored.loss_terms,
        divisor_terms=scored.divisor_terms,
        report=report,
    )
