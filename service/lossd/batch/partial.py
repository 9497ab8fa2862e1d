"""What some rows contribute to a loss: the answer that the service would give to them, which merges exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import orjson

from lossd.types import LossResult as Scored
from lossd.wire import write_json
from lossd_client import InvalidRequest, LossResult, Report

_FORMAT: Final = "lossd.partial/1"
_OF_THE_RUN: Final = ("request_id", "version", "kernel", "device", "notes")
"""What an answer says of how it came about, and not of the rows."""


class RowsMissing(ValueError):  # noqa: N818 - named by what is wrong, as the client's errors are
    """The rows that were scored are not as many as the engine counts."""


class Partial:
    """The figures of some rows, of a table or of many.

    Attributes:
        rows: The number of rows.
    """

    __slots__ = ("_answer", "rows")

    def __init__(self, rows: int = 0, answer: Mapping[str, Any] | None = None) -> None:
        self.rows: Final = rows
        self._answer = answer  # None without rows

    @classmethod
    def of(cls, scored: Scored, rows: int, *, is_mean: bool) -> Partial:
        """Return what a result says of its rows.

        Args:
            scored: The result, of the reduction ``sum``.
            rows: The number of rows.
            is_mean: Whether a mean was asked for.
        """
        answer = orjson.loads(write_json(scored, request_id="", version=""))
        for name in _OF_THE_RUN:
            del answer[name]
        if "report" in answer:
            answer["report"]["run"] = {}
        answer["reduction"] = "mean" if is_mean else "sum"
        return cls(rows, answer)

    def merge(self, *others: Partial) -> Partial:
        """Return the figures of these rows and those of others, which follow them."""
        return merge([self, *others])

    def to_bytes(self) -> bytes:
        """Return it as bytes, equal for equal rows."""
        return orjson.dumps({"format": _FORMAT, "rows": self.rows, "answer": self._answer})

    @classmethod
    def from_bytes(cls, data: bytes) -> Partial:
        """Read what `to_bytes` made.

        Raises:
            ValueError: It is something else.
        """
        found = orjson.loads(data)
        return cls(found["rows"], found["answer"])

    @property
    def report(self) -> Report | None:
        """The report; None if none was asked for, or there are no rows."""
        return None if self._answer is None or "report" not in self._answer else Report(self._answer["report"])

    @property
    def result(self) -> LossResult:
        """The loss: the mean, if one was asked for and anything is left to divide by, else the sum."""
        sums = self._sums()
        if self._answer is None or self._answer["reduction"] == "sum":
            return sums
        try:
            return sums.as_mean()
        except InvalidRequest:  # a mean over nothing
            return sums

    def _sums(self) -> LossResult:
        """Return the sums."""
        answer = self._answer
        if answer is None:
            return LossResult(0.0, 0.0, 0, 0.0, 0.0, "sum")
        terms = {name: answer.get(name) for name in ("loss_terms", "divisor_terms")}
        return LossResult(
            loss=_numbers(answer["loss"]),
            sum=float(answer["sum"]),
            count=answer["count"],
            weight_sum=float(answer["weight_sum"]),
            positives=float(answer["positives"]),
            reduction="sum",
            params=answer["params"],
            loss_name=answer["loss_name"],
            shape=tuple(answer["shape"]),
            options=answer["options"],
            sum_terms=tuple(map(float, answer["sum_terms"])),
            weight_sum_terms=tuple(map(float, answer["weight_sum_terms"])),
            positives_terms=tuple(map(float, answer["positives_terms"])),
            **{name: None if its is None else tuple(map(_array, its)) for name, its in terms.items()},
            report=self.report,
        )


def merge(partials: Iterable[Partial | bytes], rows: int | None = None) -> Partial:
    """Merge partials into one.

    Args:
        partials: They, or their bytes, in the order of the rows.
        rows: How many rows there are, by another count.

    Raises:
        RowsMissing: The partials have more or fewer.
        ValueError: They are of different losses or parameters.
    """
    read = [Partial.from_bytes(each) if isinstance(each, bytes) else each for each in partials]
    total = sum(each.rows for each in read)
    if rows is not None and rows != total:
        raise RowsMissing(f"{total} rows were scored, and there are {rows}")
    filled = [each for each in read if each.rows]
    if len(filled) < 2:
        return filled[0] if filled else Partial()
    merged = LossResult.merge(each._sums() for each in filled).to_dict()
    first = filled[0]._answer
    merged["reduction"] = first["reduction"]
    return Partial(total, {name: merged[name] for name in first})


def _numbers(value: Any) -> Any:  # noqa: ANN401 - a number, or nested lists of numbers
    return _array(value) if isinstance(value, list) else float(value)


def _array(value: Any) -> np.ndarray[Any, np.dtype[np.float64]]:  # noqa: ANN401 - nested lists of numbers
    return np.asarray(value, dtype=np.float64)
