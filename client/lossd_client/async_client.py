"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, aclosing
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack

from lossd_client._base_client import BaseClient, report_of
from lossd_client._calls.calls import LossCall
from lossd_client._calls.checks import check
from lossd_client._calls.parameters import LossName
from lossd_client._http.attempts import Send, Steps, Wait
from lossd_client._meter import Meter
from lossd_client._methods.batches import BatchLosses
from lossd_client._options import Options, Settings
from lossd_client._requests.encoding import (
    INFO,
    OVERVIEW,
    READY,
    USAGE,
    for_days,
    read_object,
    read_ready,
    read_result,
)
from lossd_client._requests.splitting import Batch, Joined, Part, Plan
from lossd_client._requests.streams import BatchStream
from lossd_client.errors import LossdError
from lossd_client.raw_response import RawResponse
from lossd_client.report import Report
from lossd_client.result import LossResult
from lossd_client.transport import AsyncTransport, Request, Response

_ResultT = TypeVar("_ResultT")
_Batches: TypeAlias = Iterable[Batch] | AsyncIterable[Batch]

_LARGE = 1 << 20  # bytes: making less than that ready takes the event loop less time than a thread would


class AsyncLossClient(
    BaseClient[
        Coroutine[Any, Any, LossResult],
        _Batches,
        AsyncIterator[LossResult],
        Coroutine[Any, Any, Report],
        AsyncTransport,
    ]
):
    """`LossClient` for asyncio: methods that ask the server are awaited.

    It belongs to the event loop in which it is first used, and raises a RuntimeError in another. Batches may
    come from asynchronous iterables too; what draws them from others runs in the event loop.

    The constructor takes what that of `LossClient` takes. `progress` is called in the event loop, and
    `transport` makes an `AsyncTransport`.
    """

    @classmethod
    async def local(cls, *, settings: Mapping[str, object] | None = None, **options: Unpack[Options]) -> Self:
        """Start a server on this machine, and return a client of it. See `LossClient.local`."""
        from lossd_client.local import LocalServer  # slow to import

        server = LocalServer(settings or {})
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(asyncio.to_thread, server.stop)
            await asyncio.to_thread(server.wait_until_ready)
            client = cls._with_settings(Settings(base_url=server.url).changed(options), server)
            on_failure.pop_all()
        return client

    @staticmethod
    def _open_transport(settings: Settings) -> AsyncTransport:
        if settings.transport is not None:
            opened: AsyncTransport = settings.transport()
            return opened
        from lossd_client._http.httpx_transport import AsyncHttpxTransport  # slow to import

        return AsyncHttpxTransport.to(settings.base_url, settings.max_connections)

    async def info(self) -> dict[str, Any]:
        """Return the server's version, losses with their defaults, limits and workers."""
        return read_object(await self._run(self._request(INFO)), INFO.path)

    async def usage(self, days: int | None = None) -> dict[str, Any]:
        """Return what the key's team has used, by day and in total. See `LossClient.usage`."""
        return read_object(await self._run(self._request(for_days(USAGE, days))), USAGE.path)

    async def overview(self, days: int | None = None) -> dict[str, Any]:
        """Return all teams, the workers and the queue, for an operator's key. See `LossClient.overview`."""
        return read_object(await self._run(self._request(for_days(OVERVIEW, days))), OVERVIEW.path)

    async def ready(self) -> bool:
        """Return whether the server is ready to score."""
        transport = self._own_transport()
        return read_ready(await transport.send(self._addressed(READY), self._settings.timeout))

    async def aclose(self) -> None:
        """Close the connections, and stop the server that `local` started."""
        transport = self._connections.close()
        if transport is not None:
            await transport.aclose()
            await asyncio.to_thread(self._connections.stop_server)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _own_transport(self) -> AsyncTransport:
        self._connections.bind(asyncio.get_running_loop())
        return self._connections.get()[0]

    @property
    def with_raw_response(self) -> "_AsyncRawLossClient":
        """The same methods, which return the HTTP answers too. See `LossClient.with_raw_response`."""
        return _AsyncRawLossClient(self)

    async def _run(
        self, steps: Steps[_ResultT], when_waiting: Callable[[Wait], None] | None = None
    ) -> _ResultT:
        """Take the steps until they return a result.

        Args:
            steps: The steps.
            when_waiting: Called before each wait.
        """
        transport = self._own_transport()
        answer: Response | None = None
        try:
            step = next(steps)
            while True:
                if isinstance(step, Send):
                    try:
                        answer = await transport.send(step.request, step.timeout)
                    except LossdError as error:
                        step = steps.throw(error)
                        continue
                else:
                    answer = None
                    if when_waiting is not None:
                        when_waiting(step)
                    await asyncio.sleep(step.left)
                step = steps.send(answer)
        except StopIteration as done:
            result: _ResultT = done.value
            return result
        finally:
            steps.close()  # what a cancelled task leaves half done

    async def _score_part(self, part: Part, when_waiting: Callable[[Wait], None]) -> LossResult:
        _, state = self._connections.get()
        request: Request
        if part.size > _LARGE:
            request = await asyncio.to_thread(self._encoded, part)
        else:
            request = self._encoded(part)
        return await self._run(self._exchange(part, request, state), when_waiting)

    async def _score(self, call: LossCall) -> LossResult:
        return await self._score_plan(self._plan(check(call)))

    async def _score_plan(self, plan: Plan) -> LossResult:
        if plan.is_whole:
            meter = self._meter(plan.rows)
            [part] = plan.parts()
            result = await self._score_part(part, meter.note_wait)
            meter.add(plan.rows, result.count)
            return result
        async with aclosing(self._answered(_each([plan]), plan.rows)) as answered:
            return (await anext(answered)).result()

    async def _report(self, call: LossCall) -> Report:
        return report_of(await self._score(call))

    async def _score_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> LossResult:
        return (await self._join_batches(loss, batches, params))[0]

    async def _join_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any], *, keeps_answers: bool = False
    ) -> tuple[LossResult, list[Response]]:
        joined, answers = Joined(), list[Response]()
        read = self._batch_reader(loss, params)
        calls = (joined.sums_of(read(batch)) async for batch in _each(batches))
        plans = (self._plan(call, keeps_answers=keeps_answers) async for call in calls)
        async with aclosing(self._answered(plans, None)) as answered:
            async for plan in answered:
                joined.add(plan.result())
                answers += plan.answers
        return joined.result(), answers

    async def _iter_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> AsyncGenerator[LossResult, None]:
        read = self._batch_reader(loss, params)
        plans = (self._plan(read(batch)) async for batch in _each(batches))
        async with aclosing(self._answered(plans, None)) as answered:
            async for plan in answered:
                yield plan.result()

    async def _answered(
        self, plans: AsyncIterator[Plan], total_rows: int | None
    ) -> AsyncGenerator[Plan, None]:
        """Yield each plan once it is answered, in order."""
        meter = self._meter(total_rows)
        parts = (part async for plan in plans for part in plan.parts())
        async with aclosing(self._in_order(parts, meter)) as answered:
            async for part, result in answered:
                meter.add(part.rows, result.count)
                part.plan.add(part, result)
                if part.is_last:
                    yield part.plan

    async def _in_order(
        self, parts: AsyncIterator[Part], meter: Meter
    ) -> AsyncGenerator[tuple[Part, LossResult], None]:
        """Score parts, several at a time, and yield their results in order."""
        waiting: deque[tuple[Part, int, asyncio.Task[LossResult]]] = deque()
        number = 0

        async def first() -> tuple[Part, LossResult]:
            part, own, task = waiting[0]
            meter.await_request(own)
            return part, await task

        try:
            async for part in parts:
                when_waiting = partial(meter.note_wait, request=number)
                waiting.append((part, number, asyncio.create_task(self._score_part(part, when_waiting))))
                number += 1
                while waiting and (len(waiting) >= self._settings.concurrency or waiting[0][2].done()):
                    yield await first()
                    waiting.popleft()
            while waiting:
                yield await first()
                waiting.popleft()
        finally:
            for *_, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for *_, task in waiting), return_exceptions=True)

    async def _score_stream(self, loss: LossName, batches: _Batches, params: Mapping[str, Any]) -> LossResult:
        return (await self._stream(loss, batches, params))[0]

    async def _stream(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> tuple[LossResult, Response]:
        meter = self._meter(None)
        stream = BatchStream(loss, batches, params, await self.info(), meter.add)
        steps = self._request(stream.request(), once=not stream.is_repeatable)
        response = await self._run(steps, meter.note_wait)
        return read_result(response, stream.summary()), response


async def _each(batches: Iterable[_ResultT] | AsyncIterable[_ResultT]) -> AsyncGenerator[_ResultT, None]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch


class _AsyncRawLossClient(
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
        return await self._object(for_days(USAGE, days))

    async def overview(self, days: int | None = None) -> RawResponse[dict[str, Any]]:
        """As `AsyncLossClient.overview`."""
        return await self._object(for_days(OVERVIEW, days))

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
