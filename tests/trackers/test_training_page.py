"""docs/how-to/training.md: its blocks run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/training.md").read_text()
LEFT = {"MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"}
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_has_blocks_for_each_section() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 3


@pytest.mark.parametrize("place", range(3), ids=["tracker", "lightning", "keras"])
def test_a_block_runs(place: int, base_url: str, tmp_path: Path) -> None:
    block = BLOCKS[place].replace("http://127.0.0.1:8000", base_url)
    # mlflow leaves the experiment of other tests in this process's environment.
    fresh = {name: value for name, value in os.environ.items() if name not in LEFT}
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=fresh, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"  # (.+)$", block, re.MULTILINE)
    assert [line for line in done.stdout.splitlines() if line in shown] == shown
