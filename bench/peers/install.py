"""Environments for the peers: ``.bench/NAME``, each with what its file of requirements pins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.peers.catalog import ENVIRONMENTS, REQUIREMENTS

INSTALL_SECONDS: Final = 420.0
_SYSTEM: Final = Path("/usr/bin/python3")  # Triton loads the distribution's libpython


def installed(name: str) -> bool:
    """Whether an environment has what its file asks for."""
    stamp = ENVIRONMENTS / name / ".installed"
    return stamp.is_file() and stamp.read_bytes() == (REQUIREMENTS / f"{name}.txt").read_bytes()


def install(name: str) -> str:
    """Make an environment, unless it is there.

    Returns:
        Why it cannot be had; "" if it can.
    """
    if installed(name):
        return ""
    folder = ENVIRONMENTS / name
    python = _SYSTEM if name == "pytriton" else Path(sys.executable)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    wanted = REQUIREMENTS / f"{name}.txt"
    for command in ([str(python), "-m", "venv", "--clear", str(folder)], [*pip, "-r", str(wanted)]):
        try:
            done = subprocess.run(  # noqa: S603 -- our own commands
                command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"not installed: {error}"[:300]
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return f"not installed: {' '.join(last)[:280]}"
    (folder / ".installed").write_bytes(wanted.read_bytes())
    return ""
