"""The part of the machine that this process may use.

Limits are those of its cgroup and of the cgroups around it, of version 2 and of version 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
"""The mount point of cgroups."""
MEMBERSHIP: Final = Path("/proc/self/cgroup")
"""The file that names this process's cgroups."""
MEMORY: Final = Path("/proc/meminfo")
_total: Final = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def available_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the whole cores that this process may use, at least 1, by its affinity and its quotas."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, core_quota(cgroups, membership))))


def core_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """Return the cores, or the part of one, that this process's cgroups allow; infinite without a quota."""
    quotas = [float("inf")]
    for group in _groups(cgroups, membership, ""):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    for group in _groups(cgroups, membership, "cpu"):
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    return min(quotas)


def available_memory(
    cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP, memory: Path = MEMORY
) -> int | None:
    """Return the bytes of memory that this process may use, of the machine's; None if unknown."""
    total = _total.search(_read(memory))
    limits = [1024 * int(total[1])] if total else []
    limits += _numbers(cgroups, membership, "", "memory.max")
    limits += _numbers(cgroups, membership, "memory", "memory.limit_in_bytes")
    return min(limits, default=None)


def available_tasks(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return the processes and threads that this process's cgroups may have; None without a limit."""
    own = _numbers(cgroups, membership, "", "pids.max")
    return min([*own, *_numbers(cgroups, membership, "pids", "pids.max")], default=None)


def _numbers(cgroups: Path, membership: Path, controller: str, name: str) -> list[int]:
    """Return the numbers in a file of each of its cgroups; some have none, or ``max``."""
    found = (_read(group / name) for group in _groups(cgroups, membership, controller))
    return [int(text) for text in found if text.isdecimal()]


def _groups(cgroups: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of its cgroup and of those around it.

    Args:
        cgroups: The mount point of cgroups.
        membership: The file that names this process's cgroups.
        controller: The controller, of version 1; empty for version 2.
    """
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        top = cgroups / controller
        group = top / path.lstrip("/")  # in a container often the host's path, and only `top` is there
        yield from (each for each in (group, *group.parents) if each.is_relative_to(top))


def _read(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
