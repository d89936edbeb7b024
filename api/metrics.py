"""What `/metrics` shows: base units, no ids and no queries in labels. Figures are of all processes of the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api import run_folder
from api.process_metrics import SHARED, Processes, merged, reserve
from api.wire.collections import indexed
from vss.engines.health import health
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.jobs.scrub import SCRUBBED
from vss.storage.catalog import Entry
from vss.storage.commit import Commit
from vss.storage.sqlite import storage_errors

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The measures of one process, in a registry of their own; `show` gives those of all processes."""

    def __init__(self, engine: LocalEngine) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        if SHARED in os.environ:
            with storage_errors(Path(os.environ[SHARED])):
                reserve(os.environ[SHARED])
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._others: list[Collector] = [_Collections(engine)]
        if run_folder.VARIABLE in os.environ:
            self._others.append(Processes(Path(os.environ[run_folder.VARIABLE])))
        for one in self._others:
            self.registry.register(one)
        self.requests = Counter(
            "vss_http_requests_total", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "vss_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "vss_inflight_requests", "Requests being answered.", registry=self.registry, multiprocess_mode="livesum"
        )
        self.commit_seconds = Histogram(
            "vss_commit_duration_seconds", "Transactions of writes.", buckets=_SECONDS, registry=self.registry
        )
        self.commit_writes = Histogram(
            "vss_commit_writes",
            "Writes that shared a transaction.",
            buckets=(0, 1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self.commit_waits = Histogram(
            "vss_commit_wait_commits",
            "Transactions from the queueing of a write until it was on disk, its own included.",
            buckets=(1, 2, 3, 4, 6, 8, 16),
            registry=self.registry,
        )
        engine.observe = self._committed
        self.search_seconds = Histogram(
            "vss_search_duration_seconds",
            "Stages of searches: embed, ann, rerank, diversify, fetch.",
            ("collection", "stage"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.short = Counter(
            "vss_search_short_results_total",
            "Searches that found fewer points than asked for.",
            ("collection",),
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "vss_rerank_fallback_total",
            "Re-rankings that kept the similarity order.",
            ("reason",),
            registry=self.registry,
        )

    def _committed(self, commit: Commit) -> None:
        self.commit_seconds.observe(commit.seconds)
        self.commit_writes.observe(len(commit.waits))
        for commits in commit.waits:
            self.commit_waits.observe(commits)

    def show(self) -> bytes:
        """The text that Prometheus reads: of this process, or of all that share a folder for it."""
        folder = os.environ.get(SHARED)
        return generate_latest(merged(folder, *self._others) if folder else self.registry)

    @contextmanager
    def stage(self, collection: str, name: str) -> Iterator[None]:
        """Observe how long a stage takes, when it succeeds."""
        started = perf_counter()
        yield
        self.search_seconds.labels(collection, name).observe(perf_counter() - started)


class _Collections(Collector):
    """Sizes of the collections, read when they are asked for."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        points = GaugeMetricFamily("vss_index_vectors", "Points of a collection.", labels=["collection"])
        unindexed = GaugeMetricFamily(
            "vss_index_unindexed_vectors", "Points without a calibrated index.", labels=["collection"]
        )
        backlog = GaugeMetricFamily(
            "vss_write_backlog_vectors",
            "Points that a fold would give an index; past VSS_MAX_UNINDEXED writes get 429.",
            labels=["collection"],
        )
        live = GaugeMetricFamily("vss_live_operations", "Operations that no segment covers.", labels=["collection"])
        generation = GaugeMetricFamily("vss_index_generation", "The current generation.", labels=["collection"])
        unreadable = GaugeMetricFamily(
            "vss_collection_unreadable", "1 when a collection is damaged and refuses queries.", labels=["collection"]
        )
        refusing = GaugeMetricFamily(
            "vss_collection_read_only", "1 when the disk does not take a collection's writes.", labels=["collection"]
        )
        damaged = GaugeMetricFamily(
            "vss_collection_damaged_parts", "Indexes and columns that wait to be built again.", labels=["collection"]
        )
        refused = GaugeMetricFamily(
            "vss_index_builds_refused",
            "Builds in a row whose answers were not good enough; the generation before them is served.",
            labels=["collection"],
        )
        scrubbed = GaugeMetricFamily(
            "vss_collection_scrubbed_timestamp_seconds",
            "When every file was read again and compared with its checksum.",
            labels=["collection"],
        )
        for entry in self._entries():
            with suppress(OSError):
                moment = (self._engine.data.collection(entry.id) / SCRUBBED).stat().st_mtime
                scrubbed.add_metric([entry.name], moment)
            found = health(self._engine, entry.name)
            unreadable.add_metric([entry.name], found.unreadable is not None)
            refusing.add_metric([entry.name], found.refusing is not None)
            damaged.add_metric([entry.name], len(found.damage))
            refused.add_metric([entry.name], found.refused.builds if found.refused else 0)
            try:
                collection = self._engine.collection(entry.name)
                view = collection.view()
            except VssError:
                continue
            points.add_metric([entry.name], view.points)
            unindexed.add_metric([entry.name], max(0, view.points - indexed(view)))
            backlog.add_metric([entry.name], collection.backlog())
            live.add_metric([entry.name], collection.live_size[0])
            generation.add_metric([entry.name], view.generation)
        yield from (points, unindexed, backlog, live, generation, unreadable, refusing, damaged, refused, scrubbed)

    def _entries(self) -> list[Entry]:
        try:
            return self._engine.entries()
        except VssError:
            return []  # /readyz says why
