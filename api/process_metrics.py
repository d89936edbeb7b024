"""Metrics of several processes as one: counts and times from the files that each writes, CPU and memory from /proc.

`vss serve` makes a folder (`api.run_folder`). Where several processes count it names it in `PROMETHEUS_MULTIPROC_DIR`
too, which prometheus_client reads when it is imported. One process alone counts in its memory, which costs less.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

SHARED = "PROMETHEUS_MULTIPROC_DIR"

RESERVED = {"counter": 1 << 18, "histogram": 1 << 20, "gauge_livesum": 1 << 16}
"""Bytes of the files that a process counts in."""


def reserve(folder: str) -> None:
    """Let the disk give this process its files now, before anything counts.

    prometheus_client maps files with holes in them: writing into a hole on a full disk kills it (SIGBUS).
    OSError where there is no room.
    """
    for kind, size in RESERVED.items():
        handle = os.open(Path(folder) / f"{kind}_{os.getpid()}.db", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)


def merged(folder: str, *others: Collector) -> CollectorRegistry:
    """What all processes of the folder have counted, and what other collectors give."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    for one in others:
        registry.register(one)
    return registry


class Processes(Collector):
    """CPU seconds and resident bytes of each process; of one that was started again they begin anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> list[Metric]:
        """Nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        labels = ["role", "process"]
        seconds = CounterMetricFamily("vss_process_cpu_seconds", "User and system time of a process.", labels=labels)
        resident = GaugeMetricFamily("vss_process_resident_bytes", "Resident memory of a process.", labels=labels)
        for path in sorted(self._folder.glob("*.process")):
            try:
                role, name = path.read_text().split()
                used, pages = _usage(int(path.stem))
            except (OSError, ValueError):
                continue  # it has just ended
            seconds.add_metric([role, name], used)
            resident.add_metric([role, name], pages * os.sysconf("SC_PAGE_SIZE"))
        yield from (seconds, resident)


def _usage(pid: int) -> tuple[float, int]:
    """Seconds and pages (proc_pid_stat(5)); the name in the second field may hold spaces and brackets."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21])
