"""The client that waits for each answer."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from lossd_client._base_client import BaseClient, report_of
from lossd_client._calls.calls import LossCall
from lossd_client._calls.checks import check
from lossd_client._calls.parameters import LossName
from lossd_client._http.attempts import Send, Steps, Wait
from lossd_client._http.threads import Workers, own_cancellation
from lossd_client._meter import Meter, Scored, WaitRelay
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
from lossd_client.transport import Request, Response, Transport

_ResultT = TypeVar("_ResultT")


class LossClient(BaseClient[LossResult, Iterable[Batch], Iterator[LossResult], Report, Transport]):
    """A client that waits for each answer.

    Threads may share one. A forked child may go on using its parent's: it opens connections of its own. A
    pickled or copied client opens its own where it is unpickled. `api_key` travels in the pickle if it was
    given as an argument; one from the environment does not, and is read from the environment there.

    Args:
        base_url: The server's address: `http://host:8000`, https, or `unix:///run/lossd.sock`. By default
            LOSSD_BASE_URL of the environment, else http://127.0.0.1:8000.
        api_key: Sent as a bearer token. Else the environment's LOSSD_API_KEY, else none is sent.
        timeout: How long each step may take, and the whole call. A number of seconds is for each step; None
            waits for ever.
        retry: When failed requests are sent again; None never.
        request_bytes: An input of more bytes than this is split by rows into requests of about that size.
            Where memory is short, count on `concurrency` times as much.
        concurrency: Requests of one call in flight at a time.
        progress: Called with how far the call is, in the thread that called: after each answered request, and
            when what is next waits before it is sent again.
        shrink_targets: Send targets that are all 0 or 1 as bool. The loss is the same to the last bit.
        one_hot_as_ids: Send targets that are one-hot along `class_axis` as class ids; likewise.
        narrow_floats: Send float64 tensors as float32, which rounds them: probabilities next to 1 become 1,
            whose loss under a target of 0 is infinite. What float32 makes 0 or infinite is a ValueError.
        transport: Makes the transport, instead of the client's own. It is called without arguments, and again
            after a fork or where the client is unpickled. `lossd_client.HttpxTransport` takes your own
            `httpx.Client`; `lossd_client.testing.FakeTransport` is for tests without a server.
        max_connections: Connections that the client's own transport keeps.
        default_headers: Further headers of every request, such as a gateway's. Those that the client sets
            itself are refused.

    Raises:
        TypeError: An argument is of another type.
        ConnectionFailed: The proxy or the certificates that the environment names cannot be used.
        ValueError: base_url is not an http, https or unix address, the key or a header has characters that
            no header may have, or a number is out of range.
    """

    @classmethod
    def local(cls, *, settings: Mapping[str, object] | None = None, **options: Unpack[Options]) -> Self:
        """Start a server on this machine, in processes of its own, and return a client of it.

        It ends with the client, and with this process however that ends. It takes some seconds to start, and
        needs the server's dependencies: `pip install 'lossd[cpu]'`.

        Args:
            settings: The server's settings by name, such as `{"device": "cpu"}`; nothing is taken from the
                environment.
            options: As in `with_options`.

        Raises:
            ConnectionFailed: It did not start; the message has the end of its log.
        """
        from lossd_client.local import LocalServer  # slow to import

        server = LocalServer(settings or {})
        with ExitStack() as on_failure:
            on_failure.callback(server.stop)
            server.wait_until_ready()
            client = cls._with_settings(Settings(base_url=server.url).changed(options), server)
            on_failure.pop_all()
        return client

    @staticmethod
    def _open_transport(settings: Settings) -> Transport:
        if settings.transport is not None:
            opened: Transport = settings.transport()
            return opened
        from lossd_client._http.httpx_transport import HttpxTransport  # slow to import

        return HttpxTransport.to(settings.base_url, settings.max_connections)

    def info(self) -> dict[str, Any]:
        """Return the server's version, losses with their defaults, limits and workers.

        Raises:
            LossdError: The request failed.
        """
        return read_object(self._run(self._request(INFO)), INFO.path)

    def usage(self, days: int | None = None) -> dict[str, Any]:
        """Return what the key's team has used, by day and in total.

        Args:
            days: The number of days up to today, in UTC. The server's default is 30.

        Returns:
            `team`, `since`, `days` (of each its `day`, `requests`, `elements`, `bytes` and `device_seconds`),
            and their `total`; the team's `weight` and `limits` (None where there is none), what of it is
            `in_flight`, and whether it is an `operator`.

        Raises:
            LossdError: The request failed.
        """
        return read_object(self._run(self._request(for_days(USAGE, days))), USAGE.path)

    def overview(self, days: int | None = None) -> dict[str, Any]:
        """Return all teams, the workers and the queue; for an operator's key, or on a server without teams.

        Args:
            days: The number of days of usage up to today, in UTC. The server's default is 30.

        Returns:
            `since`, `teams` (of each its `limits` and `usage`, and what is `in_flight` and `waiting`),
            `workers`, `queue`, `memory`, and `notes` that say why usage is missing.

        Raises:
            LossdError: The request failed, such as that of a team that is no operator.
        """
        return read_object(self._run(self._request(for_days(OVERVIEW, days))), OVERVIEW.path)

    def ready(self) -> bool:
        """Return whether the server is ready to score, asking once.

        Raises:
            LossdError: There was no answer, or another than yes or no.
        """
        transport, _ = self._connections.get()
        return read_ready(transport.send(self._addressed(READY), self._settings.timeout))

    def close(self) -> None:
        """Close the connections, and stop the server that `local` started."""
        transport = self._connections.close()
        if transport is not None:
            transport.close()
            self._connections.stop_server()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def with_raw_response(self) -> "_RawLossClient":
        """The same methods, which return the HTTP answers too, as `client.with_raw_response.focal(x, y)`."""
        return _RawLossClient(self)

    def _run(self, steps: Steps[_ResultT], when_waiting: Callable[[Wait], None] | None = None) -> _ResultT:
        """Take the steps until they return a result.

        Args:
            steps: The steps.
            when_waiting: Called before each wait.
        """
        transport, _ = self._connections.get()
        answer: Response | None = None
        try:
            step = next(steps)
            while True:
                if isinstance(step, Send):
                    try:
                        answer = transport.send(step.request, step.timeout)
                    except LossdError as error:
                        step = steps.throw(error)
                        continue
                else:
                    answer = None
                    if when_waiting is not None:
                        when_waiting(step)
                    _pause(step.left)
                step = steps.send(answer)
        except StopIteration as done:
            result: _ResultT = done.value
            return result

    def _score_part(self, part: Part, when_waiting: Callable[[Wait], None]) -> LossResult:
        _, state = self._connections.get()
        return self._run(self._exchange(part, self._encoded(part), state), when_waiting)

    def _score(self, call: LossCall) -> LossResult:
        return self._score_plan(self._plan(check(call)))

    def _score_plan(self, plan: Plan) -> LossResult:
        if plan.is_whole:
            meter = self._meter(plan.rows)
            [part] = plan.parts()
            result = self._score_part(part, meter.note_wait)
            meter.add(plan.rows, result.count)
            return result
        [answered] = self._answered(iter([plan]), plan.rows)
        return answered.result()

    def _report(self, call: LossCall) -> Report:
        return report_of(self._score(call))

    def _score_batches(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> LossResult:
        return self._join_batches(loss, batches, params)[0]

    def _join_batches(
        self,
        loss: LossName,
        batches: Iterable[Batch],
        params: Mapping[str, Any],
        *,
        keeps_answers: bool = False,
    ) -> tuple[LossResult, list[Response]]:
        joined, answers = Joined(), list[Response]()
        read = self._batch_reader(loss, params)
        calls = (joined.sums_of(read(batch)) for batch in batches)
        for plan in self._answered((self._plan(call, keeps_answers=keeps_answers) for call in calls), None):
            joined.add(plan.result())
            answers += plan.answers
        return joined.result(), answers

    def _iter_batches(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> Iterator[LossResult]:
        read = self._batch_reader(loss, params)
        for plan in self._answered((self._plan(read(batch)) for batch in batches), None):
            yield plan.result()

    def _answered(self, plans: Iterator[Plan], total_rows: int | None) -> Iterator[Plan]:
        """Yield each plan once it is answered, in order."""
        meter = self._meter(total_rows)
        parts = chain.from_iterable(plan.parts() for plan in plans)
        for part, result in self._in_order(parts, meter):
            meter.add(part.rows, result.count)
            part.plan.add(part, result)
            if part.is_last:
                yield part.plan

    def _in_order(self, parts: Iterator[Part], meter: Meter) -> Iterator[tuple[Part, LossResult]]:
        """Score parts, several at a time, and yield their results in order."""
        concurrency = self._settings.concurrency
        waiting: deque[tuple[Part, Scored[LossResult]]] = deque()
        workers: Workers[LossResult] = Workers(concurrency)
        relay = WaitRelay(meter)
        try:
            for number, part in enumerate(parts):
                task = partial(copy_context().run, self._score_part, part, relay.listener(number))
                waiting.append((part, relay.scored(number, workers.submit(task))))
                # Yield what is done before drawing from a source that may be slow.
                while waiting and (len(waiting) >= concurrency or waiting[0][1].future.done()):
                    yield waiting[0][0], relay.result_of(waiting[0][1])
                    waiting.popleft()
            while waiting:
                yield waiting[0][0], relay.result_of(waiting[0][1])
                waiting.popleft()
        finally:  # after an error or Ctrl-C, do not wait for requests in flight
            workers.close(at_once=not all(scored.future.done() for _, scored in waiting))

    def _score_stream(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> LossResult:
        return self._stream(loss, batches, params)[0]

    def _stream(
        self, loss: LossName, batches: Iterable[Batch], params: Mapping[str, Any]
    ) -> tuple[LossResult, Response]:
        meter = self._meter(None)
        stream = BatchStream(loss, batches, params, self.info(), meter.add)
        steps = self._request(stream.request(), once=not stream.is_repeatable)
        response = self._run(steps, meter.note_wait)
        return read_result(response, stream.summary()), response


def _pause(seconds: float) -> None:
    cancellation = own_cancellation()
    if cancellation is None:
        time.sleep(seconds)
    else:
        cancellation.pause(seconds)


class _RawLossClient(
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
        return self._object(for_days(USAGE, days))

    def overview(self, days: int | None = None) -> RawResponse[dict[str, Any]]:
        """As `LossClient.overview`."""
        return self._object(for_days(OVERVIEW, days))

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
