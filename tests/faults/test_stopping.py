"""How a server stops, and what signals do to it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bench.memory import family
from certificates import make_certificate
from faults.asked import pair_body
from faults.load import post
from faults.observe import fetch, roles, wait_until
from faults.raw import connect, receive
from live_server import LiveServer, live_server
from lossd.settings import Settings
from lossd_client.local import free_port
from teams_file import make_key, team_table, write_teams

ROOT = Path(__file__).parents[2]
ATTACH = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)  # it is the session's terminal now
os.execvp(sys.argv[1], sys.argv[1:])
"""
SENT = {"logits": [0.5], "targets": [1]}
AFTERWARDS = 3.0
"""Seconds after the time for draining in which all must be gone."""
SLACK = 3.0
"""Seconds that a busy machine may take longer."""


def stopped_within(server: LiveServer, *numbers: signal.Signals) -> float:
    """The seconds until it has ended, after some signals."""
    began = time.monotonic()
    for number in numbers:
        server.process.send_signal(number)
        time.sleep(0.2)
    server.process.wait(40)
    return time.monotonic() - began


def test_it_is_not_ready_at_once_but_serves_a_while(tmp_path: Path) -> None:
    upload = post("/bce", pair_body(32), Connection="close")
    settings = {"lame_duck_seconds": 6, "front_ends": 2, "arena_bytes": 3 << 30, "upload_grace_seconds": 60}
    with (
        live_server(tmp_path, **settings) as server,
        httpx.Client(base_url=server.url) as kept,
        connect(server) as slow,
    ):
        wait_until(lambda: " ready after " in server.log.read_text(), 30, "one front end is not ready")
        assert "connection" not in kept.post("/bce", json=SENT).headers
        slow.sendall(upload.head + upload.body[:100])
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert {fetch(server, "/readyz")[0] for _ in range(10)} == {503}
        for client in (kept, httpx):  # on a connection that was there before, and on new ones
            answer = client.post(f"{server.url}/bce", json=SENT)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert "accepted requests" not in server.log.read_text()
        wait_until(lambda: httpx.post(f"{server.url}/bce", json=SENT).status_code == 503, 20, "not draining")
        slow.sendall(upload.body[100:])
        assert receive(slow).statuses == [200]
        assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT, signal.SIGINT)],
    ids=["SIGINT", "SIGTERM twice", "SIGTERM and Ctrl-C twice"],
)
def test_a_second_signal_or_ctrl_c_spares_the_wait(
    tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    with live_server(tmp_path, lame_duck_seconds=60) as server:
        assert stopped_within(server, *numbers) < 10
        assert server.process.returncode == 0


@pytest.mark.parametrize("hung", ["front_ends", "workers"])
def test_what_hangs_delays_the_end_for_a_bounded_time(
    tmp_path: Path, hung: str, say: Callable[[str], None]
) -> None:
    lame_duck, drain = 0.5, 1.5
    with live_server(tmp_path, lame_duck_seconds=lame_duck, drain_seconds=drain, inline_ms=0) as server:
        found: list[int] = []
        (pid,) = getattr(roles(server), hung)
        os.kill(pid, signal.SIGSTOP)
        asking = threading.Thread(target=lambda: found.append(status_of(server)))
        asking.start()
        time.sleep(0.3)
        seconds = stopped_within(server, signal.SIGTERM)
        asking.join()
    say(
        f"{hung} stopped: gone {seconds:.1f} s after SIGTERM, {lame_duck + drain:.1f} s of which are for work"
    )
    assert found == ([0] if hung == "front_ends" else [503])
    assert seconds < lame_duck + drain + AFTERWARDS + SLACK
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_callers_who_neither_read_nor_send_on_neither_delay_the_end_nor_fill_the_log(tmp_path: Path) -> None:
    body = pair_body(20_000)
    asked = [
        b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n" * 30,
        post("/bce?reduction=none", body).head + body,
        b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
        post("/bce", body).head + body[:1000],
        b"POST /bce HTTP/1.1\r\nHost",
    ]
    with live_server(tmp_path, drain_seconds=1) as server:
        callers = [connect(server, receive_bytes=4096) for _ in asked]
        for caller, request in zip(callers, asked, strict=True):
            caller.sendall(request)
        time.sleep(0.5)
        seconds = stopped_within(server, signal.SIGTERM)
        log = server.log.read_text()
        for caller in callers:
            caller.close()
    assert server.process.returncode == 0
    assert not [words for words in ("Traceback", "Cancel ", "killed", "Exception") if words in log], log
    assert seconds < 1 + AFTERWARDS + SLACK


def status_of(server: LiveServer) -> int:
    """The status of a small request; 0 without an answer."""
    try:
        return httpx.post(f"{server.url}/bce", json=SENT, timeout=30).status_code
    except httpx.TransportError:
        return 0


def test_the_waits_are_shorter_than_what_stops_it_waits() -> None:
    settings = Settings()
    longest = settings.lame_duck_seconds + settings.drain_seconds + AFTERWARDS
    assert longest <= 28.0  # Kubernetes kills after 30
    grace = re.search(r"stop_grace_period: (\d+)s", (ROOT / "docker-compose.yml").read_text())
    assert grace is not None
    assert longest < int(grace[1]) <= 30


def test_sighup_reads_files_again_and_ends_nothing(tmp_path: Path) -> None:
    teams, key, new = tmp_path / "teams.toml", make_key(), make_key()
    write_teams(teams, team_table("a", key))
    chain, private = make_certificate(tmp_path, "server")
    with live_server(tmp_path, teams=teams, tls_certificate=chain, tls_key=private) as server:
        pids = family(server.process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGHUP)

        def said(what: str) -> Callable[[], bool]:
            return lambda: what in server.log.read_text()

        wait_until(said(f"reloaded the teams from {teams}"), 10, "the teams are not read")
        wait_until(said(f"reloaded the certificate from {chain}"), 10, "the certificate is not read")
        teams.write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        wait_until(said("the teams stay as they were"), 10, "what is wrong is not said")
        write_teams(teams, team_table("a", new))
        server.process.send_signal(signal.SIGHUP)

        def takes(key: str) -> bool:
            headers = {"x-api-key": key}
            return httpx.get(f"{server.url}/info", headers=headers, verify=server.verify).status_code == 200

        wait_until(lambda: takes(new) and not takes(key), 10, "the new key is not taken")
        assert family(server.process.pid) == pids


@pytest.mark.parametrize("command", [(), ("nohup",)], ids=["in the foreground", "nohup"])
def test_a_closed_terminal_ends_it_unless_it_is_to_stay(tmp_path: Path, command: tuple[str, ...]) -> None:
    ours, theirs = pty.openpty()
    port, log = free_port(), tmp_path / "server.log"
    environment = {
        **os.environ,
        "LOSSD_DEVICE": "cpu",
        "LOSSD_USAGE_FILE": "",
        "LOSSD_LAME_DUCK_SECONDS": "60",
        "PYTHONUNBUFFERED": "",  # or no line is left over that would be tried again at the end
    }
    serve = [*command, sys.executable, "-m", "lossd", "serve", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", ATTACH, *serve],
            stdin=theirs,
            stdout=output,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
    os.close(theirs)
    server = LiveServer(process, f"http://127.0.0.1:{port}", log)
    try:
        server.wait_until_ready()
        os.close(ours)
        if command:
            time.sleep(1)
            assert fetch(server, "/readyz")[0] == 200
        else:
            assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            assert stopped_within(server, signal.SIGINT) < 20
