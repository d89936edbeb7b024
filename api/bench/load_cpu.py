"""What a server uses: CPU time and memory of all its processes, found through /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vss.errors import Code, VssError

PROC = Path("/proc")
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> dict[str, float]:
    """User and system seconds of a process and all below it, by role; ended children count for whoever waited.

    The kernel counts in ticks, usually of 10 ms. VssError (UNAVAILABLE) when the process is not there.
    """
    stats = dict(_stats())
    seconds: dict[str, float] = {}
    for one in _tree(pid, stats):
        role = role_of(one)
        seconds[role] = seconds.get(role, 0.0) + stats[one][1] * TICK_SECONDS
    return seconds


def role_of(pid: int) -> str:
    """What a process of ours is: the role that its supervisor gave it, else the module that it runs."""
    try:
        environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has ended, or is somebody else's
        return "unknown"
    for line in environment:
        if line.startswith(b"VSS_ROLE="):
            return line.partition(b"=")[2].decode(errors="replace")
    if "-m" in words[:-2]:
        module, argument = words[words.index("-m") + 1 :][:2]
        return argument if module == "api.cli" else module.rpartition(".")[2]
    return Path(words[0]).name


def resident_bytes(pid: int) -> int:
    """Memory of a process and all below it, shared pages counted once. VssError (UNAVAILABLE) when it is not there."""
    kilobytes = 0
    for one in _tree(pid, dict(_stats())):
        try:
            lines = (PROC / str(one) / "smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes * 1024


def listeners(port: int) -> int:
    """How many sockets listen at a TCP port of this machine, IPv4."""
    lines = (PROC / "net" / "tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return sum(one[3] == "0A" and int(one[1].rpartition(":")[2], 16) == port for one in fields)


def _tree(pid: int, stats: dict[int, tuple[int, int]]) -> Iterator[int]:
    if pid not in stats:
        raise VssError(Code.UNAVAILABLE, f"there is no process {pid}", field="--pid")
    below: dict[int, list[int]] = {}
    for child, (parent, _) in stats.items():
        below.setdefault(parent, []).append(child)
    left = [pid]
    while left:
        one = left.pop()
        left += below.get(one, [])
        yield one


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
