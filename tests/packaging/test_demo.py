"""`make demo` at a terminal: its page opens with its report, and Ctrl-C ends it and its server."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from lossd_client import Report

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 500.0

pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_page_opens_with_its_report(tmp_path: Path) -> None:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as demo:
        os.close(theirs)
        try:
            url = found(ours, r"Open (http://127\.0\.0\.1:\d+)/ui")
            assert httpx.get(f"{url}/ui").status_code == 200
            report = Report(httpx.get(f"{url}/ui/report").json())
            demo.send_signal(signal.SIGINT)
            found(ours, "Read on")
            assert demo.wait(60) == 0
        finally:
            if demo.poll() is None:
                os.killpg(demo.pid, signal.SIGTERM)
            os.close(ours)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/ui")
    assert report.class_names == tuple(f"digit {digit}" for digit in range(10))
    assert {"classes", "groups", "paired", "sweep", "top", "calibration"} <= set(report.sections)
    assert np.isfinite(report.mean)


def found(terminal: int, pattern: str) -> str:
    """Read a terminal until a pattern is there; its first group, or all of it."""
    text, ends = "", time.monotonic() + SECONDS
    while (match := re.search(pattern, text)) is None:
        assert select.select([terminal], [], [], max(0.0, ends - time.monotonic()))[0], text
        try:
            text += os.read(terminal, 1 << 16).decode(errors="replace")
        except OSError:
            pytest.fail(f"it ended early:\n{text}")
    return match[1] if match.groups() else match[0]
