"""Which devices there are to compute on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CUDA_THREADS = 128
"""A CUDA device has slices as if it were so many threads: each of its operations costs a launch."""
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


@cache
def torch_version() -> str:
    """The version of torch that is installed; empty if there is none."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def slice_elements(devices: Sequence[str], threads: int, each: int) -> int:
    """How many elements a slice has at most: one length for all, since any worker may have any slice.

    Args:
        devices: The workers' devices.
        threads: How many threads each worker on a CPU has.
        each: How many elements for each thread.
    """
    on_cpu = any(device.startswith("cpu") for device in devices)
    return each * (threads if on_cpu else _CUDA_THREADS)
