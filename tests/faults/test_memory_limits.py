"""A server in a real cgroup with little memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from faults.asked import pair_body
from live_server import live_server

MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")
KINDS = {(CGROUPS, "memory.max"): "", (CGROUPS / "memory", "memory.limit_in_bytes"): "memory"}


@contextmanager
def limited(nbytes: int) -> Iterator[None]:
    """Put this process, and so those that it starts, into a cgroup; skip the test where that may not be."""
    for (top, limit), version in KINDS.items():
        memberships = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
        own = [path for _, names, path in memberships if version in names.split(",")]
        group = top / f"lossd-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
        if own and (group / limit).exists():
            break
        with suppress(OSError):
            group.rmdir()  # an ordinary folder, or one without this controller
    else:
        pytest.skip("no cgroup with a memory limit can be made here")
    try:
        (group / limit).write_text(str(nbytes))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (top / own[0].lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()


def test_the_arena_fits_into_the_cgroup(tmp_path: Path) -> None:
    with (
        limited(512 * MIB),
        live_server(tmp_path) as server,
        httpx.Client(base_url=server.url, headers={"content-type": "application/x-npy"}) as client,
    ):
        log = server.log.read_text()
        assert "the arena has 256 MiB instead of 2048, since there are 512 MiB of memory" in log
        assert server.info()["limits"]["body_bytes"] == 128 * MIB  # type: ignore[index] # an object
        for _ in range(3):  # 640 MB in all, each of them nearly as large as may be
            answer = client.post("/bce", content=pair_body(330_000), timeout=60)
            assert answer.status_code == 200


def test_what_was_given_is_doubted(tmp_path: Path) -> None:
    with limited(512 * MIB), live_server(tmp_path, arena_bytes=2048 * MIB) as server:
        assert (
            "of 2048 MiB and 110 MiB for the processes do not fit into the 512 MiB" in server.log.read_text()
        )
