"""What a server that has nothing to do holds, and how soon it is ready."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.memory import own
from faults.asked import scaled
from faults.observe import roles
from live_server import live_server

pytestmark = pytest.mark.alone

MIB = 1 << 20
STARTS = 3
MOST_FRONT_END = 120 * MIB
MOST_WORKER = 500 * MIB
MOST_SECONDS = scaled(12.0, 2.0)
"""Until it is ready. A usual run may share its processors."""
MOST_IMPORTS = 9
"""As long as so many imports of the web framework on the same machine just then: 4 to 5 when it is idle."""
FRAMEWORK = "import fastapi, uvicorn"


def test_an_idle_server_is_small_and_soon_there(tmp_path: Path, say: Callable[[str], None]) -> None:
    seconds, imports, front_ends, workers, supervisors = [], [], [], [], []
    for _ in range(STARTS):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", FRAMEWORK], check=True)
        imports.append(time.monotonic() - began)
        with live_server(tmp_path) as server:
            seconds.append(server.ready_seconds)
            found = roles(server)
            front_ends += [own(pid) for pid in found.front_ends]
            workers += [own(pid) for pid in found.workers]
            supervisors.append(own(found.supervisor))
    say(
        f"{STARTS} starts, medians: ready after {statistics.median(seconds):.2f} s, "
        f"{FRAMEWORK} alone takes {statistics.median(imports):.2f} s; without the arena the "
        f"front end holds {statistics.median(front_ends) / MIB:.0f} MiB, the worker "
        f"{statistics.median(workers) / MIB:.0f}, the supervisor {statistics.median(supervisors) / MIB:.0f}"
    )
    assert len(front_ends) == len(workers) == STARTS
    assert 0 < statistics.median(front_ends) < MOST_FRONT_END
    assert 0 < statistics.median(workers) < MOST_WORKER
    assert statistics.median(seconds) < MOST_SECONDS
    assert statistics.median(seconds) < MOST_IMPORTS * statistics.median(imports)
