"""What counts as a server that is away, how often it is asked again, and what is said of it."""

import copy
import gc
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection

from client.playback import SCALAR, Answer, Playback
from lossd_client import BadAnswer, LossClient, NotFound, Request, Response, TimedOut, Timeout
from lossd_client._deferred import Outbox, Room
from lossd_client.testing import FakeTransport
from lossd_client.torchmetrics import RemoteBCE, RemoteFocal, RemoteReport

X = torch.linspace(-2, 2, 6).reshape(2, 3)
Y = (X > 0.3).float()
PAGE = Answer(b"<html>hello", "text/html")
SUMS = {**SCALAR, "loss": 6.0, "sum": 6.0, "sum_terms": [6.0], "count": 6, "weight_sum": 6.0}


class Hung(FakeTransport):
    """The fake, which answers nothing while it hangs."""

    def __init__(self) -> None:
        self.hangs = False
        self.asked = 0

    def send(self, request: Request, timeout: Timeout) -> Response:
        self.asked += 1
        if self.hangs:
            time.sleep(1.05)
            raise TimedOut("no answer within 1.05 s")
        return super().send(request, timeout)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No folder for temporary files."""
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/nonexistent")
        yield


def told_by(told: list[warnings.WarningMessage]) -> set[str]:
    return {each.filename for each in told}


@pytest.mark.waits
def test_a_server_that_hangs_costs_one_timeout_for_all() -> None:
    transport = Hung()
    with LossClient(transport=lambda: transport, retry=None) as client:
        metrics = MetricCollection(
            {str(gamma): RemoteFocal(client, gamma=gamma, on_error="warn") for gamma in range(3)}
        )
        metrics.update(X, Y)
        transport.hangs, transport.asked = True, 0
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            metrics.update(X, Y)
            assert all(map(torch.isnan, metrics.compute().values()))
            metrics.compute()
        assert transport.asked == 1
    assert sum("the server is away since" in str(each.message) for each in told) == 1


def test_throttled_requests_are_called_so(playback: Playback) -> None:
    playback.answers = [replace(Answer.of_problem(429, "rate_limited"), headers={"Retry-After": "1"})]
    playback.answer = Answer.of_json(SUMS)
    with LossClient(playback.url, retry=None) as client:
        metric = RemoteBCE(client, on_error="warn")
        with pytest.warns(UserWarning, match="requests are throttled since .* batches are kept .*429"):
            metric.update(X, Y)
        with pytest.warns(UserWarning, match="1 batches are missing"):
            metric.compute()
        assert len(playback.arrivals) == 1  # it said when to come again
        time.sleep(1.05)
        assert float(metric.compute()) == 1.0


@pytest.mark.parametrize("answer", [PAGE, replace(PAGE, status=404)], ids=["200", "404"])
def test_a_wrong_address_is_a_mistake_until_the_server_has_answered(
    playback: Playback, answer: Answer
) -> None:
    playback.answer = answer
    with LossClient(playback.url, retry=None) as client:
        metric = RemoteBCE(client, on_error="warn")
        with pytest.raises((BadAnswer, NotFound)):
            metric.update(X, Y)
        playback.answers = [Answer.of_json(SUMS)]
        metric.update(X, Y)
        with pytest.warns(UserWarning, match="the server is away since"):  # a proxy's page
            metric.update(X, Y)
        playback.answer = Answer.of_json(SUMS)
        assert float(metric.compute()) == 1.0
        assert int(metric.bce_sum) == 12


def test_a_batch_that_met_a_wrong_server_stays(playback: Playback) -> None:
    playback.answers = [Answer(b"", hangs_up=True), PAGE]
    playback.answer = Answer.of_json(SUMS)
    with LossClient(playback.url, retry=None) as client:
        metric = RemoteBCE(client, on_error="warn")
        with pytest.warns(UserWarning, match="away"):
            metric.update(X, Y)
        with pytest.warns(UserWarning, match="missing"), pytest.raises(BadAnswer, match="is base_url"):
            metric.compute()
        assert float(metric.compute()) == 1.0


def test_warnings_name_the_users_line(playback: Playback) -> None:
    playback.answer = Answer(b"", hangs_up=True)
    for way in ("update", "forward"):
        for build in (RemoteBCE, lambda client, **more: RemoteReport("bce", client, **more)):
            with LossClient(playback.url, retry=None) as client, warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                metric: Any = build(client, on_error="warn", keep_bytes=10)
                getattr(metric, way)(X, Y)
                MetricCollection([metric]).compute()
            assert len(told) >= 3
            assert told_by(told) == {__file__}
    playback.answer = Answer.of_json({**SUMS, "notes": ["mind the gap"]})
    with LossClient(playback.url, retry=None) as client, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        MetricCollection([RemoteBCE(client)]).update(X, Y)
    assert [str(each.message) for each in told] == ["mind the gap"]
    assert told_by(told) == {__file__}


@pytest.mark.parametrize(
    ("keep_bytes", "error"), [("1G", TypeError), (1.5, TypeError), (None, TypeError), (-1, ValueError)]
)
@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_keep_bytes_is_a_number_of_bytes(keep_bytes: Any, error: type[Exception], on_error: Any) -> None:  # noqa: ANN401
    with pytest.raises(error, match="keep_bytes"):
        RemoteBCE(base_url="http://127.0.0.1:1", on_error=on_error, keep_bytes=keep_bytes)


@pytest.mark.usefixtures("nowhere")
def test_the_warning_of_a_lost_batch_has_the_disks_error() -> None:
    with LossClient("http://127.0.0.1:1", retry=None) as client:
        outbox = Outbox(client, Room())
        outbox._put(1, None, bytes(20 << 20))
        with pytest.warns(UserWarning, match=r"a batch is lost, 1 by now: .*nonexistent.*TMPDIR") as told:
            outbox._put(1, None, bytes(20 << 20))
        gc.collect()
    assert "keep_bytes" not in str(told[0].message)
    assert len(told) == 1


def test_a_copy_without_a_disk_counts_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with LossClient("http://127.0.0.1:1", retry=None) as client:
        outbox = Outbox(client, Room(keep_bytes=45 << 20))
        outbox._put(1, None, bytes(20 << 20))
        outbox._put(1, None, bytes(20 << 20))  # in a file
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", "/nonexistent")
            copied = copy.deepcopy(outbox)
        assert len(copied) == 2
        copied.cut(0)
        with pytest.warns(UserWarning, match="give keep_bytes more"):
            copied._put(1, None, bytes(46 << 20))
        assert len(copied) == 0
        copied._client.close()
