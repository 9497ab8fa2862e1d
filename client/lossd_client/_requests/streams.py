"""Many batches in one request, an Arrow stream."""

import operator
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from lossd_client._calls.calls import ReportCall, batch_call
from lossd_client._calls.checks import check, checked_params
from lossd_client._calls.parameters import LOSSES
from lossd_client._http.media_types import ARROW, JSON, NPY
from lossd_client._requests.arrow_stream import DEFAULT_BATCH_BYTES, ArrowEncoder, LabelColumns
from lossd_client._requests.encoding import RequestSummary, now, query_text
from lossd_client._requests.splitting import batch_tensors
from lossd_client.transport import Request


class BatchStream:
    """The request of `score_stream`.

    Args:
        loss_name: The loss.
        batches: The batches, an iterable or an asynchronous one.
        params: The parameters, as the caller gave them.
        info: The server's account of itself, which has its limit for a record batch.
        sent: Called after each batch with the rows and elements that went.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is no number or not finite, or losses of batches cannot be joined.
        ModuleNotFoundError: pyarrow is not installed.
    """

    def __init__(
        self,
        loss_name: str,
        batches: Iterable[Any] | AsyncIterable[Any],
        params: Mapping[str, Any],
        info: Mapping[str, Any],
        sent: Callable[[int, int], None],
    ) -> None:
        self._loss_name, self._batches, self._given, self._sent = loss_name, batches, params, sent
        self._started = now()
        self._params = checked_params(batch_call(loss_name, {}, params))
        LOSSES[loss_name].refuse_joining(self._params, "losses of a stream's batches")
        limit = info.get("limits", {}).get("batch_bytes") or DEFAULT_BATCH_BYTES
        self._batch_bytes = operator.index(limit)
        self._encoder = self._new_encoder()

    @property
    def is_repeatable(self) -> bool:
        """Whether the batches can be read more than once, as no iterator can."""
        return not isinstance(self._batches, Iterator | AsyncIterator)

    @property
    def _has_report(self) -> bool:
        return "report" in self._params

    def request(self) -> Request:
        """Return the request to send."""
        axis = self._params.get("axis", 0)
        over_rows = not {0, -2}.isdisjoint(axis if isinstance(axis, list) else [axis])  # of [N, C], or all
        merges = over_rows and self._params.get("reduction") != "none"
        return Request(
            method="POST",
            path=f"/{self._loss_name}",
            query=tuple(query_text(self._params)),
            headers={"Content-Type": ARROW, "Accept": JSON if merges or self._has_report else NPY},
            stream=self._chunks,
        )

    def summary(self) -> RequestSummary:
        """Return what is needed to read the answer, once everything is sent."""
        loss = LOSSES[self._loss_name]
        own = {name: value for name, value in self._params.items() if name in loss.own}
        reduction = str(self._params.get("reduction", "mean"))
        shared = {*loss.shared} - {"reduction"}
        options = {name: value for name, value in self._params.items() if name in shared}
        report = ReportCall({}) if self._has_report else None  # its strings come back as they went
        return RequestSummary(
            self._loss_name, self._encoder.shape, reduction, own, options, report, self._started
        )

    def _new_encoder(self) -> ArrowEncoder:
        return ArrowEncoder(self._batch_bytes)

    def _chunks(self) -> Iterator[bytes] | AsyncIterator[bytes]:
        self._encoder = self._new_encoder()
        if isinstance(self._batches, AsyncIterable):
            return self._async_pieces(self._batches)
        return self._pieces(self._batches)

    def _pieces(self, batches: Iterable[Any]) -> Iterator[bytes]:
        for batch in batches:
            yield from self._encoded(batch)
        yield self._encoder.end()

    async def _async_pieces(self, batches: AsyncIterable[Any]) -> AsyncIterator[bytes]:
        async for batch in batches:
            for piece in self._encoded(batch):
                yield piece
        yield self._encoder.end()

    def _encoded(self, batch: object) -> Iterator[bytes]:
        given = {name: value for name, value in self._given.items() if name != "pos_weight"}
        named = batch_tensors(LOSSES[self._loss_name], batch)
        call = check(batch_call(self._loss_name, named, given))
        labels = {"groups", "ids"}
        arrays = {name: array for name, array in call.tensors.items() if name not in labels}
        yield from self._encoder.encode(arrays, call.dimensions, _label_columns(call.report))
        self._sent(call.inputs.shape[0], call.inputs.size)


def _label_columns(report: ReportCall | None) -> LabelColumns:
    """Return the columns of groups and ids by their names in a stream."""
    if report is None:
        return {}
    columns = {} if report.ids is None else {"ids": (report.ids.numbers, report.ids.strings[0])}
    groups = {} if report.groups is None else report.groups.group_columns
    return {**columns, **{f"group.{name}": column for name, column in groups.items()}}
