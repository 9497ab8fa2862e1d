"""The exact figures of some rows, of a loss and a report; they add up to those of all rows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from lossd.batch.catalog import loss_of
from lossd.batch.state import Question, State
from lossd.batch.sums import Sums
from lossd.core.parameters import check_params
from lossd.engine.dispatch.result import empty_mean
from lossd.types import GROUP_PREFIX, ErrorCode, RequestError
from lossd.types import LossResult as Scored
from lossd.wire import write_report
from lossd.wire.json.writing import write_value
from lossd_client import LossResult, Report

_MARK: Final = b"lossd.partial/2\n"
"""What the bytes of a partial begin with; a digest of all that follows comes next."""
_DIGEST_BYTES: Final = 16
_DIVISORS: Final = ("count", "weight")
"""Normalizers that are 0 where there are no rows."""


class RowsMissing(ValueError):  # noqa: N818 - named by what is wrong, as the client's errors are
    """The number of scored rows differs from the expected number."""


class Partial:
    """The figures of some rows, of one table or of many. Equal if the figures are, to the last bit.

    Args:
        state: The figures; None for those of no rows, of any loss.
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
        data = msgspec.msgpack.encode(self._state)
        return b"".join((_MARK, _digest(data), data))

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Partial:
        """Read what `to_bytes` made.

        Raises:
            TypeError: These are no bytes.
            ValueError: These are other bytes, or one of them has changed.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            msg = f"from_bytes takes the bytes of a Partial, not {type(data).__name__}"  # type: ignore[unreachable] # not all callers run mypy
            raise TypeError(msg)
        data = bytes(data)  # figures are views of these bytes, and the caller's may change
        if not data.startswith(_MARK):
            msg = "these are not the bytes of a Partial, or of another version of lossd"
            raise ValueError(msg)
        start = len(_MARK) + _DIGEST_BYTES
        body = memoryview(data)[start:]
        if data[len(_MARK) : start] != _digest(body):
            msg = "these are not the bytes of a Partial: some are damaged or missing; score its rows again"
            raise ValueError(msg)
        try:
            return cls(msgspec.msgpack.decode(body, type=State | None))
        except msgspec.MsgspecError as error:
            msg = f"these are not the bytes of a Partial, or of another version of lossd: {error}"
            raise ValueError(msg) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return Partial.from_bytes, (self.to_bytes(),)

    def __eq__(self, other: object) -> bool:
        return self.to_bytes() == other.to_bytes() if isinstance(other, Partial) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        # A mean may be over nothing, and the loss unknown here.
        state = self._state
        what = "" if state is None else f": {state.question.loss}, sum {state.loss[0]!r}"
        return f"<Partial of {self.rows} rows{what}>"

    @cached_property
    def report(self) -> Report | None:
        """The report; None if none was asked for, or if there are no rows. There need be no mean."""
        if not self.rows:
            return None
        try:
            return self.result.report
        except RequestError as error:
            if error.code is not ErrorCode.EMPTY_MEAN:
                raise
        return self._result("sum").report

    @cached_property
    def result(self) -> LossResult:
        """The loss, which is the mean, or the sum if ``reduction="sum"`` was asked for.

        Raises:
            RequestError: ``empty_mean``: a mean was asked for, of the loss or of one of several outputs, and
                there is nothing to divide by: no rows, or only those that a mask drops or that weigh nothing.
                A request of these rows has the same answer.
        """
        return self._result("sum" if self._state is not None and not self._state.question.is_mean else "mean")

    def _result(self, reduction: str) -> LossResult:
        state = self._state
        if state is not None and state.rows:
            return _result_of(_sums_of(state).result(reduction))
        params = {} if state is None else check_params(loss_of(state.question.loss), state.question.params)
        if reduction == "mean" and params.get("normalizer", "count") in _DIVISORS:
            raise empty_mean(())
        name = "" if state is None else state.question.loss
        return LossResult(0.0, 0.0, 0, 0.0, 0.0, reduction, loss_name=name)


def merge(partials: Iterable[Partial | bytes | bytearray | memoryview], rows: int | None = None) -> Partial:
    """Return the figures of all rows.

    Args:
        partials: The figures of some rows each, or their bytes; any iterable, read once. Their order matters
            only where rows are named by their numbers.
        rows: The expected number of rows, counted independently.

    Raises:
        RowsMissing: The partials have fewer rows, or more.
        TypeError: One is neither a Partial nor bytes.
        ValueError: They are of different losses, parameters or columns, or of columns of groups in another
            order; or bytes are damaged.
        RequestError: There are too many groups.
    """
    total, first, sums = 0, None, None
    for each in partials:
        state = _partial_of(each)._state
        if state is None:
            continue
        total += state.rows
        if first is not None and state.question != first.question:
            _refuse_unlike(first.question, state.question)
        if first is None or not first.rows:
            first = state
            continue
        if not state.rows:
            continue
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


def _digest(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _partial_of(given: object) -> Partial:
    """Return a partial, given one or its bytes."""
    if isinstance(given, Partial):
        return given
    if isinstance(given, bytes | bytearray | memoryview):
        return Partial.from_bytes(given)
    msg = f"merge takes Partials or their bytes, not {type(given).__name__}"
    raise TypeError(msg)


def _sums_of(state: State) -> Sums:
    """Return the sums of some rows, to which others can be added."""
    loss_of(state.question.loss)
    sums = Sums(state.question)
    sums.add(state)
    return sums


def _refuse_unlike(mine: Question, its: Question) -> None:
    """Refuse figures that do not add up; defaults may be given or left out, and no rows have no columns."""
    with_columns = bool(mine.columns and its.columns)
    first, other = (_compared(each, with_columns=with_columns) for each in (mine, its))
    names = [name for name in first | other if repr(first.get(name)) != repr(other.get(name))]
    if names:
        shown = "; ".join(f"{name} {first.get(name)!r} and {other.get(name)!r}" for name in names)
        msg = f"figures of different questions do not add up: {shown}"
        raise ValueError(msg)


def _compared(question: Question, *, with_columns: bool) -> dict[str, object]:
    """Return what must be the same in two questions."""
    compared = {
        "loss": question.loss,
        **check_params(loss_of(question.loss), question.params),
        "reduction": "mean" if question.is_mean else "sum",
    }
    if with_columns:
        names = [column.name for column in question.columns if column.name.startswith(GROUP_PREFIX)]
        compared |= {f"column {column.name}": column for column in question.columns}
        compared["by"] = tuple(name.removeprefix(GROUP_PREFIX) for name in names)  # ids are in this order
    return compared


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
