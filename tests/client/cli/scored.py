"""Runs `lossd score` against a real server, and what it should give, by numpy's own formulas."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typer.testing import CliRunner, Result

from command import app


def run(base_url: str, *args: object, given: bytes | None = None) -> Result:
    """Run it; `given` is its standard input."""
    return CliRunner().invoke(app, ["score", *map(str, args), "--url", base_url], input=given)


def answer(base_url: str, *args: object, given: bytes | None = None) -> dict[str, Any]:
    """Give the answer of one that succeeds."""
    done = run(base_url, *args, "--json", given=given)
    assert (done.exit_code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(base_url: str, *args: object, given: bytes | None = None) -> str:
    """Give the message of one that is refused before anything is computed, on one line."""
    done = run(base_url, *args, given=given)
    assert (done.exit_code, done.stdout) == (2, "")
    return " ".join(done.stderr.replace("│", " ").split())


def bce(logits: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Binary cross entropy, each element's."""
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    losses: NDArray[np.float64] = y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    return losses
