"""The report as a metric: over batches, over ranks, and without the rows that a sampler pads with."""

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection

from lossd_client import InvalidRequest, LossClient, Report, Request, Response, Timeout
from lossd_client.testing import FakeTransport
from lossd_client.torchmetrics import RemoteBCE, RemoteReport

RANKS = 2
ROWS, CLASSES = 11, 3
CHANCE = torch.Generator().manual_seed(5)
X = 4 * torch.randn(ROWS, CLASSES, generator=CHANCE)
Y = (torch.rand(ROWS, CLASSES, generator=CHANCE) < 0.3).float()
OTHER = 4 * torch.randn(ROWS, CLASSES, generator=CHANCE)
CAMERAS = [f"camera {row % 3}" for row in range(ROWS)]
NAMES = [f"image {row * 7 % ROWS}" for row in range(ROWS)]
EVERYTHING: dict[str, Any] = {"gamma": 2.0, "sweep": {"gamma": [0.0, 1.0]}, "top": 4, "calibration_bins": 8}


class Counting(FakeTransport):
    """The fake, which counts the rows of its requests."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def send(self, request: Request, timeout: Timeout) -> Response:
        response = super().send(request, timeout)
        self.rows.append(json.loads(response.body).get("shape", [0])[0])
        return response


@pytest.fixture
def transport() -> Counting:
    return Counting()


@pytest.fixture
def client(transport: Counting) -> Iterator[LossClient]:
    with LossClient(transport=lambda: transport) as opened:
        yield opened


def sections(report: Report | None) -> str:
    assert report is not None
    return json.dumps({name: value for name, value in report.to_dict().items() if name != "run"})


def batch(rows: list[int] | range) -> dict[str, Any]:
    """Some rows with all that a report may have."""
    at = list(rows)
    return {
        "preds": X[at],
        "target": Y[at],
        "groups": {"camera": [CAMERAS[row] for row in at]},
        "ids": [NAMES[row] for row in at],
        "baseline": OTHER[at],
    }


def whole(client: LossClient, rows: list[int] | range = range(ROWS)) -> Report:
    given = batch(rows)
    return client.report("focal", given.pop("preds"), given.pop("target"), **given, **EVERYTHING)


def test_the_report_of_batches_is_that_of_all_of_them(client: LossClient, transport: Counting) -> None:
    metric = RemoteReport("focal", client, **EVERYTHING)
    for rows in (range(4), range(4, 5), range(5, ROWS)):
        metric.update(**batch(rows))
    assert transport.rows == [4, 1, 6]
    assert sections(metric.compute()) == sections(whole(client))
    report = metric.compute()
    assert report is not None
    assert report.to_dict()["run"]["top_index"] == whole(client).to_dict()["run"]["top_index"]
    metric.reset()
    metric.update(**batch(range(3)))
    assert sections(metric.compute()) == sections(whole(client, range(3)))


def test_rows_without_ids_are_numbered_on(client: LossClient) -> None:
    metric = RemoteReport("bce", client, probabilities=True, row="mean", sections=["top"], normalizer=7)
    p = torch.sigmoid(X)
    for rows in (slice(0, 4), slice(4, ROWS)):
        metric.update(p[rows], Y[rows], weight=torch.ones(CLASSES), mask=(Y >= 0)[rows])
    expected = client.report(
        "bce",
        probabilities=p,
        targets=Y,
        weight=torch.ones(CLASSES),
        mask=Y >= 0,
        row="mean",
        sections="top",
        normalizer=7,
    )
    assert sections(metric.compute()) == sections(expected)


def test_forward_gives_the_batchs_own_report(client: LossClient, transport: Counting) -> None:
    for drops in (False, True):
        metric = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=drops)
        first, second = metric(**batch(range(4))), metric(**batch(range(2, 8) if drops else range(4, 8)))
        assert sections(first) == sections(whole(client, range(4)))
        assert sections(second) == sections(whole(client, range(2, 8) if drops else range(4, 8)))
        assert sections(metric.compute()) == sections(whole(client, range(8)))


def test_rows_that_have_come_before_are_left_out_when_asked(client: LossClient, transport: Counting) -> None:
    metric = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=True)
    metric.update(**batch([0, 1, 2, 1]))
    metric.update(**batch(range(1, 7)))
    metric.update(**batch([2, 3]))  # nothing new
    metric.update(**batch([10, 7, 8, 9, 0]))
    assert transport.rows == [3, 4, 4]
    assert sections(metric.compute()) == sections(whole(client))
    few = RemoteReport("bce", client, sections=["classes"], drop_duplicates=True)
    for rows in (range(6), range(4, ROWS)):
        few.update(X[list(rows)], Y[list(rows)], ids=[NAMES[row] for row in rows])
    assert sections(few.compute()) == sections(client.report("bce", X, Y, sections=["classes"]))
    again = RemoteReport("focal", client, **EVERYTHING)
    with pytest.raises(ValueError, match="ids: rows 1 and 3 are both 'image 7'; ids must be unique"):
        again.update(**batch([0, 1, 2, 1]))
    again.update(**batch([0, 1]))
    again.update(**batch([2, 1]))
    assert json.loads(sections(again.compute()))["totals"]["rows"] == 4
    with pytest.raises(ValueError, match=r"drop_duplicates goes by ids: give update\(\.\.\., ids"):
        metric.update(X, Y)


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([5, -1, 5, 2**62]),
        [2**64 - 1, 0, 2**64 - 1, 2**63],
        ["a", "b", "a", "c"],
    ],
)
def test_ids_of_every_kind(client: LossClient, ids: Any) -> None:  # noqa: ANN401 - a column
    metric = RemoteReport("bce", client, drop_duplicates=True, sections="top")
    metric.update(X[:4], Y[:4], weight=Y[:4] + 1, ids=ids)
    metric.update(X[4:6], Y[4:6], weight=Y[4:6] + 1, ids=ids[:2])
    rows = [0, 1, 3]
    once = ids[rows] if isinstance(ids, torch.Tensor) else [ids[row] for row in rows]
    expected = client.report("bce", X[rows], Y[rows], weight=Y[rows] + 1, ids=once, sections="top")
    assert sections(metric.compute()) == sections(expected)


def test_what_was_added_outlives_a_refused_batch(client: LossClient) -> None:
    for drops in (False, True):
        metric = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=drops)
        metric.update(**batch(range(4)))
        for way in (metric.update, metric):
            with pytest.raises(InvalidRequest, match="target_out_of_range"):
                way(**{**batch(range(4, 8)), "target": Y[4:8] + 1})
            assert sections(metric.compute()) == sections(whole(client, range(4)))
        metric.update(**batch(range(4, ROWS)))
        assert sections(metric.compute()) == sections(whole(client))


def test_notes_are_warnings_once(client: LossClient) -> None:
    metric = RemoteReport("bce", client, sections="top")
    with pytest.warns(UserWarning, match=r"weight of shape \[3\] goes along axis 1") as told:
        metric.update(X[:3], Y[:3], weight=torch.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(X[:3], Y[:3], weight=torch.ones(3))
    assert len(told) == 1
    assert told[0].filename == __file__


def test_reports_of_metrics_are_merged(client: LossClient) -> None:
    for drops in (False, True):
        first, second, other = (
            RemoteReport("focal", client, **EVERYTHING, drop_duplicates=drops) for _ in range(3)
        )
        first.update(**batch(range(4)))
        second.update(**batch(range(4, 7)))
        second.update(**batch(range(7, ROWS)))
        first.merge_state(second)
        assert sections(first.compute()) == sections(whole(client))
        other.update(**batch([3]))
        if drops:
            with pytest.raises(ValueError, match="1 rows were scored more than once"):
                first.merge_state(other)
            first.update(**batch([5]))
            assert sections(first.compute()) == sections(whole(client))
    unlike = RemoteReport("focal", client, **{**EVERYTHING, "gamma": 1.0})
    unlike.update(**batch(range(4)))
    with pytest.raises(ValueError, match=r"reports of different totals\.params cannot be merged"):
        first.merge_state(unlike)
    with pytest.raises(TypeError, match="only a RemoteReport"):
        first.merge_state(RemoteBCE(client))


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), deepcopy, lambda m: m.clone()])
def test_copies_go_their_own_way(copied: Callable[[RemoteReport], RemoteReport]) -> None:
    with LossClient(transport=FakeTransport) as client:
        metric = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=True)
        metric.update(**batch(range(4)))
        copy = copied(metric)
        with copy.client:
            copy.update(**batch(range(3, ROWS)))
            assert sections(copy.compute()) == sections(whole(client))
        assert sections(metric.compute()) == sections(whole(client, range(4)))


def test_states_are_saved_and_stay_bytes(client: LossClient) -> None:
    metric = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=True)
    metric.persistent(True)
    metric.update(**batch(range(4)))
    metric.half()
    assert (metric.report_last.dtype, metric.report_last_ids.dtype) == (torch.uint8, torch.int64)
    other = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=True)
    other.load_state_dict(metric.state_dict())
    other.update(**batch(range(2, ROWS)))
    assert sections(other.compute()) == sections(whole(client))


def test_a_collection_shares_the_requests_of_equal_reports(client: LossClient, transport: Counting) -> None:
    metrics = MetricCollection(
        {
            "a": RemoteReport("focal", client, **EVERYTHING),
            "b": RemoteReport("focal", client, **EVERYTHING),
            "c": RemoteReport("focal", client, **{**EVERYTHING, "top": 3}),
            "d": RemoteReport("focal", client, **EVERYTHING, drop_duplicates=True),
        }
    )
    metrics.update(**batch(range(4)))
    assert len(metrics.compute_groups) == 3
    metrics.update(**batch(range(4, ROWS)))
    assert len(transport.rows) == 4 + 3
    got = metrics.compute()
    for name in ("a", "b", "d"):
        assert sections(got[name]) == sections(whole(client))


def test_mistakes_are_told_at_once(client: LossClient) -> None:
    with pytest.raises(TypeError, match="not both"):
        RemoteReport("bce", client, base_url="http://127.0.0.1:1")
    with pytest.raises(TypeError, match="bce: no parameter 'gamma'"):
        RemoteReport("bce", client, gamma=2.0)
    with pytest.raises(TypeError, match="there is no loss 'dicey'"):
        RemoteReport("dicey", client)  # type: ignore[arg-type] # as it says
    with pytest.raises(ValueError, match="sections: there is no 'clases'"):
        RemoteReport("bce", client, sections="clases")  # type: ignore[arg-type] # as it says
    with (
        pytest.warns(UserWarning, match="before the ``update`` method"),
        pytest.raises(ValueError, match="no batch"),
    ):
        RemoteReport("bce", client).compute()


RANK = """
import json
import sys
from torch import distributed
from torchmetrics import MetricCollection
from client.test_remote_report import DEALS, EVERYTHING, RANKS, Counting, batch, sections
from lossd_client import LossClient
from lossd_client.torchmetrics import RemoteReport

rank, meeting = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
found = []
for drops, deal, _ in DEALS:
    transport = Counting()
    with LossClient(transport=lambda: transport) as client:
        metrics = MetricCollection([RemoteReport("focal", client, **EVERYTHING, drop_duplicates=drops)])
        for rows in deal[rank]:
            metrics.update(**batch(rows))
        try:
            got = sections(metrics.compute()["RemoteReport"])
            metrics["RemoteReport"]._computed = None  # its own states are there again
            found.append([got == sections(metrics.compute()["RemoteReport"]), transport.rows, got])
        except ValueError as error:
            found.append(str(error))
print(json.dumps(found))
distributed.destroy_process_group()
"""
Deal = tuple[bool, list[list[list[int]]], list[list[int]] | None]
DEALS: list[Deal] = [
    # Whether duplicates are dropped; the rows of each batch of each rank; how many rows each rank sends.
    (False, [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9]]], [[3, 3], [3, 2]]),
    (False, [[[*range(ROWS)]], []], [[11], []]),
    (False, [[], [[5, 6, 7], [*range(5)], [8, 9, 10]]], [[], [3, 5, 3]]),
    # Twelve places for eleven rows: the sampler begins again.
    (True, [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 0]]], [[3, 3], [3, 3, 2]]),
    # A batch that is padding alone.
    (True, [[[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9, 10], [0, 1, 2]]], [[4, 4], [3, 3]]),
    # Last batches that have rows in common.
    (True, [[[0, 1, 2, 3, 4, 5]], [[5, 4, 6, 7, 8, 9, 10, 3]]], [[6], [8, 5]]),
    # The earlier rank's last batch has a row that the later one has before its last.
    (True, [[[0, 1, 2, 3], [8, 4, 5]], [[6, 7, 8], [9, 10]]], [[4, 3, 2], [3, 2]]),
    # A row that both have before their last batches.
    (True, [[[0, 1], [2]], [[1, 3], [4]]], None),
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What each rank says of each of DEALS."""
    meeting = tmp_path_factory.mktemp("ranks") / "meeting"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(meeting)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        said = [rank.communicate(timeout=110) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, (_, err) in zip(ranks, said, strict=True):
        assert rank.returncode == 0, err
    return [json.loads(out) for out, _ in said]


@pytest.mark.parametrize("number", range(len(DEALS)))
def test_ranks_have_the_report_of_all_rows_once(
    client: LossClient, said: list[list[Any]], number: int
) -> None:
    _, _, sent = DEALS[number]
    for rank in range(RANKS):
        if sent is None:
            assert said[rank][number].startswith("1 rows were scored more than once")
            continue
        same_again, rows, report = said[rank][number]
        assert same_again
        assert rows == sent[rank]
        assert report == sections(whole(client))


def test_a_server_makes_the_report_of_a_metric(base_url: str) -> None:
    with LossClient(base_url) as client:
        metric = RemoteReport("focal", client, **EVERYTHING, drop_duplicates=True)
        for rows in (range(4), range(2, 9), range(7, ROWS)):
            metric.update(**batch(rows))
        assert sections(metric.compute()) == sections(whole(client))
