"""A Ray cluster on loopback: a head and two more nodes, whose processes are gone at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 200 << 20  # of a node's object store


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """Start it, and connect to it."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short: a socket's path has 107 bytes at most
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": folder,
        # A process takes seconds to start where others compute: those that are there go on being used.
        "RAY_idle_worker_killing_time_threshold_ms": "600000",
        "HOME": folder,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "service", ROOT / "client", ROOT / "tests"))),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
        )
        try:
            for _ in range(2):
                add_node(cluster)
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            left = wait_for_end(folder)
            shutil.rmtree(folder, ignore_errors=True)
    assert not left


def add_node(cluster: Cluster) -> None:
    """Add a node; its GPU is a name, for actors that ask for one."""
    cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=MEMORY)


def wait_for_end(folder: str) -> list[int]:
    """Wait until no process names a folder on its command line; return those that still do."""
    until = time.monotonic() + 30
    while (left := named(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def named(folder: str) -> list[int]:
    """Return the processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
