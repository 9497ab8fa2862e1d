"""The public surface under the type checker; never run."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from decimal import Decimal
from typing import Any, assert_type

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import Metric, MetricCollection

import lossd_client
from lossd_client import (
    DEFAULT,
    Array,
    AsyncHttpxTransport,
    AsyncLossClient,
    AsyncTransport,
    Axis,
    Batch,
    Default,
    ErrorItem,
    HttpxTransport,
    IgnoreIndex,
    LossClient,
    LossName,
    LossResult,
    Normalizer,
    Progress,
    Rate,
    RateLimit,
    RawResponse,
    Reduction,
    Report,
    Request,
    Response,
    Retry,
    TargetsFormat,
    Timeout,
    Transport,
    Variant,
    progress_bar,
)
from lossd_client.testing import AsyncFakeTransport, FakeTransport
from lossd_client.torchmetrics import RemoteBCE, RemoteFocal, RemoteReport


def sync(logits: NDArray[np.float32], targets: NDArray[np.bool_], how: Reduction, axes: Axis) -> None:
    with LossClient("http://localhost:8000", api_key="k", timeout=None) as client:
        assert_type(client, LossClient)
        assert_type(client.base_url, str)
        assert_type(client.bce(logits, targets), LossResult)
        assert_type(client.bce([[0.5]], [[True]], weight=2.0, pos_weight=[1.0], reduction="none"), LossResult)
        assert_type(client.focal(logits, targets, gamma=2, alpha=None, reduction=how, axis=axes), LossResult)
        assert_type(client.focal(logits, targets, gamma=DEFAULT, alpha=[0.1, 0.2], axis=(0, 1)), LossResult)
        assert_type(client.info(), dict[str, Any])
        assert_type(client.ready(), bool)
        client.bce(logits, targets, reduction="median")  # type: ignore[arg-type] # no such reduction
        client.bce(logits, targets, gamma=2.0)  # type: ignore[call-arg] # focal's alone
        client.focal(logits, targets, gamma=None)  # type: ignore[arg-type] # None means nothing here
    assert_type(client.close(), None)


def options(
    client: LossClient,
    p: NDArray[np.float32],
    ids: NDArray[np.int64],
    mask: NDArray[np.bool_],
    divisor: Normalizer,
    form: TargetsFormat,
    variant: Variant,
    ignored: IgnoreIndex,
) -> None:
    assert_type(client.bce(probabilities=p, targets=mask, mask=mask), LossResult)
    assert_type(client.bce(p, [2, 0], targets_format="index", class_axis=1, ignore_index=-1), LossResult)
    assert_type(client.bce(p, mask, mask=[[True]], normalizer="positives", allow_nan=True), LossResult)
    assert_type(client.bce(p, mask, normalizer=64, label_smoothing=0.1, ignore_index=None), LossResult)
    assert_type(client.focal(probabilities=p, targets=ids, targets_format=form, variant=variant), LossResult)
    assert_type(client.focal(p, mask, normalizer=divisor, variant=DEFAULT, ignore_index=0.5), LossResult)
    assert_type(
        client.bce(p, ids, targets_format="index", background_index=80, ignore_index="nan"), LossResult
    )
    assert_type(client.focal(p, ids, ignore_index=ignored, background_index=None), LossResult)
    assert_type(client.bce([[0.5, 1.0]], [[1.0, None]], ignore_index="nan"), LossResult)
    assert_type(client.bce(p, [Decimal("0.5")], weight=[Decimal(1)]), LossResult)
    client.bce(p, ids, background_index=0.5)  # type: ignore[arg-type] # no id
    client.bce(p, ids, ignore_index="none")  # type: ignore[arg-type] # no such word
    client.bce(p, mask, normalizer="sum")  # type: ignore[arg-type] # no such normalizer
    client.bce(p, mask, normalizer=None)  # type: ignore[arg-type] # None means nothing here
    client.bce(p, ids, targets_format="sparse")  # type: ignore[arg-type] # no such format
    client.bce(p, mask, class_axis=0.5)  # type: ignore[arg-type] # no axis
    client.bce(p, mask, allow_nan="false")  # type: ignore[arg-type] # a string is no bool
    client.bce(p, mask, variant="exp")  # type: ignore[call-arg] # focal's alone
    client.focal(p, mask, variant="tanh")  # type: ignore[arg-type] # no such variant
    client.bce(p, mask, p)  # type: ignore[call-arg] # the rest is named


def arrays(client: LossClient, tensor: torch.Tensor, any_array: Array, alpha: float | Default | None) -> None:
    assert_type(client.bce(tensor, tensor > 0), LossResult)
    assert_type(client.bce(any_array, tensor, weight=any_array, mask=any_array), LossResult)
    assert_type(client.focal(tensor, [1, 0], alpha=alpha), LossResult)
    client.bce(client, tensor)  # type: ignore[arg-type] # no array


def constructed(show: Callable[[Progress], None], transport: Callable[[], Transport]) -> None:
    client = LossClient(
        base_url=None,
        api_key=None,
        timeout=Timeout(connect=1, read=None, write=2.5, pool=None, deadline=60),
        retry=Retry(
            attempts=3,
            first_contact=1,
            first_refusal=1,
            first_wait=0.1,
            longest_wait=1,
            burst=5,
            per_second=1,
        ),
        request_bytes=1 << 20,
        concurrency=2,
        progress=show,
        shrink_targets=False,
        one_hot_as_ids=True,
        narrow_floats=True,
        transport=transport,
        max_connections=8,
        default_headers={"X-Tenant": "vision"},
    )
    other = client.with_options(
        api_key="k",
        timeout=5,
        retry=None,
        request_bytes=1,
        concurrency=1,
        progress=None,
        shrink_targets=True,
        one_hot_as_ids=False,
        narrow_floats=False,
        default_headers=None,
    )
    assert_type(other, LossClient)
    client.with_options(default_headers={"X": 1})  # type: ignore[dict-item] # no text
    assert_type(deepcopy(client), LossClient)
    assert_type(LossClient.local(settings={"device": "cpu"}, retry=None), LossClient)
    assert_type(client.usage(days=7), dict[str, Any])
    assert_type(client.overview(days=7), dict[str, Any])
    assert_type(lossd_client.__version__, str)
    LossClient(transport=lambda: HttpxTransport(http=httpx.Client()))
    LossClient(transport=HttpxTransport)
    LossClient("unix:///run/lossd.sock", transport=lambda: HttpxTransport(unix_socket="/run/lossd.sock"))
    LossClient(transport=AsyncHttpxTransport)  # type: ignore[arg-type] # the other client's
    LossClient("http://localhost", "k")  # type: ignore[call-arg] # options are named
    client.with_options(base_url="http://localhost")  # type: ignore[call-arg] # that is another client
    client.with_options(concurrency="2")  # type: ignore[arg-type] # no number


def batches(
    client: LossClient, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], named: Iterator[Batch]
) -> None:
    assert_type(client.score_batches("bce", pairs), LossResult)
    assert_type(client.score_batches("focal", named, gamma=2.0, alpha=None, variant="exp"), LossResult)
    assert_type(client.iter_batches("focal", named, normalizer="positives"), Iterator[LossResult])
    assert_type(client.iter_batches("bce", [([0.5], [1.0])], reduction="none"), Iterator[LossResult])
    assert_type(client.score_stream("bce", [{"probabilities": [0.5], "targets": [1]}], axis=0), LossResult)
    assert_type(LossResult.merge(client.iter_batches("bce", named)), LossResult)
    client.score_batches("bce", named, gamma=2.0)  # type: ignore[call-overload] # focal's alone
    client.score_batches("higne", named)  # type: ignore[call-overload] # no such loss
    client.score_batches("focal", 3)  # type: ignore[call-overload] # no iterable
    _: Sequence[LossName] = ["bce", "focal"]


def reports(client: LossClient, x: NDArray[np.float32], y: NDArray[np.bool_], named: Iterator[Batch]) -> None:
    assert_type(client.report("bce", x, y), Report)
    assert_type(client.report("bce", probabilities=x, targets=y, weight=x, mask=y, pos_weight=2.0), Report)
    everything = client.report(
        "focal",
        x,
        y,
        gamma=2.0,
        groups={"camera": ["a", "b"], "weather": x},
        ids=["a", "b"],
        baseline=x,
        sections=["classes", "top"],
        top=5,
        row="mean",
        first_row=10,
        calibration_bins="exact",
        sweep={"gamma": [0, 1.5]},
    )
    assert_type(everything, Report)
    assert_type(client.score_batches("bce", named, sections="all", top=5).report, Report | None)
    assert_type(client.score_stream("focal", named, sections=["sweep"], sweep={"gamma": [1]}), LossResult)
    client.report("focal", x, y, groups=[["a", "b"]], ids=torch.arange(2))
    client.report("bce", x, y, gamma=2.0)  # type: ignore[call-overload] # focal's alone
    client.report("bce", x, y, axis=0)  # type: ignore[call-overload] # a report is of all elements
    client.report("bce", x, y, sections="clases")  # type: ignore[call-overload] # no such section
    client.report("bce", x, y, sweep={"alpha": [1]})  # type: ignore[call-overload] # the report has at(...)


async def asynchronous_reports(client: AsyncLossClient, x: NDArray[np.float32], y: NDArray[np.bool_]) -> None:
    assert_type(await client.report("focal", x, y, gamma=2.0, groups=[1, 2]), Report)


def progress(client: LossClient, logits: Array, targets: Array) -> None:
    bar: AbstractContextManager[Callable[[Progress], None]] = progress_bar("Evaluating")
    with bar as show:
        client.with_options(progress=show).bce(logits, targets)
    at = Progress(rows=1, total_rows=None, elements=80, requests=1)
    assert_type(at.total_rows, int | None)
    assert_type((at.rows, at.elements, at.requests), tuple[int, int, int])
    assert_type((at.resumes_in, at.reason), tuple[float | None, str])


def raw(client: LossClient, x: NDArray[np.float32], y: NDArray[np.bool_], named: Iterator[Batch]) -> None:
    found = client.with_raw_response.focal(x, y, gamma=2.0)
    assert_type(found, RawResponse[LossResult])
    assert_type((found.status, found.body), tuple[int, bytes])
    headers: Mapping[str, str] = found.headers
    assert_type(headers.get("X-Request-Id"), str | None)
    assert_type((found.parse(), found.result), tuple[LossResult, LossResult])
    assert_type(found.responses, tuple[Response, ...])
    assert_type((found.request_id, found.rate_limit), tuple[str | None, RateLimit | None])
    assert_type(client.with_raw_response.report("bce", x, y), RawResponse[Report])
    assert_type(client.with_raw_response.score_batches("bce", named), RawResponse[LossResult])
    assert_type(client.with_raw_response.iter_batches("bce", named), Iterator[RawResponse[LossResult]])
    assert_type(client.with_raw_response.score_stream("focal", named, gamma=2), RawResponse[LossResult])
    assert_type(client.with_raw_response.info().result, dict[str, Any])
    assert_type(client.with_raw_response.usage(days=7).parse(), dict[str, Any])
    client.with_raw_response.bce(x, y, gamma=2.0)  # type: ignore[call-arg] # focal's alone


async def asynchronous_raw(
    client: AsyncLossClient, x: NDArray[np.float32], loader: AsyncIterable[Batch]
) -> None:
    assert_type(await client.with_raw_response.bce(x, x), RawResponse[LossResult])
    assert_type(await client.with_raw_response.report("bce", x, x), RawResponse[Report])
    assert_type(await client.with_raw_response.score_batches("bce", loader), RawResponse[LossResult])
    assert_type(await client.with_raw_response.score_stream("bce", loader), RawResponse[LossResult])
    assert_type(client.with_raw_response.iter_batches("bce", loader), AsyncIterator[RawResponse[LossResult]])
    assert_type(await client.with_raw_response.info(), RawResponse[dict[str, Any]])


class Recorded:
    """A transport of the caller's own."""

    def send(self, request: Request, timeout: Timeout) -> Response:
        assert_type(request.method, str)
        assert_type(request.url, str)
        assert_type(request.length, int)
        assert_type(request.headers, Mapping[str, str])
        assert_type(request.query, tuple[tuple[str, str], ...])
        assert_type(request.body, tuple[bytes | memoryview, ...])
        assert_type(timeout.deadline, float | None)
        return Response(status=200, headers={}, body=b"")

    def close(self) -> None: ...


def transports(client: LossClient) -> tuple[Transport, AsyncTransport]:
    LossClient(transport=Recorded)
    LossClient(transport=FakeTransport)
    AsyncLossClient(transport=AsyncFakeTransport)
    AsyncLossClient(transport=Recorded)  # type: ignore[arg-type] # the other client's
    return Recorded(), AsyncHttpxTransport(http=httpx.AsyncClient())


def metrics(client: LossClient, logits: torch.Tensor, targets: torch.Tensor) -> None:
    bce = RemoteBCE(client, pos_weight=[1.0, 2.0], normalizer="weight", sync_on_compute=False)
    focal = RemoteFocal(base_url="http://localhost", api_key="k", gamma=2, alpha=None, variant="quality")
    RemoteFocal(probabilities=True, targets_format="index", class_axis=1, ignore_index=-1, allow_nan=True)
    RemoteFocal(alpha=DEFAULT, label_smoothing=0.1, pos_weight=logits, ignore_index="nan")
    RemoteBCE(client, targets_format="index", background_index=80)
    RemoteBCE(client, gamma=2.0)  # any option may be torchmetrics' own; it is refused when it runs
    RemoteBCE(client, normalizer=64)  # type: ignore[arg-type] # would divide each batch
    RemoteBCE("http://localhost")  # type: ignore[arg-type] # no client
    assert_type(bce.update(logits, targets, weight=targets, mask=targets > 0), None)
    assert_type(bce.compute(), torch.Tensor)
    assert_type((bce.bce_sum, bce.bce_weight), tuple[torch.Tensor, torch.Tensor])
    assert_type((focal.focal_sum, focal.focal_weight), tuple[torch.Tensor, torch.Tensor])
    assert_type(focal.client, LossClient)
    report = RemoteReport("focal", client, gamma=2, sections=["top"], top=5, drop_duplicates=True)
    assert_type(report.update(logits, targets, groups={"camera": [1]}, ids=["a"], baseline=logits), None)
    assert_type(report.compute(), Report | None)
    RemoteReport("higne", client)  # type: ignore[arg-type] # no such loss
    members: list[Metric | MetricCollection] = [bce, focal]
    MetricCollection(members).update(logits, targets)


async def asynchronous(logits: NDArray[np.float32], targets: NDArray[np.bool_]) -> None:
    async with AsyncLossClient(timeout=1.5) as client:
        assert_type(client, AsyncLossClient)
        assert_type(await client.bce(logits, targets, axis=0), LossResult)
        assert_type(await client.focal(logits, targets, alpha=0.25), LossResult)
        assert_type(await client.focal(probabilities=logits, targets=targets, mask=targets), LossResult)
        assert_type(await client.info(), dict[str, Any])
        assert_type(await client.ready(), bool)
        assert_type(await client.usage(), dict[str, Any])
        assert_type(await client.overview(), dict[str, Any])
        assert_type(client.with_options(timeout=Timeout(deadline=1.0)), AsyncLossClient)
        assert_type(await AsyncLossClient.local(), AsyncLossClient)
    await client.aclose()


async def asynchronous_batches(
    client: AsyncLossClient, plain: Iterable[Batch], loader: AsyncIterable[Batch]
) -> None:
    assert_type(await client.score_batches("bce", plain, pos_weight=2.0), LossResult)
    assert_type(await client.score_batches("focal", loader, gamma=2.0), LossResult)
    assert_type(client.iter_batches("bce", loader), AsyncIterator[LossResult])
    assert_type(await client.score_stream("focal", loader, alpha=[0.25, 0.5]), LossResult)
    async for one in client.iter_batches("focal", plain):
        assert_type(one, LossResult)


def result(got: LossResult) -> None:
    assert_type(float(got), float)
    assert_type(got.loss, float | NDArray[np.float64])
    assert_type(got.sum, float)
    assert_type(got.count, int)
    assert_type(got.weight_sum, float)
    assert_type(got.positives, float)
    assert_type(got.reduction, str)
    assert_type(got.params, Mapping[str, Any])
    assert_type(got.request_id, str | None)
    assert_type(got.timing, Mapping[str, float])
    assert_type(got.loss_name, str)
    assert_type(got.shape, tuple[int, ...])
    assert_type(got.kernel, str | None)
    assert_type(got.device, str | None)
    assert_type(got.version, str | None)
    assert_type(got.options, Mapping[str, Any])
    assert_type(got.notes, tuple[str, ...])
    assert_type(got.sum_terms, tuple[float, ...])
    assert_type(got.weight_sum_terms, tuple[float, ...])
    assert_type(got.positives_terms, tuple[float, ...])
    assert_type(got.loss_terms, tuple[NDArray[np.float64], ...] | None)
    assert_type(got.divisor_terms, tuple[NDArray[np.float64], ...] | None)
    assert_type(got.report, Report | None)
    assert_type(got.rate_limit, RateLimit | None)
    if got.rate_limit is not None and (rate := got.rate_limit.requests) is not None:
        assert_type(rate, Rate)
        assert_type((rate.limit, rate.remaining), tuple[int | None, int])
        assert_type((rate.reset, rate.window), tuple[float | None, float | None])
        assert_type(got.rate_limit.elements, Rate | None)
        assert_type(got.rate_limit.rates, Mapping[str, Rate])
    assert_type(round(got), int)
    assert_type(round(got, 3), float)
    assert_type(got.to_dict(), dict[str, Any])
    got.sum = 1.0  # type: ignore[misc] # frozen


def errors(error: lossd_client.StatusError) -> Sequence[type[lossd_client.LossdError]]:
    assert_type(error.status, int)
    assert_type(error.code, str | None)
    assert_type(error.detail, str)
    assert_type(error.request_id, str | None)
    assert_type(error.retryable, bool)
    assert_type(error.retry_after, float | None)
    assert_type(error.rate_limit, RateLimit | None)
    assert_type(error.headers, Mapping[str, str])
    assert_type(lossd_client.ConnectionFailed().connected, bool)
    assert_type(error.errors, tuple[ErrorItem, ...])
    assert_type([(item.pointer, item.detail) for item in error.errors], list[tuple[str, str]])
    return [
        lossd_client.BadAnswer,
        lossd_client.ConnectionFailed,
        lossd_client.DeadlineExceeded,
        lossd_client.InvalidRequest,
        lossd_client.NotFound,
        lossd_client.ServerError,
        lossd_client.Throttled,
        lossd_client.TimedOut,
        lossd_client.TooLarge,
        lossd_client.Unauthorized,
        lossd_client.Unavailable,
    ]
