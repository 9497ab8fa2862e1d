"""What both clients share: the constructor, options, copies, and a request's way to its result."""

import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, Self, Unpack

from lossd_client._calls.arrays import copied
from lossd_client._calls.calls import CheckedCall, batch_call, loss_named
from lossd_client._calls.checks import check
from lossd_client._http.addresses import server_address, without_password
from lossd_client._http.attempts import CallLimits, RetryState, Steps, attempts
from lossd_client._http.connections import Connections, OwnedServer, TransportT
from lossd_client._http.traces import trace_headers
from lossd_client._meter import Meter
from lossd_client._methods.batches import AnswersT, BatchesT, BatchLosses
from lossd_client._methods.losses import AnswerT
from lossd_client._methods.reports import ReportT
from lossd_client._options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_CONNECTIONS,
    DEFAULT_REQUEST_BYTES,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    Options,
    Settings,
    ShowProgress,
)
from lossd_client._requests.encoding import encode, read_result
from lossd_client._requests.splitting import Part, Plan, batch_tensors
from lossd_client._warning import warn
from lossd_client.errors import LossdError, StatusError
from lossd_client.report import Report
from lossd_client.result import LossResult
from lossd_client.retry import Retry
from lossd_client.timeout import Timeout
from lossd_client.transport import Request, Response


class BaseClient(
    BatchLosses[AnswerT, BatchesT, AnswersT, ReportT],
    Generic[AnswerT, BatchesT, AnswersT, ReportT, TransportT],
):
    """The base of `LossClient` and `AsyncLossClient`, which differ in how they send."""

    _settings: Settings
    _connections: Connections[TransportT]
    _headers: Mapping[str, str]

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | Timeout | None = DEFAULT_TIMEOUT,
        retry: Retry | None = DEFAULT_RETRY,
        request_bytes: int = DEFAULT_REQUEST_BYTES,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: ShowProgress | None = None,
        shrink_targets: bool = True,
        one_hot_as_ids: bool = False,
        narrow_floats: bool = False,
        transport: Callable[[], TransportT] | None = None,
        max_connections: int = DEFAULT_CONNECTIONS,
        default_headers: Mapping[str, str] | None = None,
    ) -> None:
        settings = Settings(
            base_url=server_address(base_url),
            api_key=api_key,
            timeout=Timeout.of(timeout),
            retry=retry,
            request_bytes=request_bytes,
            concurrency=concurrency,
            progress=progress,
            shrink_targets=shrink_targets,
            one_hot_as_ids=one_hot_as_ids,
            narrow_floats=narrow_floats,
            transport=transport,
            max_connections=max_connections,
            default_headers=default_headers,
        )
        self._set_up(settings)

    @staticmethod
    @abstractmethod
    def _open_transport(settings: Settings) -> TransportT: ...

    @classmethod
    def _with_settings(cls, settings: Settings, server: OwnedServer | None = None) -> Self:
        client = cls.__new__(cls)
        client._set_up(settings, server)
        return client

    def _set_up(self, settings: Settings, server: OwnedServer | None = None) -> None:
        self._settings, self._headers = settings, settings.headers()
        self._connections = Connections(lambda: self._open_transport(settings), server)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self._settings.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_password(self.base_url)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A callback means something in its own process only.
        return type(self)._with_settings, (replace(self._settings, progress=None),)

    def __copy__(self) -> Self:
        return self._with_settings(self._settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._with_settings(self._settings)

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a client with other options and the same connections and retry budget.

        Closing one closes both. `default_headers` are added to those that there are; None takes all away.

        Args:
            options: Any of the constructor's but `base_url`, `transport` and `max_connections`.

        Raises:
            TypeError: There is no such option.
            ValueError: As the constructor.
        """
        client = type(self).__new__(type(self))
        client._settings = self._settings.changed(options)
        client._headers = client._settings.headers()
        client._connections = self._connections
        return client

    def _limits(self) -> CallLimits:
        return CallLimits.starting_now(self._settings.timeout, self._settings.retry)

    def _addressed(self, request: Request, request_id: str | None = None) -> Request:
        own = {**request.headers, "X-Request-Id": request_id or uuid.uuid4().hex}
        trace = {} if "traceparent" in self._headers else trace_headers()
        headers = {**trace, **self._headers, **own}
        return replace(request, base_url=self._settings.base_url, headers=headers)

    def _request(self, request: Request, *, once: bool = False) -> Steps[Response]:
        """Send a request as it is."""
        _, state = self._connections.get()
        limits = self._limits()
        return attempts(self._addressed(request), replace(limits, retry=None) if once else limits, state)

    def _plan(self, call: CheckedCall, *, keeps_answers: bool = False) -> Plan:
        size, request_id = self._settings.request_bytes, uuid.uuid4().hex
        return Plan(call, size, request_id, self._limits(), keeps_answers=keeps_answers)

    def _meter(self, total_rows: int | None) -> Meter:
        return Meter(self._settings.progress, total_rows)

    def _batch_call(self, loss: str, batch: object, params: Mapping[str, Any]) -> CheckedCall:
        call = check(batch_call(loss, batch_tensors(loss_named(loss), batch), params))
        if self._settings.concurrency == 1:  # it is answered before the next is drawn
            return call
        tensors = {name: copied(array) for name, array in call.tensors.items()}
        return replace(call, tensors=tensors)

    def _batch_reader(self, loss: str, params: Mapping[str, Any]) -> Callable[[object], CheckedCall]:
        """Return what makes a call of each batch in turn; its rows are numbered on after those before it."""
        rows = 0

        def read(batch: object) -> CheckedCall:
            nonlocal rows
            call = self._batch_call(loss, batch, params).after(rows)
            rows += call.rows
            return call

        return read

    def _encoded(self, part: Part) -> Request:
        return self._addressed(encode(part.call, self._settings.form), part.request_id)

    def _exchange(self, part: Part, request: Request, state: RetryState) -> Steps[LossResult]:
        """Send a part's request, with retries, and read its answer."""
        try:
            response = yield from attempts(request, part.plan.limits, state)
        except StatusError as error:
            raise part.own_error(error) from None
        finally:
            part.forget()
        part.plan.keep(part, response)
        try:
            result = read_result(response, part.summary)
            return part.plan.noted(result) if part.plan.is_whole else result
        except LossdError as error:
            error.request_id = error.request_id or part.request_id
            raise


def report_of(result: LossResult) -> Report:
    """Return the report of a result that was asked for one, and warn of the result's notes."""
    assert result.report is not None
    for note in result.notes:
        warn(note)
    return result.report
