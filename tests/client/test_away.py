"""Metrics that outlast a server: what was kept is sent later, and nothing looks complete before."""

import copy
import gc
import json
import math
import os
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.utilities.exceptions import TorchMetricsUserError

from lossd_client import (
    ConnectionFailed,
    InvalidRequest,
    LossClient,
    Report,
    Request,
    Response,
    ServerError,
    Timeout,
)
from lossd_client.testing import FakeTransport
from lossd_client.torchmetrics import RemoteBCE, RemoteReport

CHANCE = torch.Generator().manual_seed(3)
X = 4 * torch.randn(20, 3, generator=CHANCE)
Y = (torch.rand(20, 3, generator=CHANCE) < 0.3).float()
NAMES = [f"image {row * 7 % 20}" for row in range(20)]
BATCHES = [slice(0, 6), slice(6, 9), slice(9, 15), slice(15, 20)]
REPORT: dict[str, Any] = {"gamma": 2.0, "top": 4, "calibration_bins": 8}
ANSWERS: dict[str, dict[str, Any]] = {"out_of_memory": {"status": 507}, "internal_error": {"status": 500}}


class Flaky(FakeTransport):
    """The fake, which is away when told so."""

    def __init__(self) -> None:
        self.is_away = False
        self.code: str | None = None
        self.sent = 0

    def send(self, request: Request, timeout: Timeout) -> Response:
        if self.is_away:
            raise ConnectionFailed("there is nobody")
        if self.code is not None:
            raise ServerError(ANSWERS[self.code]["status"], self.code, "as the test wants it")
        self.sent += 1
        return super().send(request, timeout)


@pytest.fixture
def transport() -> Flaky:
    return Flaky()


@pytest.fixture
def client(transport: Flaky) -> Iterator[LossClient]:
    with LossClient(transport=lambda: transport, retry=None) as opened:
        yield opened


def whole(client: LossClient) -> float:
    return float(client.bce(X, Y))


def sections(report: Report | None) -> str:
    assert report is not None
    return json.dumps({name: value for name, value in report.to_dict().items() if name != "run"})


def updated(metric: Any, batches: list[slice], *, way: str = "update") -> None:  # noqa: ANN401 - any metric
    for rows in batches:
        ids = {"ids": NAMES[rows]} if isinstance(metric, RemoteReport) else {}
        getattr(metric, way)(X[rows], Y[rows], **ids)


def incomplete(metric: Any) -> Any:  # noqa: ANN401
    with pytest.warns(UserWarning, match="batches are missing, so there is no value"):
        return metric.compute()


def missing(metric: Any) -> int:  # noqa: ANN401
    """The states' own count."""
    [count] = [state for name, state in metric.metric_state.items() if name.endswith("_missing")]
    return int(count[0])


def away() -> Any:  # noqa: ANN401 - pytest's
    return pytest.warns(UserWarning, match="the server is away since .* and batches are kept")


def metrics_of(client: LossClient, **options: Any) -> list[Any]:  # noqa: ANN401
    report = {**REPORT, "client": client, "on_error": "warn", **options}
    return [
        RemoteBCE(client, on_error="warn", **options),
        RemoteReport("focal", **report),
        RemoteReport("focal", **report, drop_duplicates=True),
    ]


@pytest.mark.parametrize("way", ["update", "forward"])
@pytest.mark.parametrize("gone", [[0, 1, 2, 3], [1], [3], [0, 2]])
def test_what_was_away_is_added_with_the_same_bits(
    client: LossClient, transport: Flaky, way: str, gone: list[int]
) -> None:
    expected = [whole(client), *[sections(client.report("focal", X, Y, **REPORT, ids=NAMES))] * 2]
    by_number = sections(client.report("focal", X, Y, **REPORT))
    numbered = RemoteReport("focal", client, **REPORT, on_error="warn")
    stepwise = RemoteBCE(client, on_error="warn", dist_sync_on_step=True)
    metrics = [*metrics_of(client), numbered]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, rows in enumerate(BATCHES):
            transport.is_away = number in gone
            for metric in metrics[:3]:
                updated(metric, [rows], way=way)
            for metric in (numbered, stepwise):
                getattr(metric, way)(X[rows], Y[rows])
    transport.is_away = False
    values = [metrics[0].compute().item(), *(sections(metric.compute()) for metric in metrics[1:])]
    assert values == [*expected, by_number]
    assert float(stepwise.compute()) == expected[0]


def test_a_batch_alone_is_nan_and_is_kept_once(client: LossClient, transport: Flaky) -> None:
    mean, report, by_ids = metrics_of(client)
    transport.is_away = True
    with away():
        assert math.isnan(mean(X[:6], Y[:6]))
    assert report(X[:6], Y[:6], ids=NAMES[:6]) is None
    assert by_ids(X[:6], Y[:6], ids=NAMES[:6]) is None
    transport.is_away = False
    for metric in (mean, report, by_ids):
        metric.compute()
    assert transport.sent == 3
    assert mean(X[6:], Y[6:]) == float(client.bce(X[6:], Y[6:]))
    assert float(mean.compute()) == whole(client)


def test_a_batch_of_rows_that_have_come_before_is_not_kept(client: LossClient, transport: Flaky) -> None:
    metric = RemoteReport("focal", client, **REPORT, drop_duplicates=True, on_error="warn")
    updated(metric, BATCHES)
    transport.is_away = True
    with away():
        assert metric(X[:6], Y[:6], ids=NAMES[:6]) is None
    transport.is_away = False
    assert sections(metric.compute()) == sections(client.report("focal", X, Y, **REPORT, ids=NAMES))
    assert transport.sent == 5


def test_states_that_are_synchronised_get_no_late_batches(client: LossClient, transport: Flaky) -> None:
    metric = RemoteBCE(client, on_error="warn")
    updated(metric, BATCHES[:2])
    transport.is_away = True
    with away():
        updated(metric, BATCHES[2:])
    transport.is_away = False
    metric.sync(dist_sync_fn=lambda state, group=None: [state, state], distributed_available=lambda: True)
    with pytest.raises(TorchMetricsUserError, match="already been synced"):
        metric.compute()
    metric.unsync()
    assert float(metric.compute()) == whole(client)


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_what_is_refused_is_raised(client: LossClient, transport: Flaky, on_error: Any) -> None:  # noqa: ANN401
    for metric in (
        RemoteBCE(client, on_error=on_error),
        RemoteReport("bce", client, on_error=on_error),
    ):
        for way in (metric.update, metric):
            with pytest.raises(InvalidRequest, match="target_out_of_range"):
                way(X[:6], Y[:6] + 1)
        assert missing(metric) == 0
        with pytest.raises(TypeError, match="dtype"):
            metric.update(X[:6] > 0, Y[:6])


def test_what_is_refused_late_is_raised_once_and_left_out(client: LossClient, transport: Flaky) -> None:
    for metric in metrics_of(client):
        updated(metric, BATCHES[:1])
        transport.is_away = True
        with away():
            metric.update(
                X[6:9], Y[6:9] + 1, **({} if isinstance(metric, RemoteBCE) else {"ids": NAMES[6:9]})
            )
        updated(metric, BATCHES[2:3])
        transport.is_away = False
        with pytest.raises(InvalidRequest, match="target_out_of_range") as raised:
            metric.compute()
        assert "kept while the server was away" in raised.value.__notes__[0]
        updated(metric, BATCHES[3:])
        rows = [*range(6), *range(9, 20)]
        if isinstance(metric, RemoteBCE):
            assert float(metric.compute()) == float(client.bce(X[rows], Y[rows]))
        else:
            ids = [NAMES[row] for row in rows]
            expected = client.report("focal", X[rows], Y[rows], **REPORT, ids=ids)
            assert sections(metric.compute()) == sections(expected)


def test_the_mode_has_one_of_two_names(client: LossClient) -> None:
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'warn', and is 'ignore'"):
        RemoteBCE(client, on_error="ignore")  # type: ignore[arg-type] # as it says
    transport_error = RemoteBCE(LossClient("http://127.0.0.1:1", retry=None))
    with pytest.raises(ConnectionFailed):
        transport_error.update(X, Y)
    transport_error.client.close()


def test_a_batch_that_ends_workers_is_not_sent_again(client: LossClient, transport: Flaky) -> None:
    metric = RemoteBCE(client, on_error="warn")
    transport.code = "out_of_memory"
    with pytest.warns(UserWarning, match="a batch is lost, 1 by now: 507 out_of_memory"):
        metric.update(X[:6], Y[:6])
    transport.code = None
    metric.update(X[6:], Y[6:])
    assert math.isnan(incomplete(metric))
    assert transport.sent == 1
    metric.reset()
    metric.update(X, Y)
    assert float(metric.compute()) == whole(client)


def test_an_error_of_the_servers_own_is_an_outage(client: LossClient, transport: Flaky) -> None:
    metric = RemoteBCE(client, on_error="warn")
    transport.code = "internal_error"
    with away():
        metric.update(X, Y)
    assert math.isnan(incomplete(metric))
    transport.code = None
    assert float(metric.compute()) == whole(client)


def test_kept_bytes_are_bounded_and_what_has_no_room_is_counted(client: LossClient, transport: Flaky) -> None:
    metric = RemoteBCE(client, on_error="warn", keep_bytes=1000)
    transport.is_away = True
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        updated(metric, BATCHES)
    lost = [str(each.message) for each in told if "a batch is lost" in str(each.message)]
    assert lost
    assert all("there is no room for it: give keep_bytes more" in text for text in lost)
    transport.is_away = False
    assert math.isnan(incomplete(metric))
    assert missing(metric) == len(lost)
    metric.reset()
    updated(metric, BATCHES)
    assert float(metric.compute()) == whole(client)


@pytest.mark.slow
def test_many_bytes_lie_in_a_file_without_a_name(client: LossClient, transport: Flaky) -> None:
    x = torch.randn(1_000_000, generator=CHANCE)
    y = (x > 0.5).to(torch.uint8)
    metric = RemoteBCE(client, on_error="warn")
    transport.is_away = True
    before = unnamed_files()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(9):  # of 5 MB
            metric.update(x, y)
            x.neg_()  # its buffer is used again
    [size] = unnamed_files() - before
    assert 9_000_000 < size < 20_000_000
    transport.is_away = False
    again, other = client.bce(x, y, reduction="sum"), client.bce(-x, y, reduction="sum")
    expected = (5 * math.fsum(other.sum_terms), 4 * math.fsum(again.sum_terms))
    assert float(metric.compute()) == pytest.approx(sum(expected) / 9_000_000, rel=1e-15)
    gc.collect()
    assert not unnamed_files() - before


def unnamed_files() -> Counter[int]:
    """The sizes of this process's open files that have no name."""
    found: Counter[int] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        try:
            target = str(each.readlink())
            if target.endswith("(deleted)"):
                found[each.stat().st_size] += 1
        except OSError:  # closed meanwhile
            continue
    return found


@pytest.mark.parametrize(
    "copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, lambda m: m.clone()]
)
def test_copies_keep_the_same_and_go_their_own_way(copied: Callable[[Any], Any]) -> None:
    with LossClient(transport=Shared, retry=None) as client:
        for metric in metrics_of(client):
            updated(metric, BATCHES[:1])
            Shared.is_down = True
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                updated(metric, BATCHES[1:3])
                other = copied(metric)
                updated(other, BATCHES[3:])
            Shared.is_down = False
            with other.client:
                assert missing(metric) == 2
                values = [each.compute() for each in (metric, other)]
            for value, rows in zip(values, (slice(0, 15), slice(0, 20)), strict=True):
                if isinstance(metric, RemoteBCE):
                    assert float(value) == float(client.bce(X[rows], Y[rows]))
                else:
                    expected = client.report("focal", X[rows], Y[rows], **REPORT, ids=NAMES[rows])
                    assert sections(value) == sections(expected)


class Shared(FakeTransport):
    """The fake, of which all are away when the class is told so."""

    is_down = False

    def send(self, request: Request, timeout: Timeout) -> Response:
        if Shared.is_down:
            raise ConnectionFailed("there is nobody")
        return super().send(request, timeout)


def test_reset_forgets_what_was_kept(client: LossClient, transport: Flaky) -> None:
    for metric in metrics_of(client):
        transport.is_away = True
        with away():
            updated(metric, BATCHES[:2])
        metric.reset()
        transport.is_away, transport.sent = False, 0
        updated(metric, BATCHES[3:])
        metric.compute()
        assert transport.sent == 1


def test_saved_states_say_that_they_are_not_complete(client: LossClient, transport: Flaky) -> None:
    for metric, other, third in zip(*(metrics_of(client) for _ in range(3)), strict=True):
        metric.persistent(True)
        updated(metric, BATCHES[:1])
        transport.is_away = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            updated(metric, BATCHES[1:])
        transport.is_away = False
        other.load_state_dict(metric.state_dict())
        with pytest.warns(UserWarning, match="before the ``update`` method"):
            value = incomplete(other)
        assert value is None or math.isnan(value)
        assert metric.compute() is not None
        third.load_state_dict(metric.state_dict())
        with pytest.warns(UserWarning, match="before the ``update`` method"):
            assert str(third.compute()) == str(metric.compute())
        transport.is_away = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            third.update(
                X, Y, **({} if isinstance(metric, RemoteBCE) else {"ids": [*"abcdefghijklmnopqrst"]})
            )
        third.load_state_dict(metric.state_dict())
        transport.is_away = False
        assert str(third.compute()) == str(metric.compute())


def test_merged_metrics_keep_what_both_kept(client: LossClient, transport: Flaky) -> None:
    for first, second in zip(metrics_of(client), metrics_of(client), strict=True):
        updated(first, BATCHES[:1])
        transport.is_away = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            updated(first, BATCHES[1:2])
            updated(second, BATCHES[2:])
        first.merge_state(second)
        transport.is_away = False
        if isinstance(first, RemoteBCE):
            assert float(first.compute()) == whole(client)
        else:
            expected = client.report("focal", X, Y, **REPORT, ids=NAMES)
            assert sections(first.compute()) == sections(expected)


def test_a_collection_of_the_same_metric_twice(client: LossClient, transport: Flaky) -> None:
    for gone in (0, 2):
        metrics = MetricCollection({name: RemoteBCE(client, on_error="warn") for name in ("a", "b")})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, rows in enumerate(BATCHES):
                transport.is_away = number == gone
                metrics.update(X[rows], Y[rows])
        transport.is_away = False
        assert [float(value) for value in metrics.compute().values()] == [whole(client)] * 2


def test_a_forked_child_leaves_its_parents_batches_alone(client: LossClient, transport: Flaky) -> None:
    metric = RemoteBCE(client, on_error="warn")
    transport.is_away = True
    with away():
        updated(metric, BATCHES[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking with threads
        child = os.fork()
    if not child:
        try:
            transport.is_away = False
            done = math.isfinite(float(metric.compute()))
        finally:
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    transport.is_away = False
    updated(metric, BATCHES[2:])
    assert float(metric.compute()) == whole(client)
