"""A worker that cannot come up any more: the server says so, stays alive, and recovers by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.asked import outcomes, pair_body
from faults.load import Load, Plan, post
from faults.observe import fetch, is_ready, port_of, wait_until, workers
from live_server import LiveServer, live_server

DEATHS = 4
"""More than three: by then it is a loop."""
WHOLE = "from extra_loss import BRIER as SHAKY\n"
BROKEN = "raise ImportError('broken on purpose, while the server runs')\n"
URGENT = post("/bce", pair_body(32), X_Timeout_Ms=1000)


def status(server: LiveServer) -> tuple[int, str]:
    """What /readyz says."""
    code, body = fetch(server, "/readyz")
    return code, str(json.loads(body)["status"])


@pytest.mark.timeout(300)
def test_a_crash_loop_is_told_and_ends(tmp_path: Path, say: Callable[[str], None]) -> None:
    """Workers import a module that is broken after the first start, and mended later."""
    module = tmp_path / "shaky_loss.py"
    module.write_text(WHOLE)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])
    with (
        live_server(tmp_path, modules=paths, losses="shaky_loss:SHAKY", inline_ms=0) as server,
        Load() as load,
    ):
        plan = Plan(port_of(server), [URGENT], count=1)
        assert outcomes(load.run(plan)) == {"ok": 1}
        os.kill(server.worker_pid(), signal.SIGKILL)
        wait_until(lambda: not is_ready(server), 5, "it does not notice that its worker is gone")
        ordinary = status(server)
        wait_until(lambda: is_ready(server), 30, "an ordinary death is not made good")
        module.write_text(BROKEN)
        os.kill(server.worker_pid(), signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: not is_ready(server), 5, "it does not notice that its worker is gone")
        while workers(server)[0]["restarts"] < DEATHS + 1:
            assert fetch(server, "/livez")[0] == 200
            assert fetch(server, "/readyz")[0] == 503
            assert time.monotonic() < began + 60, "it does not try again"
            time.sleep(0.1)
        looping = status(server)
        told = time.monotonic() - began
        (waiting,) = load.run(plan)
        alive = fetch(server, "/livez")[0]
        module.write_text(WHOLE)
        recovered = wait_until(lambda: is_ready(server), 90, "it does not recover")
        after = outcomes(load.run(plan))
    say(
        f"a crash loop: /readyz says {looping[1]!r} after {DEATHS} deaths and {told:.1f} s (while it "
        f"replaces a worker {ordinary[1]!r}), /livez {alive}, a request with a second's time "
        f"{waiting.code} after {waiting.seconds:.1f} s; ready {recovered:.1f} s after it was mended"
    )
    assert alive == 200
    assert waiting.code in ("deadline_exceeded", "overloaded")
    assert waiting.seconds < 1.5
    assert after == {"ok": 1}
    assert ordinary[0] == looping[0] == 503
    assert "ready" not in (ordinary[1], looping[1])
