"""Without torch, as `lossd[cpu]` installs: the native kernel computes, and what needs torch says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lossd.core.native.library import why_missing

MAKE = """
import sys
from pathlib import Path

from lossd.core.native import library
from lossd.engine.worker.kernels import make_kernel

device, kernel, compiled = sys.argv[1:]
sys.modules["torch"] = None  # as if it were not installed
if compiled == "no":
    library.LIBRARY = Path("none")
try:
    print(make_kernel(device, kernel, 1).name)
except (ModuleNotFoundError, RuntimeError) as error:
    print(error)
"""


@pytest.mark.skipif(why_missing() is not None, reason=f"no native kernel: {why_missing()}")
@pytest.mark.parametrize(
    ("device", "kernel", "compiled", "said"),
    [
        ("cpu", "auto", "yes", "native"),
        ("cpu", "torch", "yes", "this needs torch: pip install 'lossd[server]'"),
        ("cuda:0", "auto", "yes", "this needs torch: pip install 'lossd[server]'"),
        (
            *("cpu", "auto", "no"),
            "there is no native kernel: the C code was not compiled when lossd was installed; install a "
            "wheel, or a C compiler first. Without it, this needs torch: pip install 'lossd[server]'",
        ),
    ],
)
def test_without_torch(device: str, kernel: str, compiled: str, said: str) -> None:
    command = [sys.executable, "-c", MAKE, device, kernel, compiled]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == said
