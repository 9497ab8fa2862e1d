from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import tensorboardX
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from lossd_client import Comparison, LossClient, Report
from lossd_client.loggers import log

Opened: TypeAlias = Callable[[str], Any]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorBoard's own
    pytest.mark.parametrize(
        "opened", [SummaryWriter, tensorboardX.SummaryWriter], ids=["torch", "tensorboardX"]
    ),
]


def logged(
    opened: Opened, folder: Path, what: object, step: int | None = None, prefix: str = "lossd"
) -> EventAccumulator:
    writer = opened(str(folder))
    log(what, to=writer, step=step, prefix=prefix)
    writer.close()
    return read(folder)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"tensors": 0, "scalars": 0, "histograms": 0}).Reload()


def last(events: EventAccumulator, name: str) -> float:
    return float(events.Scalars(name)[-1].value)


def text(events: EventAccumulator, name: str) -> str:
    found: bytes = events.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0]
    return found.decode()


def test_scalars_are_the_reports_in_float32(opened: Opened, tmp_path: Path, report: Report) -> None:
    events = logged(opened, tmp_path, report, step=7)
    low, high = report.interval()
    figures = {"mean": report.mean, "low": low, "high": high, "stderr": report.stderr}
    figures |= {f"class/{i}/mean": each.mean for i, each in enumerate(report.classes)}
    figures |= {"group/rear_left/mean": report.groups["rear_left"].mean}
    figures |= {"group/käse/mean": report.groups["käse"].mean}
    figures |= {"calibration/brier": report.calibration.brier, "paired/difference": report.paired.mean}
    for name, figure in figures.items():
        (event,) = events.Scalars(f"lossd/{name}")
        assert (event.step, event.value) == (7, np.float32(figure))
    means = [name for name in events.Tags()["scalars"] if name.startswith("lossd/group/")]
    assert sorted(last(events, name) for name in means) == sorted(
        np.float32(each.mean) for each in report.groups.values()
    )


def test_tables_are_text_with_all_digits(opened: Opened, tmp_path: Path, report: Report) -> None:
    events = logged(opened, tmp_path, report)
    head, line, *rows = text(events, "lossd/top_rows").splitlines()
    assert head == "| index | id | loss |"
    assert line == "| --- | --- | --- |"
    assert rows == [f"| {each.index} | {each.id} | {each.loss!r} |" for each in report.top_rows]
    assert "| gamma | 2.0 |" in text(events, "lossd/parameters")
    assert "| group | ../x:y |" in text(events, "lossd/means")


def test_long_tables_are_cut_and_say_so(opened: Opened, tmp_path: Path, client: LossClient) -> None:
    x = np.random.default_rng(0).normal(size=150)
    found = client.report("bce", x, x > 0, ids=[f"a|b\n{i}" for i in range(150)], top=150)
    rows = text(logged(opened, tmp_path, found), "lossd/top_rows").splitlines()
    assert len(rows) == 2 + 100 + 2
    assert rows[2].count("a\\|b ") == 1
    assert rows[-1] == "50 more rows are in the file."
    assert (tmp_path / "lossd/top_rows.csv").read_text().count("a|b") == 150


def test_histograms_have_the_reports_counts(opened: Opened, tmp_path: Path, report: Report) -> None:
    events = logged(opened, tmp_path, report)
    for name, histogram in (("losses", report.element_histogram), ("row_losses", report.row_histogram)):
        found = events.Histograms(f"lossd/{name}")[-1].histogram_value
        counts = {
            limit: count for limit, count in zip(found.bucket_limit, found.bucket, strict=True) if count
        }
        assert counts == {greatest: count for _, greatest, count in histogram.bins}
        assert found.num == histogram.count
        assert found.min == histogram.bins[0][0]
    assert found.sum == pytest.approx(report.sum, rel=1 / 32)


def test_zeros_are_in_the_histogram(opened: Opened, tmp_path: Path, client: LossClient) -> None:
    found = client.report("bce", [1000.0, 1000.0, 0.0], [1, 1, 1])
    histogram = logged(opened, tmp_path, found).Histograms("lossd/losses")[-1].histogram_value
    assert (histogram.min, histogram.bucket_limit[0], histogram.bucket[0], histogram.num) == (0, 0, 2, 3)


def test_reports_files_lie_beside_the_events(opened: Opened, tmp_path: Path, report: Report) -> None:
    logged(opened, tmp_path / "run", report, prefix="val/x")
    logged(opened, tmp_path / "run", report, prefix="val/x", step=3)
    assert Report.load(tmp_path / "run/val/x/report.json") == report
    loaded = Report.load(tmp_path / "run/val/x/step-3/report.json")
    assert (loaded, loaded.run) == (report, report.run)


def test_numbers_that_are_not_finite(opened: Opened, tmp_path: Path, undefined: Report) -> None:
    events = logged(opened, tmp_path, undefined)
    assert math.isnan(last(events, "lossd/mean"))
    assert last(events, "lossd/group/1/mean") == math.inf
    assert "| Infinity |" in text(events, "lossd/top_rows")
    assert Report.load(tmp_path / "lossd/report.json") == undefined
    assert events.Histograms("lossd/losses")[-1].histogram_value.num == 2


def test_no_losses_at_all(opened: Opened, tmp_path: Path, client: LossClient) -> None:
    zeros = np.zeros((2, 2))
    found = client.report("bce", zeros, zeros, mask=zeros.astype(bool), normalizer=1.0)
    events = logged(opened, tmp_path, found)
    assert (last(events, "lossd/mean"), last(events, "lossd/count")) == (0, 0)
    assert math.isnan(last(events, "lossd/calibration/brier"))
    assert events.Tags()["histograms"] == []


def test_a_comparison_has_its_verdict(opened: Opened, tmp_path: Path, comparison: Comparison) -> None:
    events = logged(opened, tmp_path, comparison, step=2)
    assert last(events, "lossd/comparison/difference") == np.float32(comparison.whole.difference)
    group = comparison.groups["rear_left"]
    assert last(events, "lossd/comparison/group/rear_left/low") == np.float32(group.interval[0])
    assert "| verdict | regressed |" in text(events, "lossd/parameters")
    assert len(text(events, "lossd/changes").splitlines()) == 2 + 1 + 5
    saved = json.loads((tmp_path / "lossd/step-2/comparison.json").read_text())
    assert saved == comparison.to_dict()
