"""What the chart promises of pods: servers of this machine, with a pod's environment, in their place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from certificates import make_certificate
from deploy.rendering import MANIFESTS, Object, container, environment, of_kind, variant
from live_server import LiveServer
from lossd_client import LossClient
from lossd_client.local import free_port
from teams_file import make_key, team_table, write_teams

KEY = make_key()
SENT = {"logits": [0.5, -1.0], "targets": [1, 0]}


class Pod(LiveServer):
    """A server with a pod's environment, its ports of this machine and its volumes in a folder.

    Attributes:
        admin: Where its admin listener is.
        grace: Seconds that it has from SIGTERM until it would be killed.
    """

    admin: str
    grace: int

    def delete(self) -> None:
        """End it as a kubelet does; it must not be killed."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(self.grace) == 0, self.log.read_text()


def base() -> Object:
    """The Deployment of the manifests, which is the chart's with its own values."""
    return of_kind(list(yaml.safe_load_all((MANIFESTS / "base/lossd.yaml").read_text())), "Deployment")


@contextmanager
def pod(folder: Path, deployment: Object, ports: tuple[int, int] | None = None) -> Iterator[Pod]:
    """Start a pod of a Deployment, once its volumes are in the folder.

    Args:
        folder: Where its volumes and its log are.
        deployment: The Deployment.
        ports: Where it listens, and its admin listener; free ones if none are given.
    """
    of = container(deployment)
    mounts = {mount["mountPath"]: folder / mount["name"] for mount in of["volumeMounts"]}
    for place in mounts.values():
        place.mkdir(parents=True, exist_ok=True)
    given = {}
    for name, text in environment(of).items():
        parent = next((path for path in mounts if text.startswith(f"{path}/")), None)
        given[name] = text if parent is None else str(mounts[parent]) + text.removeprefix(parent)
    serves, admin = ports or (free_port(), free_port())
    given |= {"LOSSD_PORT": str(serves), "LOSSD_ADMIN_PORT": str(admin)}
    given |= {"LOSSD_HOST": "127.0.0.1", "LOSSD_ADMIN_HOST": "127.0.0.1"}  # all else as it is in a pod
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lossd", *of["args"]],
            env={**kept, "HOME": str(mounts["/tmp"]), **given},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    scheme = "https" if "LOSSD_TLS_KEY" in given else "http"
    server = Pod(process, f"{scheme}://127.0.0.1:{serves}", log)
    server.admin = f"http://127.0.0.1:{admin}"
    server.grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    server.verify = False
    try:
        wait_for(lambda: probe(server, of["startupProbe"]) == 200, 60, log)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(40)


def wait_for(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.05)


def probe(server: Pod, asked: Object) -> int:
    """The status that a kubelet's probe gets; 0 without an answer."""
    assert asked["httpGet"]["port"] == "admin"
    try:
        return httpx.get(
            f"{server.admin}{asked['httpGet']['path']}", timeout=asked["timeoutSeconds"]
        ).status_code
    except httpx.TransportError:
        return 0


def secret(folder: Path, *tables: str) -> None:
    """Write the teams' Secret as a kubelet does: a new folder, to which a link is turned."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"..{time.monotonic_ns()}"
    fresh.mkdir()
    write_teams(fresh / "teams.toml", *tables)
    (folder / "..data_tmp").symlink_to(fresh.name)
    (folder / "..data_tmp").replace(folder / "..data")
    if not (folder / "teams.toml").is_symlink():
        (folder / "teams.toml").symlink_to("..data/teams.toml")


def ask(server: Pod, key: str) -> int:
    return httpx.post(f"{server.url}/bce", json=SENT, headers={"x-api-key": key}, verify=False).status_code


@pytest.mark.slow
def test_a_pod_starts_answers_its_probes_reads_its_secret_again_and_keeps_usage(tmp_path: Path) -> None:
    secret(tmp_path / "teams", team_table("vision", KEY))
    of = container(base())
    with pod(tmp_path, base()) as server:
        assert {probe(server, of[name]) for name in ("startupProbe", "readinessProbe", "livenessProbe")} == {
            200
        }
        assert ask(server, KEY) == 200
        assert ask(server, "wrong") == 401
        later = make_key()
        secret(tmp_path / "teams", team_table("vision", later))
        wait_for(lambda: ask(server, later) == 200, 20, server.log)
        assert ask(server, KEY) == 401
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: probe(server, of["readinessProbe"]) == 503, 5, server.log)
        assert probe(server, of["livenessProbe"]) == 200
        assert ask(server, later) == 200  # for as long as others may still send it something
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(server.grace) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    refused = [line for line in lines if line["level"] in ("warning", "error")]
    assert {(line["event"], line.get("outcome")) for line in refused} == {("request", "unauthorized")}
    assert (tmp_path / "usage/usage.sqlite3").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open", "https", "settings", "no limit of processors"])
def test_every_variants_environment_starts_a_server(name: str, tmp_path: Path) -> None:
    rendered = variant(name)
    secret(tmp_path / "teams", team_table("vision", KEY))
    if name == "https":
        (tmp_path / "tls").mkdir()
        chain, key = make_certificate(tmp_path, "pod")
        shutil.copy(chain, tmp_path / "tls/tls.crt")
        shutil.copy(key, tmp_path / "tls/tls.key")
    with pod(tmp_path, of_kind(rendered, "Deployment")) as server:
        assert ask(server, "" if name == "open" else KEY) == 200
        command = of_kind(rendered, "Pod")["spec"]["containers"][0]["command"]
        assert command[:2] == ["python", "-c"]
        assert command[-1] == f"{server.url.partition(':')[0]}://lossd:8000/readyz"
        done = subprocess.run(
            [sys.executable, *command[1:-1], f"{server.url}/readyz"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.startswith("200 "), done.stderr
    said = server.log.read_text()
    assert "is ignored" not in said


HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend callers
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  option httpchk GET /readyz
  default-server inter {milliseconds} fall 1 rise 1
"""
PERIOD = 0.5
"""Seconds between two checks, which are as a readiness probe."""


@contextmanager
def service(folder: Path, pods: list[tuple[int, int]]) -> Iterator[str]:
    """Start HAProxy in the place of a Service: it sends requests to the pods that are ready; its address.

    Args:
        folder: Where its files go.
        pods: The ports of all pods that there will be, and of their admin listeners.
    """
    port = free_port()
    lines = [HAPROXY.format(port=port, milliseconds=int(PERIOD * 1000))]
    for index, (serves, admin) in enumerate(pods):
        lines.append(f"  server pod{index} 127.0.0.1:{serves} check port {admin}\n")
    (folder / "haproxy.cfg").write_text("".join(lines))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", "haproxy.cfg"], cwd=folder, stdout=log, stderr=log
        )
    try:
        time.sleep(3 * PERIOD)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


class Callers:
    """Threads that score again and again, while a ``with`` block lasts: every other one tries nothing twice.

    Args:
        url: Where.
        count: How many.

    Attributes:
        losses: What they got.
        errors: What failed.
    """

    def __init__(self, url: str, count: int) -> None:
        self.losses: list[object] = []
        self.errors: list[Exception] = []
        self._url = url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(each % 2 == 0,)) for each in range(count)]

    def _call(self, retries: bool) -> None:
        random = np.random.default_rng(0)
        logits = random.normal(0, 3, (256, 80)).astype(np.float32)
        targets = (random.random((256, 80)) < 0.05).astype(np.float32)
        options: dict[str, Any] = {} if retries else {"retry": None}
        with LossClient(self._url, api_key=KEY, **options) as client:
            while not self._ended.is_set():
                try:
                    self.losses.append(client.bce(logits, targets).loss)
                except Exception as error:  # whatever a caller sees is counted
                    self.errors.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def roll(folder: Path, deployment: Object) -> tuple[Callers, list[float]]:
    """Replace two pods under load, a new one before each old one: what callers saw, how long stops took."""
    names = ["old0", "old1", "new0", "new1"]
    ports = {name: (free_port(), free_port()) for name in names}
    took = []
    with ExitStack() as stack:

        def start(name: str) -> Pod:
            secret(folder / name / "teams", team_table("vision", KEY))
            return stack.enter_context(pod(folder / name, deployment, ports[name]))

        pods = [start("old0"), start("old1")]
        url = stack.enter_context(service(folder, list(ports.values())))
        with Callers(url, 4) as callers:
            time.sleep(1)
            for name in ("new0", "new1"):
                pods.append(start(name))
                time.sleep(2 * PERIOD)
                began = time.monotonic()
                pods.pop(0).delete()
                took.append(time.monotonic() - began)
            time.sleep(1)
    return callers, took


@pytest.mark.waits
@pytest.mark.timeout(300)
def test_a_rolling_update_under_load_fails_nobody(tmp_path: Path, say: Callable[[str], None]) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    deployment = base()
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    callers, took = roll(tmp_path, deployment)
    assert callers.errors == []
    assert len(set(callers.losses)) == 1
    assert len(callers.losses) > 100
    stops = " and ".join(f"{seconds:.1f}" for seconds in took)
    say(f"{len(callers.losses)} requests, 0 failed; pods took {stops} s to stop")
