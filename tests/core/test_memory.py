"""Scoring takes the memory of a few blocks, however large the request."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
import numpy as np
from core.scoring import KERNELS, work

def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)

def peak(loss, tensors, bfloat16=frozenset(), memory=None, **params):
    job = work(loss, tensors, bfloat16, **params)
    open("/proc/self/clear_refs", "w").write("5")  # again, without the copy that the body was made of
    before = status("VmRSS")
    for kernel in KERNELS:
        for index in range(job.work.cut.parts):
            kernel.score(job.work, job.body, 0, index, () if memory is None else (memory,))
    return status("VmHWM") - before

small = {"logits": np.zeros(100), "targets": np.zeros(100), "weight": np.ones(100)}
for variant in ("sigmoid", "exp", "quality"):
    peak("focal", {**small, "mask": np.ones(100, dtype=bool)}, variant=variant, gamma=2.7)
out = {}

n = 1 << 23
x, hard = np.full(n, 0.5, dtype=np.float32), np.ones(n, dtype=bool)
out["8 million: bce"] = peak("bce", {"logits": x, "targets": hard}, reduction="sum")
out["8 million: focal"] = peak("focal", {"logits": x, "targets": hard}, reduction="sum", gamma=2)

n = 3 << 20
x, hard, grid = x[:n], hard[:n], (1536, 2048)
out["quality of probabilities"] = peak(
    "focal", {"probabilities": x, "targets": hard}, reduction="sum", variant="quality")
out["big-endian"] = peak("focal", {"logits": x.byteswap().view(">f4"), "targets": x}, reduction="sum")
out["bfloat16"] = peak(
    "bce", {"logits": np.full(n, 0x3F00, dtype=np.uint16), "targets": hard}, frozenset({"logits"}),
    reduction="sum")
out["fortran, masked, weighted"] = peak(
    "bce",
    {"logits": x.reshape(grid).T, "targets": hard.reshape(grid[::-1]), "mask": hard.reshape(grid).T,
     "weight": np.ones((2048, 1))},
    reduction="sum")
out["a sum a class"] = peak(
    "bce", {"logits": x.reshape(grid), "targets": hard.reshape(grid)}, reduction="sum", axis=0,
    memory=np.ones(64 * 2048))
out["few classes by index"] = peak(
    "bce", {"logits": x.reshape(-1, 16), "targets": np.zeros(n // 16, dtype=np.uint8)},
    targets_format="index")
out["many classes by index"] = peak(
    "bce", {"logits": x.reshape(1, -1), "targets": np.zeros(1, dtype=np.int64)}, targets_format="index")
out["every element"] = peak("bce", {"logits": x, "targets": hard}, reduction="none", memory=np.ones(n))
print(json.dumps(out))
"""
LIMITS = {
    "8 million: bce": 16,
    "8 million: focal": 16,
    # of 3 million; a float32 copy of one would be 12 MiB
    "quality of probabilities": 10,
    "big-endian": 10,
    "bfloat16": 10,
    "fortran, masked, weighted": 10,
    "a sum a class": 10,
    "few classes by index": 10,
    "many classes by index": 10,
    "every element": 10,
}
"""MiB."""


@cache
def peaks() -> dict[str, int]:
    tests = Path(__file__).parents[1]
    path = [str(tests), str(tests.parent / "service")]
    code = f"import sys; sys.path[:0] = {path!r}\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of the peak")
@pytest.mark.parametrize("case", LIMITS)
def test_millions_of_elements_take_a_few_blocks(case: str) -> None:
    assert peaks()[case] < LIMITS[case] << 20
