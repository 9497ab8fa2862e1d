"""lossd on Ray Serve: the contract, and what callers notice of ends, scaling and new versions."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from engines.serve.load import Outcome, truth, under_load
from engines.serve.serve_cluster import MEMORY, ROOT, ServeCluster, serve_cluster
from live_server import live_server
from lossd_client import LossClient, Retry

if TYPE_CHECKING:
    from ray.serve import Application

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*", "ignore::ResourceWarning"),
    pytest.mark.timeout(240),
]

AWAY = ("test_teams.py", "test_usage.py")
"""Files that start servers of their own."""
OTHERS = (
    # The HTTP server is uvicorn behind HAProxy, not lossd's: heads that are refused, and the words of it.
    "test_http.py",
    "test_problems.py::test_bytes_that_are_not_http_get_a_problem",
    # It reads until the connection ends, which HAProxy keeps; see `test_a_huge_body_is_refused_unread`.
    "test_problems.py::test_a_huge_content_length_is_refused_unread",
)
"""What is not the application's."""
PYTHON = ROOT / ".venv/bin/python"  # which has what the contract's tests need


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServeCluster]:
    with serve_cluster(ray_cores=0.5) as running:
        yield running


@pytest.fixture(scope="module")
def served(cluster: ServeCluster) -> ServeCluster:
    """The cluster with one replica of the application."""
    cluster.run(application(1))
    return cluster


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    with live_server(tmp_path_factory.mktemp("native"), threads=1) as native:
        return truth(native.url)


def application(least: int, most: int | None = None, **autoscaling: float) -> Application:
    """The application with so many replicas, or between so many."""
    from lossd.ray_serve import RayOptions, deployment

    options = RayOptions(min_replicas=least, max_replicas=most or least)
    made = deployment(options)
    if autoscaling:
        config = {"min_replicas": least, "max_replicas": most, **autoscaling}
        made = made.options(autoscaling_config=config)
    return made.bind()


def check(outcome: Outcome, least: int = 10) -> None:
    assert not outcome.failures, outcome.failures[:3]
    assert not outcome.wrong
    assert outcome.answered >= least


@pytest.mark.timeout(600)
def test_the_contract(served: ServeCluster) -> None:
    files = sorted(path.name for path in (ROOT / "tests/contract").glob("test_*.py"))
    kept = [f"tests/contract/{name}" for name in files if name not in (*AWAY, *OTHERS)]
    skipped = [f"--deselect=tests/contract/{name}" for name in OTHERS if "::" in name]
    python = str(PYTHON) if PYTHON.exists() else sys.executable
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *skipped, *kept],
        cwd=ROOT,
        env={**os.environ, "LOSSD_TEST_URL": served.url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def test_one_request_id_the_callers_or_a_new_one(served: ServeCluster) -> None:
    body = {"logits": [1.0], "targets": [1.0]}
    for given in ("mine-7", "not well formed"):
        answer = httpx.post(f"{served.url}/bce", json=body, headers={"x-request-id": given})
        (found,) = answer.headers.get_list("x-request-id")
        assert answer.json()["request_id"] == found
        assert (found == given) == (given == "mine-7")


def test_a_huge_body_is_refused_unread(served: ServeCluster) -> None:
    head = "POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
    head += f"Content-Length: {1 << 40}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as caller:
        caller.sendall(head.encode())
        answer = caller.recv(1 << 16)
        while b"body_too_large" not in answer:
            more = caller.recv(1 << 16)
            assert more
            answer += more
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_is_not_read_before_there_is_a_permit_for_it(served: ServeCluster) -> None:
    """Serve's own way reads it whole, into the replica's memory; a caller cannot ask for that."""
    length = 200 << 20
    head = f"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nContent-Length: {length}\r\n"
    head += "X-Request-Disconnect-Disabled: ?0\r\n\r\n"
    with LossClient(served.url) as client:
        worker = client.info()["workers"][0]["pid"]
    first = threading.Thread(target=_post_zeros, args=(served.url, 1 << 17))  # all permits
    os.kill(worker, signal.SIGSTOP)
    try:
        first.start()
        time.sleep(2)
        with socket.create_connection(("127.0.0.1", served.port)) as caller:
            caller.sendall(head.encode())
            caller.settimeout(2)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < length:
                    sent += caller.send(bytes(1 << 20))
        assert sent < 32 << 20  # what is in buffers of sockets, and HAProxy's
    finally:
        os.kill(worker, signal.SIGCONT)
        first.join()


def _post_zeros(url: str, rows: int) -> None:
    zeros = np.zeros((rows, 80), np.float32)
    with LossClient(url, retry=None, request_bytes=1 << 30) as client:
        assert client.bce(zeros, zeros).count == zeros.size


def test_a_killed_worker_is_not_noticed(served: ServeCluster, right: list[float]) -> None:
    with under_load(served.url, right, retry=None) as outcome:
        for _ in range(3):
            time.sleep(1)
            with LossClient(served.url) as client:
                worker = client.info()["workers"][0]
            if worker["state"] == "ready":
                os.kill(int(worker["pid"]), signal.SIGKILL)
        time.sleep(2)
    check(outcome)


def test_a_killed_replica_costs_only_what_it_had(cluster: ServeCluster, right: list[float]) -> None:
    cluster.run(application(2))
    cluster.wait(lambda: len(cluster.replicas()) == 2)
    with under_load(cluster.url, right, Retry()) as outcome:
        time.sleep(2)
        killed = cluster.replicas()[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        cluster.wait(lambda: _others(cluster, killed) == 2)
        time.sleep(2)
    check(outcome)


def test_a_killed_node_costs_only_what_it_had(cluster: ServeCluster, right: list[float]) -> None:
    node = cluster.cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
    cluster.run(application(3))
    cluster.wait(lambda: len({each["node_id"] for each in cluster.replicas()}) == 2)
    with under_load(cluster.url, right, Retry()) as outcome:
        time.sleep(1)
        cluster.cluster.remove_node(node, allow_graceful=False)
        cluster.wait(lambda: len({each["node_id"] for each in cluster.replicas()}) == 1)
        time.sleep(3)
    check(outcome)


def test_replicas_follow_what_is_under_way(cluster: ServeCluster, right: list[float]) -> None:
    quick = {"upscale_delay_s": 1.0, "downscale_delay_s": 3.0, "look_back_period_s": 2.0}
    cluster.run(application(1, 2, target_ongoing_requests=1.0, metrics_interval_s=0.5, **quick))
    cluster.wait(lambda: len(cluster.replicas()) == 1)
    with under_load(cluster.url, right, retry=None) as outcome:
        cluster.wait(lambda: len(cluster.replicas()) == 2)
    with LossClient(cluster.url, retry=None) as client:
        while len(cluster.replicas()) == 2:
            assert float(client.bce([1.0], [1.0]).loss) > 0
            time.sleep(0.1)
    check(outcome)


def test_a_new_version_is_not_noticed(cluster: ServeCluster, right: list[float]) -> None:
    cluster.run(application(1))
    cluster.wait(lambda: len(cluster.replicas()) == 1)
    (before,) = (each["pid"] for each in cluster.replicas())
    with under_load(cluster.url, right, Retry()) as outcome:
        cluster.run(application(1))
        cluster.wait(lambda: _others(cluster, before) == 1 and _ended(before))
        time.sleep(1)
    check(outcome)


def _others(cluster: ServeCluster, pid: int) -> int:
    return len([each for each in cluster.replicas() if each["pid"] != pid])


def _ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_serve_build_writes_the_application(cluster: ServeCluster, tmp_path: Path) -> None:
    done, text = build(tmp_path, LOSSD_RAY_MAX_REPLICAS="4", LOSSD_API_KEY="secret", LOSSD_THREADS="3")
    assert done.returncode == 0
    (found,) = yaml.safe_load(text)["applications"][0]["deployments"]
    assert found["autoscaling_config"]["max_replicas"] == 4
    assert found["ray_actor_options"]["runtime_env"]["env_vars"]["LOSSD_THREADS"] == "3"
    assert "secret" not in text


def test_serve_build_writes_no_password_and_says_so(tmp_path: Path) -> None:
    given = {
        "LOSSD_QUOTA_STORE": "redis://:secret@host:6379/0",
        "LOSSD_USAGE_FILE": "postgresql://lossd:secret@host/lossd",
    }
    done, text = build(tmp_path, **given)
    assert done.returncode == 0
    assert "secret" not in text + done.stderr
    assert "LOSSD_QUOTA_STORE and LOSSD_USAGE_FILE must be set" in done.stderr
    (found,) = yaml.safe_load(text)["applications"][0]["deployments"]
    variables = found["ray_actor_options"]["runtime_env"]["env_vars"]

    from lossd.api.embedded import StartError
    from lossd.ray_serve import check_node

    with pytest.raises(StartError, match="LOSSD_QUOTA_STORE must be set"):
        check_node({**variables, "LOSSD_USAGE_FILE": given["LOSSD_USAGE_FILE"]})
    check_node({**variables, **given})
    _, text = build(tmp_path, LOSSD_USAGE_FILE="/var/lib/lossd/usage.sqlite3")
    assert "/var/lib/lossd/usage.sqlite3" in text


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"LOSSD_RAY_CORE": "4"},
            "LOSSD_RAY_CORE is no setting; did you mean LOSSD_RAY_CORES? rename it, or unset it",
        ),
        (
            {"LOSSD_TEAM": "/x"},
            "LOSSD_TEAM is no setting; did you mean LOSSD_TEAMS? rename it, or unset it",
        ),
        (
            {"LOSSD_RAY_CORES": "two"},
            "LOSSD_RAY_CORES=two: Input should be a valid number, unable to parse string as a number",
        ),
        (
            {"LOSSD_RAY_MIN_REPLICAS": "4", "LOSSD_RAY_MAX_REPLICAS": "2"},
            "LOSSD_RAY_MIN_REPLICAS is 4, more than LOSSD_RAY_MAX_REPLICAS, 2; lower one or raise the other",
        ),
    ],
)
def test_a_wrong_option_is_one_line(variables: dict[str, str], told: str, tmp_path: Path) -> None:
    done, _ = build(tmp_path, **variables)
    assert done.returncode != 0
    assert done.stderr.splitlines() == [f"Error: {told}"]


def build(folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run `serve build`; return how it ended, and what it wrote."""
    out = folder / "serve.yaml"
    command = [str(Path(sys.executable).with_name("serve")), "build", "lossd.ray_serve:app", "-o", str(out)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment | variables, capture_output=True, text=True
    )
    return done, out.read_text() if out.exists() else ""


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"RAY_SERVE_ENABLE_HA_PROXY": "0"}, "RAY_SERVE_ENABLE_HA_PROXY=1"),
        ({"RAY_SERVE_ENABLE_HA_PROXY": "1"}, None),
        ({"LOSSD_RAY_SLOW_PROXY": "1"}, None),
    ],
)
def test_the_slow_proxy_is_refused_unless_it_is_meant(variables: dict[str, str], text: str | None) -> None:
    from lossd.api.embedded import StartError
    from lossd.ray_serve import check_ingress

    if text is None:
        check_ingress(variables)
    else:
        with pytest.raises(StartError, match=text):
            check_ingress(variables)


def test_a_replica_without_teams_wants_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossd.api.embedded import StartError
    from lossd.ray_serve import replica_settings

    for name in ("LOSSD_ALLOW_OPEN", "LOSSD_DEVICE", "LOSSD_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StartError, match="LOSSD_ALLOW_OPEN=1"):
        replica_settings({"CPU": 3.0})
    monkeypatch.setenv("LOSSD_ALLOW_OPEN", "1")
    settings = replica_settings({"CPU": 3.0})
    assert (settings.device, settings.threads) == (("cpu",), 3)
    assert replica_settings({"CPU": 0.5, "GPU": 1.0}).device == ("auto",)
