"""The devices to compute on, and how long slices for them are."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

logger = logging.getLogger(__name__)

_CUDA_THREADS = 128
"""Slices of a CUDA device are as long as for so many threads, since each of its operations costs a launch."""
_COUNT = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


def resolve(names: Sequence[str], files: Path = Path("/dev")) -> list[str]:
    """Return the named devices; for ``auto`` every CUDA device, or the CPU if there is none.

    Args:
        names: The names, or ``auto`` alone.
        files: The folder of the machine's device files.
    """
    if list(names) != ["auto"]:
        return list(names)
    if not any(files.glob("nvidia[0-9]*")):
        return ["cpu"]  # torch need not be asked, which takes seconds
    if not torch_version():
        logger.warning("this machine's GPU is not used, which needs torch: pip install 'lossd[server]'")
        return ["cpu"]
    # In another process: this one must not import torch, nor open the device.
    answer = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False)  # noqa: S603
    count = int(answer.stdout) if answer.returncode == 0 else 0
    return [f"cuda:{i}" for i in range(count)] or ["cpu"]


@cache
def torch_version() -> str:
    """Return the installed version of torch; empty if there is none."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def slice_elements(devices: Sequence[str], threads: int, each: int) -> int:
    """Return the most elements of a slice: one length for all workers, since any may get any slice.

    Args:
        devices: The workers' devices.
        threads: Threads of each worker on a CPU.
        each: Elements for each thread.
    """
    on_cpu = any(device.startswith("cpu") for device in devices)
    return each * (threads if on_cpu else _CUDA_THREADS)
