"""What a command says while the server makes it wait."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.playback import SCALAR, Answer, Playback

THROTTLED = Answer.of_problem(429, "rate_limited", retryable=True)


def _command(playback: Playback, folder: Path, seconds: Sequence[int], *options: str) -> Sequence[str]:
    np.savez(folder / "t.npz", logits=np.zeros((4, 3)), targets=np.ones((4, 3)))
    playback.answers = [replace(THROTTLED, headers={"Retry-After": str(each)}) for each in seconds]
    playback.answer = Answer.of_json(
        {**SCALAR, "shape": [4, 3], "count": 12, "loss_name": "bce", "params": {}}
    )
    return [sys.executable, "-m", "lossd", "score", str(folder / "t.npz"), "--url", playback.url, *options]


def _drained(terminal: int) -> str:
    shown = b""
    with suppress(OSError):  # the other end is closed
        while chunk := os.read(terminal, 1 << 16):
            shown += chunk
    return shown.decode()


def test_a_terminal_has_a_countdown(playback: Playback, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = _command(playback, tmp_path, [2], "--json")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = _drained(ours)
    os.close(ours)
    assert process.returncode == 0, shown
    assert {"2", "1"} <= set(re.findall(r"throttled, resuming in (\d) s", shown))


def test_elsewhere_it_is_one_line(playback: Playback, tmp_path: Path) -> None:
    done = subprocess.run(_command(playback, tmp_path, [1, 1]), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "throttled, resuming in 1 s\n")


def test_or_none(playback: Playback, tmp_path: Path) -> None:
    done = subprocess.run(
        _command(playback, tmp_path, [1], "--no-progress"), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
