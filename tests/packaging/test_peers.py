"""The tables of the benchmark beside peers, from figures that are given."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.peers import catalog, report
from bench.peers.figures import STREAM, Cell, Round, Run, Sample, ratios
from bench.peers.payloads import LARGE, SMALL, elements, expected, numbers, payload

SAMPLE = Sample(rate=100.0, elements=1e6, p50=2.0, p99=5.0, cpu=0.5, memory=3 << 20)
LOSSD, LIMIT = catalog.LOSSD.name, catalog.LIMIT


def one_round(rate: float) -> Round:
    cells = {
        Cell(LOSSD, "npy", SMALL, 16): replace(SAMPLE, rate=rate),
        Cell(LOSSD, "npy", SMALL, 64): replace(SAMPLE, p50=2.0, p99=rate / 10),
        Cell(LIMIT, "npy", SMALL, 16): SAMPLE,
        Cell(catalog.LITSERVE, "json", SMALL, 16): replace(SAMPLE, rate=1.0),
        Cell(catalog.LITSERVE, "npy", SMALL, 16): replace(SAMPLE, rate=2.0),
        Cell(LOSSD, "npy", LARGE, 1): replace(SAMPLE, rate=4.0),
        Cell(LOSSD, "arrow", STREAM, 1): replace(SAMPLE, rate=0.5, growth=65 << 20),
    }
    limits = {
        "loopback": {"seconds": 0.1, "cpu": 0.1, "bytes": 2e8},
        "core eager": {"seconds": 0.2, "cpu": 0.2},
    }
    client = {"sent_binary": 5.0, "sent_soft": 8.0, "rate_binary": 3.0, "rate_soft": 2.0}
    return Round(cells, limits, client)


@pytest.fixture
def run() -> Run:
    rounds = [one_round(rate) for rate in (40.0, 80.0, 60.0)]
    return Run({"cores": "2"}, 2, rounds, {catalog.MLSERVER: "not installed: no | wheel"})


def row(run: Run, words: str) -> tuple[float, float, float, str]:
    (found,) = [one for one in ratios(run) if one.what.startswith(f"{LOSSD}: {words}")]
    assert found.reached is not None
    return (*found.reached, found.verdict)


def test_a_ratio_is_of_each_round_and_its_median_decides(run: Run) -> None:
    words = "32x80 npy, 16 connections, against uvicorn"
    assert row(run, words) == (0.6, 0.4, 0.8, "yes")
    run.rounds = run.rounds[:1]
    assert row(run, words) == (0.4, 0.4, 0.4, "no")


def test_a_peer_counts_in_the_form_in_which_it_is_fastest(run: Run) -> None:
    assert row(run, "the same against LitServe (npy)") == (30.0, 20.0, 40.0, "yes")


def test_what_is_asked_at_most_is_no_when_it_is_more(run: Run) -> None:
    assert row(run, "32x80 npy, 64 connections") == (3.0, 2.0, 4.0, "yes")
    assert row(run, "memory for the Arrow stream") == (65.0, 65.0, 65.0, "no")


def test_the_limit_of_the_cores_is_cpu_time_over_cores_by_the_time_taken(run: Run) -> None:
    assert row(run, "168 MB npy")[0] == pytest.approx((0.1 + 0.2) / 2 / 0.25)
    assert row(run, "Arrow stream of 2 GB")[0] == pytest.approx((0.1 + 0.2) * 10 / 2 / 2.0)


def test_the_client_is_compared_by_bytes_and_by_rate(run: Run) -> None:
    sent, rate = ratios(run)[-2:]
    assert (sent.verdict, rate.verdict) == ("yes", "yes")
    assert sent.reached is not None
    assert sent.reached.median == 0.625


def test_what_was_not_measured_says_so(run: Run) -> None:
    rows = {what: (reached, verdict) for what, _, reached, verdict in report.ratio_rows(ratios(run))}
    assert rows[f"{LOSSD}: the same v2 binary bytes against PyTriton"] == ("not measured", "not measured")
    assert "| MLServer | not measured: not installed: no \\| wheel |" in report.markdown(run, [])


def test_a_run_of_no_rounds_has_tables(run: Run) -> None:
    empty = Run(run.machine, 2)
    assert {one.verdict for one in ratios(empty)} == {"not measured"}
    assert "### Ratios" in report.markdown(empty, [])


def test_figures_show_the_median_and_the_most_memory(run: Run) -> None:
    (found,) = [one for one in report.cell_rows(run) if one[:4] == (LOSSD, "npy", SMALL, "16")]
    assert found[4:] == ("60 (40 to 80)", "2", "5", "1,000,000", "0.5", "3", "0")


def test_a_run_is_read_back_as_it_was_saved(run: Run, tmp_path: Path) -> None:
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = report.put("# Page\n", "one")
    assert page == f"# Page\n\n## Beside peers\n\n{report.BEGIN}\none\n{report.END}\n"
    assert report.put(page + "after\n", "two") == page.replace("one", "two") + "after\n"
    with pytest.raises(ValueError, match="needs"):
        report.put(f"{report.END} {report.BEGIN}", "three")


def test_payloads_hold_the_numbers_whose_mean_is_expected() -> None:
    x, y = numbers(SMALL)
    file = io.BytesIO(payload("npy-bool", SMALL).data)
    np.testing.assert_array_equal(np.load(file), x)
    np.testing.assert_array_equal(np.load(file), y.astype(bool))
    assert payload("v2", SMALL).data.endswith(x.tobytes() + y.tobytes())
    assert elements(SMALL) == x.size
    p = 1 / (1 + np.exp(-x.astype(float)))
    assert expected(SMALL) == pytest.approx(float(-np.log(np.where(y == 1, p, 1 - p)).mean()))


def test_every_peer_has_its_requirements_pinned_and_none_is_a_cuda_torch() -> None:
    for name in {server.environment for server in catalog.SERVERS if server.environment} | {"plots"}:
        lines = (catalog.REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)
        assert not [line for line in lines if line.startswith(("nvidia-cu", "triton=="))]
