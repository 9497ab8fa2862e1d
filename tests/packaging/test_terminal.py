"""The shell that runs the examples of the pages."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from scripts.terminal import Terminal


def test_variables_folders_and_jobs_last(tmp_path: Path) -> None:
    with Terminal(tmp_path, "http://127.0.0.1:1") as terminal:
        terminal.run("export NAME=value; mkdir inner; cd inner")
        terminal.run("sleep 60 &")
        assert terminal.run('echo "$NAME $LOSSD_BASE_URL"; basename "$PWD"') == (
            "value http://127.0.0.1:1\ninner\n"
        )
        assert terminal.run("kill %1 && echo ended") == "ended\n"


def test_what_runs_in_the_background_ends_with_it(tmp_path: Path) -> None:
    with Terminal(tmp_path, "") as terminal:
        number = int(terminal.run("sleep 60 & echo $!"))
    ends = time.monotonic() + 10
    while Path(f"/proc/{number}").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_failure_has_its_status_and_what_it_said(tmp_path: Path) -> None:
    with Terminal(tmp_path, "") as terminal:
        with pytest.raises(subprocess.CalledProcessError) as raised:
            terminal.run("echo so far; echo why >&2; (exit 3)")
        assert (raised.value.returncode, raised.value.output, raised.value.stderr) == (3, "so far\n", "why\n")
        with pytest.raises(subprocess.CalledProcessError):
            terminal.run("exit 4")
