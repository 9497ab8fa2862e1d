"""What this process has of the machine."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cores(cgroups: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """How many cores it may use: by its affinity, and by the quotas of its cgroup and those around it.

    Args:
        cgroups: Where cgroups (version 2) are mounted.
        membership: What says which one is this process's.
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
