"""A server in a real cgroup with little memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from faults.asked import pair_body
from live_server import LiveServer, live_server

MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")
KINDS = {(CGROUPS, "memory.max"): "", (CGROUPS / "memory", "memory.limit_in_bytes"): "memory"}


@contextmanager
def few(nbytes: int, folder: Path, **settings: object) -> Iterator[LiveServer]:
    """Start a server in a cgroup of its own; skip the test where none can be made."""
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
        with ExitStack() as stack:
            (group / "cgroup.procs").write_text(str(os.getpid()))  # a process starts in its parent's
            try:
                server = stack.enter_context(live_server(folder, **settings))  # type: ignore[arg-type]
            finally:
                (top / own[0].lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
            yield server
    finally:
        group.rmdir()


def test_the_arena_fits_into_the_cgroup(tmp_path: Path) -> None:
    with (
        few(512 * MIB, tmp_path) as server,
        httpx.Client(base_url=server.url, headers={"content-type": "application/x-npy"}) as client,
    ):
        log = server.log.read_text()
        assert "the arena has 256 MiB instead of 2048, since there are 512 MiB of memory" in log
        assert server.info()["limits"]["body_bytes"] == 128 * MIB  # type: ignore[index] # an object
        body = pair_body(200_000)
        assert 120 * MIB < len(body) < 128 * MIB
        for _ in range(3):
            assert client.post("/bce", content=body, timeout=60).status_code == 200


def test_what_was_given_is_doubted(tmp_path: Path) -> None:
    with few(512 * MIB, tmp_path, arena_bytes=2048 * MIB) as server:
        assert (
            "of 2048 MiB and 110 MiB for the processes do not fit into the 512 MiB" in server.log.read_text()
        )
