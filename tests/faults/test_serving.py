"""Starting and stopping."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from command import app
from live_server import LiveServer, live_server
from lossd_client import LossClient
from lossd_client.local import free_port

_ELEMENTS = 3 << 18
"""24 blocks, each of which takes `SLOW` 0.05 s."""


@pytest.fixture(autouse=True)
def no_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the home of whoever runs the tests."""
    monkeypatch.setenv("LOSSD_USAGE_FILE", "")


def run_serve(*options: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lossd", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_said_and_ends_it() -> None:
    done = run_serve("--device", "cuda:0", "--port", str(free_port()))
    assert done.returncode == 1
    assert "cannot compute on cuda:0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said_and_ends_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_serve("--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot listen" in done.stderr


def test_an_arena_that_cannot_be_is_said_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSD_ARENA_BYTES", str(10**17))
    done = run_serve("--port", str(free_port()))
    assert done.returncode == 1
    assert "no memory for an arena" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loss_that_is_not_there_is_said_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSD_LOSSES", "nowhere:LOSS")
    done = run_serve("--port", str(free_port()), "--device", "cpu")
    assert done.returncode == 1
    assert "no loss at 'nowhere:LOSS'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_server_must_be_meant() -> None:
    done = run_serve("--host", "0.0.0.0", "--port", str(free_port()))
    assert done.returncode == 2
    assert "--allow-open" in done.stderr


def test_a_stop_during_the_start_is_clean() -> None:
    for delay in (0.5, 1.0):
        process = subprocess.Popen(
            [sys.executable, "-m", "lossd", "serve", "--port", str(free_port()), "--device", "cpu"],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)  # the latter before it took signals at all


def test_accepted_requests_are_answered_before_the_end(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(8000, 1000)).astype(np.float32)
    with live_server(tmp_path) as server:
        answers: list[float] = []
        with LossClient(server.url, retry=None, request_bytes=1 << 30) as client:
            threads = [
                threading.Thread(target=lambda: answers.append(float(client.bce(x, x > 0)))) for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            while "lossd_requests_in_flight 3.0" not in httpx.get(f"{server.url}/metrics").text:
                time.sleep(0.01)
                assert any(thread.is_alive() for thread in threads)
            assert server.stop() == 0
            for thread in threads:
                thread.join()
    assert len(answers) == 3
    assert len(set(answers)) == 1


def test_what_is_not_done_in_time_is_said_so(tmp_path: Path) -> None:
    with live_server(tmp_path, drain_seconds=0.3, inline_ms=0) as server:
        worker = server.worker_pid()
        os.kill(worker, signal.SIGSTOP)  # nothing is answered any more
        found: list[httpx.Response] = []
        sent = {"logits": [1], "targets": [1]}
        asking = threading.Thread(
            target=lambda: found.append(httpx.post(f"{server.url}/bce", json=sent, timeout=30))
        )
        asking.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert (found[0].status_code, found[0].json()["code"]) == (503, "draining")
        began = time.monotonic()
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 15
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that computes with torch, and has one more loss and other limits."""
    folder, here = tmp_path_factory.mktemp("other"), Path(__file__).parent
    limits = {"max_json_bytes": 1000, "max_body_bytes": 2_000_000, "arena_bytes": 2**30}
    with live_server(folder, kernel="torch", modules=here, losses="extra_loss:BRIER", **limits) as running:
        yield running


def test_settings_come_from_the_environment(other: LiveServer) -> None:
    limits = other.info()["limits"]
    assert isinstance(limits, dict)
    assert (limits["json_bytes"], limits["body_bytes"]) == (1000, 2_000_000)
    sent = {"logits": [0.0] * 1000, "targets": [0] * 1000}
    answer = httpx.post(f"{other.url}/bce", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_new_loss_is_a_function_and_an_entry(other: LiveServer) -> None:
    sent = {"logits": [[2.0, -1.0], [0.0, 3.0]], "targets": [[1, 0], [0, 0.5]], "scale": 3}
    answer = httpx.post(f"{other.url}/brier", json={**sent, "reduction": "none"}).json()
    p = 1 / (1 + np.exp(-np.array(sent["logits"])))
    np.testing.assert_allclose(answer["loss"], 3 * (np.array(sent["targets"]) - p) ** 2, rtol=1e-14)
    assert answer["params"] == {"scale": 3.0}
    refused = httpx.post(f"{other.url}/brier", json={**sent, "scale": -1}).json()
    assert refused["code"] == "invalid_parameter"
    assert "/brier" in httpx.get(f"{other.url}/openapi.json").json()["paths"]


def test_torch_serves_where_the_native_kernel_is_missing_and_says_what_that_costs(
    server: LiveServer, other: LiveServer
) -> None:
    x = np.random.default_rng(0).normal(0, 4, (3000, 80)).astype(np.float32)
    y = x > 3
    assert (server.info()["kernel"], other.info()["kernel"]) == ("native", "torch")
    with LossClient(server.url) as native, LossClient(other.url) as torch:
        for form in ({}, {"axis": 0}, {"reduction": "none", "gamma": 0.7}, {"gamma": 2.3}):
            got, expected = (client.focal(x, y, **form) for client in (torch, native))
            assert np.asarray(got.loss).tobytes() == np.asarray(expected.loss).tobytes()
            assert (got.sum_terms, got.positives) == (expected.sum_terms, expected.positives)
    for one in (server, other):
        doctor = CliRunner().invoke(app, ["doctor", "--url", one.url]).stdout
        for said in (str(one.info()["notes"]), doctor, one.log.read_text()):
            assert ("torch computes on the CPU" in said) is (one is other)


def test_while_it_stops_others_are_told_so(tmp_path: Path) -> None:
    file = io.BytesIO()
    for array in (np.zeros(_ELEMENTS, np.float16), np.zeros(_ELEMENTS, np.bool_)):
        np.save(file, array)
    media = {"content-type": "application/x-npy"}
    small = {"logits": [0.5], "targets": [1]}
    with live_server(tmp_path, modules=Path(__file__).parent, losses="slow_loss:SLOW") as server:
        answers: list[int] = []

        def ask() -> None:
            answer = httpx.post(f"{server.url}/slow", content=file.getvalue(), headers=media, timeout=30)
            answers.append(answer.status_code)

        long = threading.Thread(target=ask)
        with httpx.Client(base_url=server.url) as kept:
            assert kept.post("/bce", json=small).status_code == 200
            long.start()
            while "lossd_requests_in_flight 1.0" not in httpx.get(f"{server.url}/metrics").text:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            while (told := kept.post("/bce", json=small)).status_code == 200:  # on a connection of before
                time.sleep(0.01)
            new = httpx.post(f"{server.url}/v2/models/bce/infer", json={})
            ready = httpx.get(f"{server.url}/readyz")
            assert long.is_alive()
        assert (told.status_code, told.json()["code"]) == (503, "draining")
        assert told.headers["connection"] == "close"
        assert int(told.headers["retry-after"]) > 0
        assert (new.status_code, new.headers["lossd-code"]) == (503, "draining")
        assert ready.status_code == 503
        long.join()
        assert answers == [200]
        assert server.process.wait(20) == 0
