"""A new server takes the port over: no caller notices, and a new one that fails changes nothing."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.asked import SMALL, outcomes, pair_body, scaled, undisturbed, wrong
from faults.load import Load, Plan, post
from faults.observe import fetch, is_ready, roles, wait_until
from faults.probes import Admin
from faults.raw import connect, receive
from live_server import LiveServer, live_server
from lossd_client.local import free_port

UPGRADES = scaled(2, 20)
RATE = 200.0
LAME_DUCK_SECONDS = 1.0
PIECE_BYTES = 2048
REQUESTS = [*SMALL, *SMALL, post("/focal", pair_body(32), name="focal", Connection="close")]
SENT = {"logits": [0.5], "targets": [1]}


def next_server(
    stack: ExitStack,
    folder: Path,
    port: int,
    path: Path,
    **settings: Any,  # noqa: ANN401 -- passed on
) -> LiveServer:
    """A server that hands over at a path, ready by itself."""
    folder.mkdir()
    server = stack.enter_context(live_server(folder, port=port, handover=path, **settings))
    wait_until(lambda: " ready after " in server.log.read_text(), 30, "the new server is not ready")
    return server


@contextmanager
def probed(port: int) -> Iterator[Counter[str]]:
    """Ask the admin listener whether it is ready, again and again, and count what it says."""
    found: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            probe = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                probe.request("GET", "/readyz")
                answer = probe.getresponse()
                body = answer.read().decode()
                found[str(answer.status) if answer.status == 200 else f"{answer.status} {body}"] += 1
            except (OSError, http.client.HTTPException) as error:
                found[repr(error)] += 1
            finally:
                probe.close()
            over.wait(0.002)

    prober = threading.Thread(target=ask)
    prober.start()
    try:
        yield found
    finally:
        over.set()
        prober.join()


@pytest.mark.waits
@pytest.mark.timeout(60 + 20 * UPGRADES)
def test_upgrades_under_load_fail_nobody(tmp_path: Path, say: Callable[[str], None]) -> None:
    port, admin, path = free_port(), free_port(), tmp_path / "handover"
    more = {"lame_duck_seconds": LAME_DUCK_SECONDS, "admin_port": admin}
    upload = post("/bce", pair_body(4096), name="slow", Connection="close")
    whole = upload.head + upload.body
    found: Counter[int] = Counter()
    seconds = []

    def send_slowly(server: LiveServer, hurry: threading.Event) -> None:
        with connect(server) as connection:
            for start in range(0, len(whole), PIECE_BYTES):
                connection.sendall(whole[start : start + PIECE_BYTES])
                hurry.wait(0.1)
            found.update(receive(connection).statuses or [0])

    with Load() as load, Load() as single, ExitStack() as stack:
        server = next_server(stack, tmp_path / "0", port, path, **more)
        wait_until(Admin(server, admin).is_ready, 10, "not ready")
        right = undisturbed(server, single, SMALL)
        probing = ExitStack()
        probes = stack.enter_context(probing).enter_context(probed(admin))
        load.start(Plan(port, REQUESTS, rate=RATE))
        for number in range(1, UPGRADES + 1):
            hurry = threading.Event()
            slow = threading.Thread(target=send_slowly, args=(server, hurry))
            slow.start()
            time.sleep(0.5)
            old, began = server, time.monotonic()
            server = next_server(stack, tmp_path / str(number), port, path, **more)
            time.sleep(LAME_DUCK_SECONDS + 0.5)
            assert old.process.poll() is None, "the slow upload was not waited for"
            hurry.set()
            assert old.process.wait(30) == 0, old.log.read_text()
            seconds.append(time.monotonic() - began)
            slow.join()
        shots = load.finish(stop=True)
        probing.close()
        assert is_ready(server)
    say(
        f"{UPGRADES} upgrades at {RATE:.0f} requests/s: {outcomes(shots)}, slow uploads {dict(found)}, "
        f"{wrong(shots, right)} wrong, probes {dict(probes)}; "
        f"the old server is gone within {max(seconds):.1f} s"
    )
    assert outcomes(shots) == {"ok": len(shots)}
    assert found == {200: UPGRADES}
    assert wrong(shots, right) == 0
    assert set(probes) == {"200"}


def test_a_new_server_that_fails_changes_nothing(tmp_path: Path) -> None:
    port, admin, path = free_port(), free_port(), tmp_path / "handover"
    with ExitStack() as stack, httpx.Client() as kept:
        server = next_server(stack, tmp_path / "0", port, path, admin_port=admin)
        wait_until(Admin(server, admin).is_ready, 10, "not ready")
        with probed(admin) as found:
            unusable = {"LOSSD_LOSSES": "nowhere:LOSS", "LOSSD_ADMIN_PORT": str(admin)}
            failing = start(port, path, stderr=subprocess.PIPE, **unusable)
            _, said = failing.communicate(timeout=30)
            assert failing.returncode == 1
        assert set(found) == {"200"}, found
        assert b"listener on" not in said  # nobody would be ready behind it
        wait_until(lambda: "this server goes on" in server.log.read_text(), 5, "not noticed")
        # Killed while the old server waits for it.
        hasty = start(port, path, LOSSD_ADMIN_PORT=str(admin))
        wait_until(lambda: f"process {hasty.pid} is about to" in server.log.read_text(), 30, "not asked")
        hasty.kill()
        assert hasty.wait() < 0
        for _ in range(20):
            answer = kept.post(f"{server.url}/bce", json=SENT)
            assert (answer.status_code, answer.headers.get("connection")) == (200, None)
        assert is_ready(server)
        new = next_server(stack, tmp_path / "1", port, path, admin_port=admin)
        assert server.process.wait(30) == 0
        assert is_ready(new)
    assert not path.exists()


def test_a_socket_that_a_killed_server_left_is_replaced_and_host_and_port_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "handover"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))
    with ExitStack() as stack:
        server = next_server(stack, tmp_path / "0", free_port(), path)
        assert is_ready(server)
        assert path.stat().st_mode & 0o777 == 0o600
        elsewhere = start(free_port(), path, stderr=subprocess.PIPE)
        _, said = elsewhere.communicate(timeout=30)
        assert elsewhere.returncode == 1
        assert b"make them agree" in said
        assert is_ready(server)


def test_a_path_that_cannot_be_the_handovers_is_said(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "handover"
    path.write_text("something of the user's")
    for wrong_path, remedy in (
        (path, "it is a file, not a socket; remove it"),
        (tmp_path / "none" / "handover", f"there is no folder {tmp_path / 'none'}; make it"),
        (tmp_path / ("x" * 100), "name one of at most 107 bytes"),
    ):
        failing = start(port, wrong_path, stderr=subprocess.PIPE)
        _, said = failing.communicate(timeout=30)
        assert failing.returncode == 1
        assert f"LOSSD_HANDOVER={wrong_path} cannot be used for the handover: ".encode() in said
        assert remedy.encode() in said
    assert path.read_text()


def test_all_front_ends_and_the_admin_listener_hand_over(tmp_path: Path) -> None:
    port, admin, path = free_port(), free_port(), tmp_path / "handover"
    more = {"front_ends": 2, "arena_bytes": 3 << 30, "lame_duck_seconds": 3, "admin_port": admin}
    more["header_seconds"] = 60
    asked = post("/bce", pair_body(32), Connection="close")
    ready = f"http://127.0.0.1:{admin}/readyz"
    with ExitStack() as stack:
        old = next_server(stack, tmp_path / "0", port, path, **more)
        begun = stack.enter_context(connect(old))
        begun.sendall(asked.head[:30])
        pids = set(roles(old).front_ends)
        new = next_server(stack, tmp_path / "1", port, path, **more)
        wait_until(lambda: "has taken the port over" in old.log.read_text(), 10, "not handed over")
        for _ in range(50):
            assert fetch(new, "/readyz")[0] == 200  # the old one would say that it is not
            assert httpx.get(ready).status_code == 200
        assert old.process.poll() is None
        time.sleep(4)  # idle connections have been closed since
        begun.sendall(asked.head[30:] + asked.body)
        assert receive(begun).statuses == [200]
        assert old.process.wait(30) == 0
        assert pids.isdisjoint(roles(new).front_ends)


def start(
    port: int, path: Path, stderr: int = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a server that is not expected to serve."""
    given = {"LOSSD_HANDOVER": str(path), "LOSSD_DEVICE": "cpu", "LOSSD_USAGE_FILE": ""}
    command = [sys.executable, "-m", "lossd", "serve", "--port", str(port)]
    return subprocess.Popen(command, env={**os.environ, **given, **environment}, stderr=stderr)
