"""The examples of batches: they run, and say what one machine says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engines.shards import write_shards
from lossd.batch import Scorer

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("example", "argument"), [("batch_duckdb.py", "*.parquet"), ("batch_polars.py", "")])
def test_an_example_says_what_one_machine_says(tmp_path: Path, example: str, argument: str) -> None:
    table = write_shards(tmp_path)
    scorer = Scorer("focal", gamma=2.0, sections="classes", by="camera")
    if example == "batch_duckdb.py":  # whose query names no weight
        table = table.drop_columns("weight")
    whole = scorer.score(table)
    assert whole.report is not None
    done = subprocess.run(
        [sys.executable, EXAMPLES / example, str(tmp_path / argument)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [f"{float(whole.result)} {table.num_rows}"]
    lines += [f"{camera} {group.mean}" for camera, group in whole.report.groups.items()]
    assert done.stdout.splitlines() == lines
