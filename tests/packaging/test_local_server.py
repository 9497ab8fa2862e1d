"""The helper that starts a server for the demo and the wheel check: whatever happens, none is left."""

import os
import sys
import time
from pathlib import Path

import pytest

from examples import local_server
from examples.local_server import LocalServer

SERVES = """
import http.server, signal, sys, time

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

open("pid", "w").write(str(__import__("os").getpid()))
signal.signal(signal.SIGTERM, {on_term})
port = int(sys.argv[sys.argv.index("--port") + 1])
print("about to serve", sys.argv[1:], flush=True)
http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
"""
IN_ORDER = "lambda *_: sys.exit(0)"
DEAF = "signal.SIG_IGN"


def command(directory: Path, source: str) -> Path:
    """A stand-in for the ``lossd`` command."""
    path = directory / "lossd"
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(0o755)
    return path


def is_gone(directory: Path) -> bool:
    try:
        os.kill(int((directory / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_server_is_ready_inside_the_block_and_stopped_after_it(tmp_path: Path) -> None:
    lossd = command(tmp_path, SERVES.format(on_term=IN_ORDER))
    with LocalServer(lossd, directory=tmp_path) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert "'serve', '--host', '127.0.0.1', '--device', 'cpu'" in server.log()
        assert not is_gone(tmp_path)
    assert is_gone(tmp_path)


def test_it_tells_the_exit_code(tmp_path: Path) -> None:
    lossd = command(tmp_path, SERVES.format(on_term="lambda *_: sys.exit(3)"))
    with LocalServer(lossd, directory=tmp_path) as server:
        assert server.stop() == 3


def test_an_error_in_the_block_stops_it_too(tmp_path: Path) -> None:
    lossd = command(tmp_path, SERVES.format(on_term=IN_ORDER))
    with pytest.raises(KeyboardInterrupt), LocalServer(lossd, directory=tmp_path):
        raise KeyboardInterrupt
    assert is_gone(tmp_path)


def test_a_server_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "STOP_SECONDS", 0.2)
    lossd = command(tmp_path, SERVES.format(on_term=DEAF))
    with LocalServer(lossd, directory=tmp_path) as server:
        assert server.stop() == -9
    assert is_gone(tmp_path)


def test_a_server_that_ends_is_reported_with_what_it_said(tmp_path: Path) -> None:
    lossd = command(tmp_path, "import sys; sys.exit('no such device')")
    with pytest.raises(RuntimeError, match="the server ended with 1:\nno such device"):
        LocalServer(lossd).__enter__()


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "READY_SECONDS", 1.0)
    lossd = command(tmp_path, SERVES.format(on_term=IN_ORDER).replace("/readyz", "/elsewhere"))
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="about to serve"):
        LocalServer(lossd, directory=tmp_path).__enter__()
    assert time.monotonic() - begun < 10
    assert is_gone(tmp_path)


def test_settings_of_the_caller_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSD_PORT", "1")
    lossd = command(
        tmp_path, "import os, sys; sys.exit(str({k: v for k, v in os.environ.items() if 'LOSSD' in k}))"
    )
    with pytest.raises(RuntimeError, match=r"\{'LOSSD_USAGE_FILE': ''\}"):
        LocalServer(lossd).__enter__()
