"""A loss and its figures."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, overload

import numpy as np

from lossd_client._merge import Figures, Merger, as_mean

_APART: Final = ("report", "rate_limit")  # in `to_dict` only if there is one


@dataclass(frozen=True, eq=False, slots=True)
class LossResult(Figures):
    """A loss, with the figures that merge batches.

    `sum`, `count`, `weight_sum` and `positives` are the whole request's, whatever the reduction, and their
    terms are what `merge` adds: what it makes of any batches has the bits of one request over everything.

    Attributes:
        loss: A float for a scalar, else a float64 array.
        sum: The weighted losses summed.
        count: The number of elements scored.
        weight_sum: The broadcast weights summed; the count where there is no weight.
        positives: The targets summed, unweighted.
        reduction: "none", "sum" or "mean".
        params: The loss's own parameters, such as gamma, as the server applied them, defaults too. (Older
            servers do not say them of an array: then those that were given.)
        request_id: The request id in the server's logs.
        timing: Milliseconds that the server spent, by stage: "read", "queue", "compute".
        loss_name: The loss, such as "bce".
        shape: The inputs' shape.
        kernel: The code that computed it.
        device: The device; None when the loss is an array.
        version: The server's version.
        options: The parameters that all losses have, such as the axis and the normalizer, defaults too, as
            the caller gave them. A `pos_weight` of more than 16 numbers that is an array
            has its dtype, shape and SHA-256 (of its numbers as little-endian float64) here.
        notes: Sentences on a loss that is right and may surprise; mostly none.
        sum_terms: Numbers that add up to the sum exactly: `sum`, what rounding it left, and so on. (Older
            servers do not say them: then `merge` takes `sum`.)
        weight_sum_terms: The same for `weight_sum`.
        positives_terms: The same for `positives`.
        loss_terms: Arrays of the loss's shape that add up exactly to its sums, before any division; where the
            rows (axis 0) are summed and other axes stay, else None.
        divisor_terms: The same for what a mean divides the sums by. Positives below 1 are not raised
            to 1.
        report: What the loss is made of, where it was asked for.
        rate_limit: What the answer said is left of the team's rates, of several answers the last one; None
            if they are not limited.
    """

    @classmethod
    def merge(cls, results: Iterable["LossResult"]) -> "LossResult":
        """Merge the results of batches into the result of all of them.

        The result is what one request over everything would have given, to the last bit, in whatever order
        and groups the batches come: sums are added exactly, as is what the normalizer divides by, and rounded
        and divided once. A mean of means would weigh a short last batch like a full one. Losses of "none",
        and of an `axis` that leaves the rows (axis 0) standing, are joined row after row; sums and means over
        rows that leave other axes standing are added place by place.

        Args:
            results: One a batch, in order; any iterable, read once. They may themselves be merged ones.

        Returns:
            A result whose figures are all batches' together. `request_id`, `kernel` and the like stay where
            they are the same in all, and are None elsewhere; `timing` adds up, and `notes` are united.

        Raises:
            ValueError: There are none; or they are of different losses, parameters or reductions; or they are
                means over rows that leave other axes standing, of a server that does not give their terms; or
                only some have a report.
            InvalidRequest: A mean over nothing, code "empty_mean", as the server says it.
        """
        merger: Merger[LossResult] = Merger()
        for result in results:
            merger.add(result)
        return merger.result()

    def as_mean(self) -> "LossResult":
        """Return the mean that this result's sums make, for sums over rows that were merged.

        A batch that may have nothing to divide by is asked for reduction="sum"; the mean of all batches is
        then `LossResult.merge(results).as_mean()`.

        Raises:
            ValueError: The losses are not sums over rows, or the divisors are not known.
            InvalidRequest: It is a mean over nothing, code "empty_mean".
        """
        return as_mean(self)

    def __float__(self) -> float:
        if isinstance(self.loss, np.ndarray):
            raise TypeError(
                f"the loss is an array of shape {self.loss.shape} and no single number; read it as .loss, or "
                "ask without reduction='none' and axis for one"
            )
        return self.loss

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    @overload
    def __round__(self) -> int: ...
    @overload
    def __round__(self, digits: int) -> float: ...
    def __round__(self, digits: int | None = None) -> float:
        return round(float(self), digits)

    def __repr__(self) -> str:
        loss = f"array{self.loss.shape}" if isinstance(self.loss, np.ndarray) else repr(self.loss)
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        return (
            f"<LossResult {self.loss_name} {loss}: reduction={self.reduction}, sum={self.sum!r}, "
            f"count={self.count}, weight_sum={self.weight_sum!r}, positives={self.positives!r}{params}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every field in a form that `json.dumps` takes.

        Arrays become nested lists, and numbers that are not finite become the strings "Infinity",
        "-Infinity" and "NaN", as in the server's own answers. There is a report, and a rate limit, only if
        there is one here.
        """
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in _APART}
        if self.report is not None:
            plain["report"] = self.report.to_dict()
        if self.rate_limit is not None:
            plain["rate_limit"] = {name: asdict(rate) for name, rate in self.rate_limit.rates.items()}
        return plain

    def _repr_html_(self) -> str:
        """Return the result as a notebook shows it."""
        from lossd_client.report._drawing.html import result_html  # takes time to import

        return result_html(self)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
