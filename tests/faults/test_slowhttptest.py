"""slowhttptest's callers, a few hundred at a time, and what others notice of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.asked import SMALL, SOAK, outcomes, percentile, undisturbed, wrong
from faults.load import Load, Plan, Shot
from faults.observe import Others, connections, is_free, port_of, roles, wait_until
from live_server import LiveServer, live_server

pytestmark = pytest.mark.alone

TOOL = "slowhttptest"
RATE = 100.0
SECONDS = 30.0
CALLERS = 400
MOST_TIMES = 1.5
"""What it may take others, by the 99th percentile, beside what it takes them alone."""
TRIES = 3
MODES = {
    "heads": ["-H"],
    "bodies": ["-B", "-s", "1000000", "-f", "application/json"],
    "answers": ["-X", "-k", "5", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"],
}
# What is wrong with a body is seen at its first bytes, but in this format, at its end.
TARGETS = {"heads": "/bce", "bodies": "/v2/models/bce/infer", "answers": "/docs/assets/swagger-ui-bundle.js"}


def slow_callers(server: LiveServer, mode: str, folder: Path) -> subprocess.Popen[bytes]:
    """The tool, which by itself can take a processor, behind all else."""
    ends = [f"-c{CALLERS}", "-r100", f"-l{SECONDS + 15:.0f}", "-i1", "-p10"]
    command = ["nice", "-n", "19", TOOL, *MODES[mode], *ends, "-u", f"{server.url}{TARGETS[mode]}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)


def p99(shots: list[Shot]) -> float:
    return percentile((shot.seconds for shot in shots), 99)


@pytest.mark.skipif(not SOAK, reason="takes minutes; make soak runs it")
@pytest.mark.skipif(shutil.which(TOOL) is None, reason=f"needs {TOOL}")
@pytest.mark.timeout(120 + 3 * TRIES * (2 * SECONDS + 30))
@pytest.mark.parametrize("mode", MODES)
def test_others_hardly_notice(tmp_path: Path, mode: str, say: Callable[[str], None]) -> None:
    """Beside each other's times, again where the machine was busy with something else."""
    with live_server(tmp_path) as server, Load() as load:
        right = undisturbed(server, load)
        [front_end] = roles(server).front_ends
        plan = Plan(port_of(server), SMALL, rate=RATE, seconds=SECONDS)
        for _ in range(TRIES):
            alone = load.run(plan)
            with slow_callers(server, mode, tmp_path) as slow, Others() as others:
                wait_until(lambda: connections(server, front_end) > 0.9 * CALLERS, 15, "too few are slow")
                beside = load.run(plan)
                slow.terminate()
            found = (
                f"{CALLERS} callers with slow {mode} beside {RATE:.0f} requests/s: p99 "
                f"{1e3 * p99(beside):.1f} ms, {1e3 * p99(alone):.1f} ms without them; others took "
                f"{100 * others.share:.0f}% of the processors"
            )
            say(found)
            if p99(beside) <= MOST_TIMES * p99(alone):
                break
        wait_until(lambda: is_free(server), 10, "something is held")
        wait_until(lambda: connections(server, front_end) < CALLERS // 10, 10, "they are still there")
    assert outcomes(beside) == {"ok": len(beside)}
    assert wrong(beside, right) == 0
    assert p99(beside) <= MOST_TIMES * p99(alone), found
