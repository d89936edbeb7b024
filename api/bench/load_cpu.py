"""The CPU time of a server: of all its processes, found through /proc, by what each is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from vss.errors import Code, VssError

PROC = Path("/proc")
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> dict[str, float]:
    """User and system seconds of a process and all below it, by role; ended children count for whoever waited.

    The kernel counts in ticks, usually of 10 ms. VssError (UNAVAILABLE) when the process is not there.
    """
    stats = dict(_stats())
    if pid not in stats:
        raise VssError(Code.UNAVAILABLE, f"there is no process {pid}", field="--pid")
    below: dict[int, list[int]] = {}
    for child, (parent, _) in stats.items():
        below.setdefault(parent, []).append(child)
    seconds: dict[str, float] = {}
    left = [pid]
    while left:
        one = left.pop()
        left += below.get(one, [])
        role = role_of(one)
        seconds[role] = seconds.get(role, 0.0) + stats[one][1] * TICK_SECONDS
    return seconds


def role_of(pid: int) -> str:
    """What a process of ours is, by its command line: the module after -m and what stands behind it without a dash."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone"
    for flag, module in pairwise(words):
        if flag == "-m":
            return module
    return Path(words[0]).name


def _stats() -> Iterator[tuple[int, tuple[int, int]]]:
    """Each process: its parent, and the ticks that it and its ended children have used. See proc_pid_stat(5)."""
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue
        # The name stands in brackets and may hold anything; the fields begin behind the last one.
        fields = text.rpartition(")")[2].split()
        yield int(folder.name), (int(fields[1]), sum(map(int, fields[11:15])))
