"""A Ray cluster on loopback whose Serve has its HAProxy ingress on, with nothing left behind at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lossd_client.local import free_port

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster
    from ray.serve import Application

ROOT = Path(__file__).resolve().parents[3]
MEMORY = 100 << 20  # of a node's object store
SECONDS = 60.0
PORTS = 40  # of replicas, which Serve takes one after the other


@dataclass
class ServeCluster:
    """A running cluster.

    Attributes:
        cluster: Ray's.
        port: Where HAProxy listens.
        folder: Where all its processes have their files.
    """

    cluster: Cluster
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, application: Application) -> None:
        """Deploy as `serve run` does, and wait until it answers."""
        from ray import serve

        serve.run(application, name="lossd", blocking=False)
        self.wait(self.answers)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def replicas(self) -> list[Any]:
        """The running replicas, as Serve's status has them."""
        from ray.serve._private.api import _get_global_client

        details = _get_global_client().get_serve_details()
        found = details["applications"].get("lossd", {}).get("deployments", {}).get("lossd", {})
        return [each for each in found.get("replicas", []) if each["state"] == "RUNNING"]

    def wait(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, "it did not come to that"
            time.sleep(0.1)


@contextmanager
def serve_cluster(**settings: object) -> Iterator[ServeCluster]:
    """Start a cluster of one node that has HAProxy, and deploy nothing.

    Args:
        settings: Of lossd, by name, in lower case and without ``LOSSD_``.
    """
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short: a socket's path has 107 bytes at most
    ha, first = f"{folder}/ha", 30_000 + os.getpid() % 200 * PORTS
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": folder,
        "HOME": folder,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "service", ROOT / "client", ROOT / "tests"))),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # 5 are too few for a busy machine: it is killed then
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{ha}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{ha}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": ha,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{ha}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{ha}/metrics.sock",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "10",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + PORTS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "LOSSD_ALLOW_OPEN": "1",
        "LOSSD_USAGE_FILE": f"{folder}/usage.sqlite3",
        "LOSSD_THREADS": "1",
        **{f"LOSSD_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("LOSSD_", "RAY_")):
                patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster

        head = {
            "num_cpus": 2,
            "object_store_memory": MEMORY,
            "include_dashboard": False,
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        port = free_port()
        try:
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
            http = {"host": "127.0.0.1", "port": port}
            serve.start(proxy_location="HeadOnly", http_options=http)
            yield ServeCluster(cluster, port, Path(folder))
            serve.shutdown()
        finally:
            ray.shutdown()
            cluster.shutdown()
            left = _wait_for_end(folder)
            shutil.rmtree(folder, ignore_errors=True)
    assert not left


def _wait_for_end(folder: str) -> list[int]:
    """Wait until no process names the folder in its environment; return those that still do."""
    ends = time.monotonic() + 30
    while (left := _named(folder)) and time.monotonic() < ends:
        time.sleep(0.1)
    return left


def _named(folder: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        try:
            if pid != os.getpid() and f"HOME={folder}\0".encode() in path.read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found
