"""The part of the machine that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cores(cgroups: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores it may use, by its affinity and the quotas of its cgroup and its parents.

    Args:
        cgroups: The mount point of cgroups (version 2).
        membership: The file that names this process's cgroup.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return cores
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = cgroups / own.lstrip("/")
    while group.is_relative_to(cgroups):
        try:
            quota, period = (group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota, period = "max", ""
        if quota != "max":
            cores = min(cores, int(quota) // int(period))
        if group == cgroups:
            break
        group = group.parent
    return max(1, cores)
