from __future__ import annotations

import os
from pathlib import Path

import pytest

from lossd.engine.supervisor.devices import slice_elements
from lossd.machine import available_cores

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


def test_slices_are_as_long_as_every_worker_can_do_with() -> None:
    assert slice_elements(["cpu"], 4, 1000) == 4000
    assert slice_elements(["cuda:0", "cpu"], 4, 1000) == 4000
    assert slice_elements(["cuda:0", "cuda:1"], 4, 1000) == 128_000
