"""How many processor cores this process may use: what threads default to."""

from __future__ import annotations

import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Where control groups (version 2) are mounted. In a container it is the container's own group."""

GROUP_OF_PROCESS = Path("/proc/self/cgroup")


def usable_cores(groups: Path = GROUPS, group_of_process: Path = GROUP_OF_PROCESS) -> int:
    """Cores of the affinity, and no more than the CPU quota of the control group and of those above it, rounded up.

    A container's CPU limit is such a quota: the affinity does not show it, and more threads than that only wait
    for each other while the group is throttled. (https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max)
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota(folder / "cpu.max") for folder in _folders(groups, group_of_process)]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _folders(groups: Path, group_of_process: Path) -> list[Path]:
    """The group of this process and those above it."""
    try:
        lines = group_of_process.read_text().splitlines()
    except OSError:
        return [groups]
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    # A path that leads out of the namespace ("/../x") names groups that cannot be seen from here.
    names = [name for name in own.split("/") if name not in {"", ".."}]
    return [groups.joinpath(*names[:depth]) for depth in range(len(names) + 1)]


def _quota(file: Path) -> float | None:
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such group, or "max 100000": no limit
        return None
