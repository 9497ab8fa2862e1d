"""A pod beside a Service named lossd: Kubernetes gives it variables that look like settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from faults.observe import is_ready
from live_server import LiveServer
from lossd_client.local import free_port

ADDRESS = "10.96.12.7"
LINK = f"tcp://{ADDRESS}:8000"
LINKS = {
    "LOSSD_PORT": LINK,
    "LOSSD_SERVICE_HOST": ADDRESS,
    "LOSSD_SERVICE_PORT": "8000",
    "LOSSD_SERVICE_PORT_HTTP": "8000",
    "LOSSD_PORT_8000_TCP": LINK,
    "LOSSD_PORT_8000_TCP_PROTO": "tcp",
    "LOSSD_PORT_8000_TCP_PORT": "8000",
    "LOSSD_PORT_8000_TCP_ADDR": ADDRESS,
}


def serve(log: Path, port: int | None, **variables: str) -> subprocess.Popen[bytes]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
    environment = {**plain, "LOSSD_USAGE_FILE": "", "LOSSD_DEVICE": "cpu", **variables}
    command = [sys.executable, "-m", "lossd", "serve", *([] if port is None else ["--port", str(port)])]
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def test_it_serves_and_says_in_a_line_what_it_passes_over(tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    process = serve(log, port, **LINKS)
    server = LiveServer(process, f"http://127.0.0.1:{port}", log)
    try:
        server.wait_until_ready()
        assert is_ready(server)
    finally:
        assert server.stop() == 0
    warnings = [line for line in log.read_text().splitlines() if "warning" in line]
    assert len(warnings) == 1
    for word in (
        f"LOSSD_PORT={LINK}",
        "ignored",
        "Kubernetes",
        "Service named lossd",
        "enableServiceLinks: false",
    ):
        assert word in warnings[0]


def test_what_is_nearly_a_setting_ends_it(tmp_path: Path) -> None:
    process = serve(tmp_path / "log", None, LOSSD_FRONTENDS="2", LOSSD_CACHE_DIR="/tmp")
    assert process.wait(60) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("error: LOSSD_FRONTENDS ")
    assert "LOSSD_FRONT_ENDS?" in line


def test_what_is_no_link_and_no_port_ends_it(tmp_path: Path) -> None:
    process = serve(tmp_path / "log", None, LOSSD_PORT="abc")
    assert process.wait(60) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("error: LOSSD_PORT=abc: ")
