"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack

from lossd_client._base_client import BaseClient, Meter, report_of
from lossd_client._calls.calls import LossCall
from lossd_client._calls.checks import check
from lossd_client._calls.parameters import LossName
from lossd_client._http.addresses import is_loopback
from lossd_client._http.attempts import Send, Steps
from lossd_client._options import Options, Settings
from lossd_client._requests.encoding import INFO, READY, USAGE, read_object, read_ready, read_result, usage_of
from lossd_client._requests.splitting import Batch, Joined, Part, Plan
from lossd_client._requests.streams import BatchStream
from lossd_client.errors import LossdError
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

        return AsyncHttpxTransport(
            max_connections=settings.max_connections, use_environment=not is_loopback(settings.base_url)
        )

    async def info(self) -> dict[str, Any]:
        """Return the server's version, losses with their defaults, limits and workers."""
        return read_object(await self._run(self._request(INFO)), INFO.path)

    async def usage(self, days: int | None = None) -> dict[str, Any]:
        """Return what the key's team has used, by day and in total. See `LossClient.usage`."""
        return read_object(await self._run(self._request(usage_of(days))), USAGE.path)

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

    async def _run(self, steps: Steps[_ResultT]) -> _ResultT:
        """Take the steps until they return a result."""
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
                    await asyncio.sleep(step.seconds)
                step = steps.send(answer)
        except StopIteration as done:
            result: _ResultT = done.value
            return result
        finally:
            steps.close()  # what a cancelled task leaves half done

    async def _score_part(self, part: Part) -> LossResult:
        _, state = self._connections.get()
        request: Request
        if part.size > _LARGE:
            request = await asyncio.to_thread(self._encoded, part)
        else:
            request = self._encoded(part)
        return await self._run(self._exchange(part, request, state))

    async def _score(self, call: LossCall) -> LossResult:
        plan = self._plan(check(call))
        if plan.is_whole:
            [part] = plan.parts()
            result = await self._score_part(part)
            Meter(self._settings, plan.rows).add(plan.rows, result.count)
            return result
        async with aclosing(self._results(_each([plan]), plan.rows)) as results:
            return await anext(results)

    async def _report(self, call: LossCall) -> Report:
        return report_of(await self._score(call))

    async def _score_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> LossResult:
        joined = Joined()
        read = self._batch_reader(loss, params)
        plans = (self._plan(joined.sums_of(read(batch))) async for batch in _each(batches))
        async with aclosing(self._results(plans, None)) as results:
            async for result in results:
                joined.add(result)
        return joined.result()

    def _iter_batches(
        self, loss: LossName, batches: _Batches, params: Mapping[str, Any]
    ) -> AsyncIterator[LossResult]:
        read = self._batch_reader(loss, params)
        return self._results((self._plan(read(batch)) async for batch in _each(batches)), None)

    async def _results(
        self, plans: AsyncIterator[Plan], total_rows: int | None
    ) -> AsyncGenerator[LossResult, None]:
        """Yield the result of each plan, in order."""
        meter = Meter(self._settings, total_rows)
        parts = (part async for plan in plans for part in plan.parts())
        async with aclosing(self._in_order(parts)) as answered:
            async for part, result in answered:
                meter.add(part.rows, result.count)
                part.plan.add(part, result)
                if part.is_last:
                    yield part.plan.result()

    async def _in_order(self, parts: AsyncIterator[Part]) -> AsyncGenerator[tuple[Part, LossResult], None]:
        """Score parts, several at a time, and yield their results in order."""
        waiting: deque[tuple[Part, asyncio.Task[LossResult]]] = deque()
        try:
            async for part in parts:
                waiting.append((part, asyncio.create_task(self._score_part(part))))
                while waiting and (len(waiting) >= self._settings.concurrency or waiting[0][1].done()):
                    yield waiting[0][0], await waiting[0][1]
                    waiting.popleft()
            while waiting:
                yield waiting[0][0], await waiting[0][1]
                waiting.popleft()
        finally:
            for _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)

    async def _score_stream(self, loss: LossName, batches: _Batches, params: Mapping[str, Any]) -> LossResult:
        meter = Meter(self._settings, None)
        stream = BatchStream(loss, batches, params, await self.info(), meter.add)
        response = await self._run(self._request(stream.request(), once=not stream.is_repeatable))
        return read_result(response, stream.summary())


async def _each(batches: Iterable[_ResultT] | AsyncIterable[_ResultT]) -> AsyncGenerator[_ResultT, None]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch
