"""The blocks of docs/how-to/recipes.md, run one after the other as they stand, but for the address."""

from __future__ import annotations

import subprocess
import sys

from contract.test_readme import ADDRESS, examples


def test_the_recipes(base_url: str) -> None:
    blocks = examples("python", "docs/how-to/recipes.md")
    assert len(blocks) >= 8
    code = "\n".join(blocks).replace(ADDRESS, base_url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    mean, positives = map(float, done.stdout.splitlines()[1].split())
    assert abs(positives / mean / 16_800 - 1) < 1e-12
