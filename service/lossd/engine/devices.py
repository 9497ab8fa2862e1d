"""Which devices there are to compute on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_COUNT = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


def resolve(names: Sequence[str]) -> list[str]:
    """The devices that ``names`` mean: themselves, or for ``auto`` every CUDA device, else the CPU."""
    if list(names) != ["auto"]:
        return list(names)
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return ["cpu"]  # without asking torch, which takes seconds
    # In a process of its own: this one must not import torch, nor open the device.
    answer = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False)  # noqa: S603
    count = int(answer.stdout) if answer.returncode == 0 else 0
    return [f"cuda:{i}" for i in range(count)] or ["cpu"]
