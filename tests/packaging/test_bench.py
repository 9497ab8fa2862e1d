"""The benchmarks' payloads, tables and requirements; what they measure takes too long here."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bench.table
from bench.loads import by_hand
from bench.payloads import SMALL, expected, numbers, payload
from bench.peers.__main__ import PEERS, REQUIREMENTS
from bench.reports import Costs, batches, columns, stream
from bench.rivals import RIVALS
from bench.server import client_head
from bench.servers import lossd
from bench.table import PAGE, Figure, options, table, tell
from lossd.core.catalog import LOSSES
from lossd_client import LossClient
from lossd_client.testing import FakeTransport


def test_a_figure_is_its_median_and_its_spread() -> None:
    assert Figure("speed", [1.0, 2.0, 9.0]).row() == ("speed", "2", "1 to 9")
    assert Figure("rate", [1234.5]).row() == ("rate", "1,234", "1,234 to 1,234")
    assert Figure("wait").row() == ("wait", "not measured", "")


def test_a_commands_tables_take_the_place_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- one -->\nold\n<!-- end -->\n\n<!-- two -->\nkept\n<!-- end -->\n")
    monkeypatch.setattr(bench.table, "PAGE", page)
    given = options("one", None, rounds=3).parse_args(["--write"])
    tell("one", given, table(("a", "bb"), [("1", "2")]))
    text = page.read_text()
    assert "| a | bb |\n| - | -- |\n| 1 | 2  |\n<!-- end -->" in text
    assert "old" not in text
    assert text.endswith("<!-- two -->\nkept\n<!-- end -->\n")
    with pytest.raises(ValueError, match="0 places for three"):
        tell("three", given)


@pytest.mark.parametrize(
    "command",
    [
        "attacks",
        "bench-batch",
        "bench-compare",
        "bench-core",
        "bench-engines",
        "bench-ray-serve",
        "bench-server",
        "bench-neighbour",
        "bench-backlog",
        "bench-formats",
        "bench-peers",
        "bench-reports",
    ],
)
def test_the_page_has_a_place_for_each_command(command: str) -> None:
    assert PAGE.read_text().count(f"<!-- {command} -->\n") == 1


def test_payloads_hold_the_numbers_whose_mean_is_expected() -> None:
    x, y = numbers(SMALL)
    file = io.BytesIO(payload("npy-bool", SMALL).data)
    np.testing.assert_array_equal(np.load(file), x)
    np.testing.assert_array_equal(np.load(file), y.astype(bool))
    assert payload("v2", SMALL).data.endswith(x.tobytes() + y.tobytes())
    p = 1 / (1 + np.exp(-x.astype(float)))
    assert expected(SMALL) == pytest.approx(float(-np.log(np.where(y == 1, p, 1 - p)).mean()))


def test_the_clients_head_is_told_from_what_is_other_in_each_request() -> None:
    path, headers = client_head()
    assert path.startswith("/bce?")
    assert headers["Content-Type"] == "application/x-npy"
    fresh = [name.lower() for name, value in headers.items() if value == "*"]
    assert fresh == ["x-request-id"]


def test_every_peer_has_its_requirements_pinned_and_none_is_a_cuda_torch() -> None:
    for name in {peer.environment for peer in PEERS}:
        lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)
        assert not [line for line in lines if line.startswith(("nvidia-cu", "triton=="))]


def test_the_measured_server_answers() -> None:
    with lossd(settings={"LOSSD_DEVICE": "cpu"}) as running:
        assert by_hand(running.port, "/bce", payload("npy", SMALL), times=3).requests == 3


def test_a_reports_cost_is_told_beside_the_request_without() -> None:
    costs = Costs((4096, 80), "float32")
    for figure, found in ((costs.plain["bce"], [4.0, 5.0]), (costs.ratios["bce", "all"], [2.0, 3.0, 2.5])):
        figure.found += found
    told = dict(zip(columns(), costs.row(), strict=True))
    assert told["npy logits and targets"] == "4,096x80 float32"
    assert told["bce: ns an element"] == "4.5"
    assert costs.row()[3] == "2.5 (2 to 3)"


def test_a_stream_of_batches_is_one_report() -> None:
    with lossd(settings={"LOSSD_DEVICE": "cpu"}) as running:
        report = json.loads(stream(running, "/focal?report=groups,top&top=3", batches(10, 4)))["report"]
    assert report["totals"]["rows"] == 40
    assert report["groups"]["names"] == ["camera", "place"]
    assert sum(report["groups"]["rows"]) == 40
    assert report["top"]["ids"] == "string"
    worst = [int(row["id"]) % 10 for row in report["top"]["rows"]]
    assert len(set(worst)) == 1  # the same row of each batch


def test_every_loss_has_a_rival_in_torch() -> None:
    assert set(LOSSES) - set(RIVALS) == set(), "losses that bench/rivals.py does not have"
    assert set(RIVALS) - set(LOSSES) == set()


@pytest.mark.parametrize("loss", RIVALS)
def test_a_rival_is_the_same_loss(loss: str) -> None:
    rival = RIVALS[loss]
    given = rival.make({2: (30, 4), 3: (5, 6, 7)}.get(len(rival.shapes[0]), (40,)))
    kind = next(name for name in given.tensors if name != "targets")
    tensors = {kind: given.inputs.numpy(), "targets": given.targets.numpy()}
    with LossClient(transport=FakeTransport) as client:
        expected = float(getattr(client, loss)(**tensors, **rival.params))
    formula = rival.formula(given.inputs.double(), given.targets if rival.params else given.targets.double())
    assert formula.item() == pytest.approx(expected, rel=1e-7)
    assert rival.mean(given) == pytest.approx(expected, rel=1e-4)
    assert given.inputs.dtype == torch.float32
