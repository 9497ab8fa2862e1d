"""Ctrl-C and SIGTERM end a command at once, and it leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from client.cli.started import started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_with_its_own_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    np.savez(tmp_path / "t.npz", logits=np.zeros((600, 4)), targets=np.ones((600, 4)))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [tmp_path / "t.npz", "--reduction", "none", "--out", tmp_path / "out.npy"]
        with started(url, *command) as process:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(30)
                assert connection.recv(1)  # the request is in flight, and will have no answer
                began = time.monotonic()
                process.send_signal(number)
                output = process.communicate(timeout=30)
                assert time.monotonic() - began < 20  # the answer would be waited for for 60 s
    assert (process.returncode, output) == (128 + number, (b"", b""))
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


WRITING = """
import os, signal, sys, threading
import numpy as np
from pathlib import Path
from lossd_client.cli.exits import leave_at_signals
from lossd_client.cli.part_file import part_of
from lossd_client.cli.scoring.losses import LossFile
path = Path(sys.argv[1])
with leave_at_signals(part_of(path)):
    file = LossFile(path)
    os.mkfifo(path.with_name("pipe"))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    keep = os.open(path.with_name("pipe"), os.O_RDWR)
    os.dup2(keep, file._file.fileno())  # a pipe that nobody reads: the write does not end
    file.add(np.zeros(1 << 20))
"""


def test_ctrl_c_within_a_write_leaves_with_130_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITING, str(tmp_path / "out.npy")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


LOADING = """
import os, signal, sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "lossd_client.cli.score":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
from lossd.__main__ import main
main()
"""


def test_ctrl_c_while_the_command_loads_gives_130_and_no_traceback() -> None:
    command = [sys.executable, "-c", LOADING, "--version"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_console_script_is_what_heeds_it() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"lossd": "lossd.__main__:main"}
