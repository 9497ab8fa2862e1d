"""The clients behind `with_raw_response`: the same methods, with the HTTP answers."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing
from typing import Any, TypeAlias

from lossd_client._base_client import report_of
from lossd_client._calls.calls import LossCall
from lossd_client._calls.checks import check
from lossd_client._calls.parameters import LossName
from lossd_client._methods.batches import BatchLosses
from lossd_client._requests.encoding import INFO, read_object, usage_of
from lossd_client._requests.splitting import Batch
from lossd_client.async_client import AsyncLossClient, _each
from lossd_client.client import LossClient
from lossd_client.raw_response import RawResponse
from lossd_client.report import Report
from lossd_client.result import LossResult
from lossd_client.transport import Request

_Batches: TypeAlias = Iterable[Batch] | AsyncIterable[Batch]


class RawLossClient(
    BatchLosses[
        RawResponse[LossResult],
        Iterable[Batch],
        Iterator[RawResponse[LossResult]],
        RawResponse[Report],
    ]
):
    """The methods of a `LossClient`, which return each result with the HTTP answers it was read from.

    Args:
        client: The client, whose connections and options it uses.
    """

    def __init__(self, client: LossClient) -> None:
        self._client = client

    def info(self) -> RawResponse[dict[str, Any]]:
        """As `LossClient.info`."""
        return self._object(INFO)

    def usage(self, days: int | None = None) -> RawResponse[dict[str, Any]]:
        """As `LossClient.usage`."""
        return self._object(usage_of(days))

    def _object(self, request: Request) -> RawResponse[dict[str, Any]]:
        response = self._client._run(self._client._request(request))
        return RawResponse(read_object(response, request.path), (response,))

    def _score(self, call: LossCall) -> RawResponse[LossResult]:
        plan = self._client._plan(check(call), keeps_answers=True)
        return RawResponse(self._client._score_plan(plan), plan.answers)

    def _report(self, call: LossCall) -> RawResponse[Report]:
        raw = self._score(call)
        return RawResponse(report_of(raw.result), raw.responses)

    def _score_batches(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> RawResponse[LossResult]:
        result, answers = self._client._join_batches(loss, batches, params, keeps_answers=True)
        return RawResponse(result, tuple(answers))

    def _iter_batches(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> Iterator[RawResponse[LossResult]]:
        client = self._client
        read = client._batch_reader(loss, params)
        plans = (client._plan(read(batch), keeps_answers=True) for batch in batches)
        for plan in client._answered(plans, None):
            yield RawResponse(plan.result(), plan.answers)

    def _score_stream(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> RawResponse[LossResult]:
        result, response = self._client._stream(loss, batches, params)
        return RawResponse(result, (response,))


class AsyncRawLossClient(
    BatchLosses[
        Coroutine[Any, Any, RawResponse[LossResult]],
        _Batches,
        AsyncIterator[RawResponse[LossResult]],
        Coroutine[Any, Any, RawResponse[Report]],
    ]
):
    """The methods of an `AsyncLossClient`, which return each result with its HTTP answers.

    Args:
        client: The client, whose connections and options it uses.
    """

    def __init__(self, client: AsyncLossClient) -> None:
        self._client = client

    async def info(self) -> RawResponse[dict[str, Any]]:
        """As `AsyncLossClient.info`."""
        return await self._object(INFO)

    async def usage(self, days: int | None = None) -> RawResponse[dict[str, Any]]:
        """As `AsyncLossClient.usage`."""
        return await self._object(usage_of(days))

    async def _object(self, request: Request) -> RawResponse[dict[str, Any]]:
        response = await self._client._run(self._client._request(request))
        return RawResponse(read_object(response, request.path), (response,))

    async def _score(self, call: LossCall) -> RawResponse[LossResult]:
        plan = self._client._plan(check(call), keeps_answers=True)
        return RawResponse(await self._client._score_plan(plan), plan.answers)

    async def _report(self, call: LossCall) -> RawResponse[Report]:
        raw = await self._score(call)
        return RawResponse(report_of(raw.result), raw.responses)

    async def _score_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> RawResponse[LossResult]:
        result, answers = await self._client._join_batches(loss, batches, params, keeps_answers=True)
        return RawResponse(result, tuple(answers))

    async def _iter_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> AsyncGenerator[RawResponse[LossResult], None]:
        client = self._client
        read = client._batch_reader(loss, params)
        plans = (client._plan(read(batch), keeps_answers=True) async for batch in _each(batches))
        async with aclosing(client._answered(plans, None)) as answered:
            async for plan in answered:
                yield RawResponse(plan.result(), plan.answers)

    async def _score_stream(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> RawResponse[LossResult]:
        result, response = await self._client._stream(loss, batches, params)
        return RawResponse(result, (response,))
