from __future__ import annotations

import os
from pathlib import Path

import pytest

from lossd.engine.supervisor.devices import slice_elements
from lossd.machine import available_cores, available_memory, available_tasks, core_quota

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("own", "around", "expected"),
    [
        ("max 100000", "max 100000", CORES),
        ("100000 100000", "max 100000", 1),
        ("max 100000", "150000 100000", 1),
        ("50000 100000", "max 100000", 1),  # half a core is one thread
        ("100000000 100000", "max 100000", CORES),
        (None, None, CORES),
    ],
)
def test_a_quota_of_the_cgroup_counts(
    tmp_path: Path, own: str | None, around: str | None, expected: int
) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/outer/inner\n")
    cgroups = tmp_path / "cgroups"
    (cgroups / "outer/inner").mkdir(parents=True)
    for quota, folder in ((own, "outer/inner"), (around, "outer")):
        if quota is not None:
            (cgroups / folder / "cpu.max").write_text(f"{quota}\n")
    assert available_cores(cgroups, membership) == expected


def test_where_there_are_no_cgroups(tmp_path: Path) -> None:
    assert available_cores(tmp_path, tmp_path / "none") == CORES
    assert core_quota(tmp_path, tmp_path / "none") == float("inf")
    assert available_memory(tmp_path, tmp_path / "none", tmp_path / "none") is None
    assert available_tasks(tmp_path, tmp_path / "none") is None


def folders(tmp_path: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write a tree of cgroups, and the file that names a process's."""
    for name, text in files.items():
        file = tmp_path / "cgroups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    (tmp_path / "membership").write_text(membership)
    return tmp_path / "cgroups", tmp_path / "membership"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "max"}, 8 << 20),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "4194304"}, 4 << 20),
        ("0::/a/b\n", {"a/b/memory.max": "2097152", "a/memory.max": "4194304"}, 2 << 20),
        ("0::/\n", {"memory.max": "2097152"}, 2 << 20),  # as in a container
        ("0::/a/b\n", {"a/b/memory.max": "99999999999"}, 8 << 20),  # the machine has less
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "2097152"}, 2 << 20),
        ("4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 8 << 20),
        ("4:memory:/not/here\n", {"memory/memory.limit_in_bytes": "2097152"}, 2 << 20),
    ],
)
def test_memory_is_the_least_of_its_limits(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal:        8192 kB\nMemFree:         1024 kB\n")
    assert available_memory(*folders(tmp_path, membership, files), machine) == expected


def test_quotas_and_tasks_of_both_versions(tmp_path: Path) -> None:
    files = {"a/cpu.max": "50000 100000", "a/pids.max": "max", "pids.max": "20"}
    assert core_quota(*folders(tmp_path, "0::/a\n", files)) == 0.5
    assert available_tasks(*folders(tmp_path, "0::/a\n", files)) == 20
    old = {"cpu/b/cpu.cfs_quota_us": "25000", "cpu/b/cpu.cfs_period_us": "100000", "pids/b/pids.max": "7"}
    assert core_quota(*folders(tmp_path, "1:cpu:/b\n2:pids:/b\n", old)) == 0.25
    assert available_tasks(*folders(tmp_path, "1:cpu:/b\n2:pids:/b\n", old)) == 7
    old["cpu/b/cpu.cfs_quota_us"] = "-1"
    assert core_quota(*folders(tmp_path, "1:cpu:/b\n", old)) == float("inf")


def test_slices_are_as_long_as_every_worker_can_do_with() -> None:
    assert slice_elements(["cpu"], 4, 1000) == 4000
    assert slice_elements(["cuda:0", "cpu"], 4, 1000) == 4000
    assert slice_elements(["cuda:0", "cuda:1"], 4, 1000) == 128_000
