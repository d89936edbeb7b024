"""The worker: folds the collections of a data directory by itself, one at a time, beside a server or alone.

What no retained generation names it collects, each time that a collection has a new one (`vss.jobs.collect`).

About once a second it asks each log whether anything was committed (one PRAGMA), and reads the manifest of a new
generation. `vss.storage.merge.due` says what needs a fold. No segment is opened before that.

What was built is published when it answers well enough (`storage.accept`). Where it does not, the current generation
goes on serving, and the same build is not tried again (`storage.refusals`).

A second thread reads every file again, slowly, once a day (`vss.jobs.scrub`). Indexes and columns that it, or any other
process, finds damaged are built again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vss.defaults import KEEP, MIN_RECALL
from vss.errors import Code, VssError
from vss.jobs.collect import collect, sweep_directory
from vss.jobs.remote import Writer
from vss.jobs.repair import rebuild
from vss.jobs.scrub import EVERY_SECONDS, paced, scrub
from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage.accept import Refused
from vss.storage.catalog import Catalog, Entry
from vss.storage.collection import Collection
from vss.storage.compact import compact
from vss.storage.damage import NOT_THERE, Stamp
from vss.storage.datadir import DataDir, WorkerLock
from vss.storage.manifest import Manifest, artifacts_of
from vss.storage.merge import UNINDEXED_ROWS, due, live_rows, survey, to_merge
from vss.storage.refusals import Refusals
from vss.types import Progress

log = logging.getLogger("vss.worker")

POLL_SECONDS = 1.0

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
"""How long a collection rests after a failed fold: doubled each time, up to this."""


REFUSED_SECONDS = 10.0
"""How often a collection is looked at whose last build was refused."""

BUSY_SECONDS = 10.0
"""Writes go on where a generation follows another within this time, and for as long after (`vss.storage.merge.due`)."""

BEHIND_ROWS = 3 * UNINDEXED_ROWS
"""Points that wait for an index and are scanned by every query, past which a build does not pause."""

LONGEST_REST_SECONDS = 5.0
"""How long a build pauses at most at a time."""


class Stopped(Exception):
    """The worker was told to stop in the middle of a fold."""


@dataclass(slots=True)
class _Watched:
    """What the worker knows of one collection.

    seen:  (data version, generation, schema) that needed nothing
    collected: generation up to which garbage was collected
    met:   the generation that was found last, and when (`time.monotonic`)
    busy:  moment until which its collection is being written
    again: moment (`time.monotonic`) before which it is left alone
    mended: the list of damaged files that was dealt with
    """

    collection: Collection | None = None
    version: int = -1
    collected: int = 0
    met: tuple[int, float] = (0, -BUSY_SECONDS)
    busy: float = 0.0
    seen: tuple[int, Schema] | None = None
    failures: int = 0
    again: float = 0.0
    mended: Stamp = NOT_THERE


class Worker:
    """Folds what is due until it is stopped. Used by one thread; `stop` may be set by any.

    threads:    asked at each build how many threads may work
    share:      asked at each build which part of the time it may work, above 0 to 1; it pauses for the rest
    keep:       generations that are retained
    min_recall: recall@10 that a build has to reach, 0 to 1
    """

    def __init__(
        self,
        data: DataDir,
        indexers: Indexers,
        writer: Writer,
        *,
        threads: Callable[[], int],
        stop: threading.Event,
        share: Callable[[], float] = lambda: 1.0,
        keep: int = KEEP,
        min_recall: float = MIN_RECALL,
    ) -> None:
        self._data = data
        self._indexers = indexers
        self._writer = writer
        self._keep = keep
        self._threads = threads
        self._share = share
        self._min_recall = min_recall
        self._stop = stop
        self._watched: dict[str, _Watched] = {}

    def run(self) -> None:
        """Wait until no other worker has the data directory, then fold until stopped."""
        lock = self._take_lock()
        if lock is None:
            return
        with lock:
            catalog = Catalog(self._data)
            scrubbing = threading.Thread(target=self._scrub, name="vss-scrub", daemon=True)
            scrubbing.start()
            try:
                log.info("watching %s", self._data.path)
                self._sweep_directory(catalog)
                while not self._stop.is_set():
                    self.round(catalog)
                    self._stop.wait(POLL_SECONDS)
            except Stopped:
                log.info("stopped in the middle of a fold; nothing of it was published")
            finally:
                for watched in self._watched.values():
                    _close(watched)
                catalog.close()

    def _scrub(self) -> None:
        """Read everything again, one collection after the other, until stopped."""
        pace = paced(self._stop.wait)

        def go_on(count: int) -> None:
            pace(count)
            if self._stop.is_set():
                raise Stopped

        catalog = Catalog(self._data)
        try:
            while not self._stop.is_set():
                try:
                    for entry in catalog.entries().values():
                        for problem in scrub(self._data.collection(entry.id), go_on):
                            log.error("%s: %s", entry.name, problem)
                except Stopped:
                    break
                except (VssError, OSError) as error:
                    log.warning("not all files were read again: %s", error)
                self._stop.wait(EVERY_SECONDS)
        finally:
            catalog.close()

    def _sweep_directory(self, catalog: Catalog) -> None:
        try:
            sweep_directory(self._data, catalog)
        except (VssError, OSError) as error:
            log.warning("what killed jobs have left was not removed: %s", error)

    def _take_lock(self) -> WorkerLock | None:
        told = False
        while not self._stop.is_set():
            try:
                return WorkerLock(self._data, wait=0.2)
            except VssError as error:
                if error.code is not Code.LOCKED:
                    raise
                if not told:
                    log.info("waiting: %s", error.message)
                    told = True
        return None

    def round(self, catalog: Catalog) -> None:
        """Look at every collection once, and fold what is due."""
        try:
            entries = catalog.entries()
        except VssError as error:
            log.warning("the catalog cannot be read: %s", error)
            return
        there = {entry.id for entry in entries.values()}
        for gone in self._watched.keys() - there:
            _close(self._watched.pop(gone))
        for entry in entries.values():
            if self._stop.is_set():
                return
            watched = self._watched.setdefault(entry.id, _Watched())
            if time.monotonic() < watched.again:
                continue
            try:
                self._look(entry, watched)
            except Stopped:
                raise
            except Exception as error:
                self._failed(entry, watched, error, catalog)

    def _look(self, entry: Entry, watched: _Watched) -> None:
        collection = watched.collection
        if collection is None:
            folder = self._data.collection(entry.id)
            # Before its first generation there is nothing to fold, and its log is the writer's to make.
            if not (folder / "manifests").is_dir():
                return
            collection = watched.collection = Collection(folder, entry.schema, self._indexers)
        self._mend(entry, watched, collection)
        version = collection.log.data_version()
        known_schema = watched.seen is not None and watched.seen[1] is entry.schema
        if version == watched.version and known_schema:
            return
        generation = collection.log.pointer().generation
        if generation and generation != watched.collected:
            self._collect(entry, watched, generation)
        if not generation or watched.seen == (generation, entry.schema):
            watched.version = version
            return
        collection.change_schema(entry.schema)
        manifest = collection.current()
        assert manifest is not None
        now = time.monotonic()
        if watched.met[0] != generation:
            watched.busy = now + BUSY_SECONDS if now - watched.met[1] < BUSY_SECONDS else 0.0
            watched.met = generation, now
        merge = survey(manifest, entry.schema, self._indexers)
        reason = due(merge, settled=now >= watched.busy)
        if reason is None and due(merge) is not None:
            return  # once writes have ceased, or there is more to do
        if reason is not None:
            published = self._fold(entry, collection, manifest, reason)
            if published is not None:
                met = watched.met[1]
                if published.generation > generation + 1:
                    # Its own generation is no sign of writes; one that came meanwhile is.
                    met = time.monotonic()
                    watched.busy = met + BUSY_SECONDS
                watched.failures, watched.met = 0, (published.generation, met)
            else:
                # Its files are nobody's now: they are collected with the next look.
                watched.again, watched.collected = time.monotonic() + REFUSED_SECONDS, 0
            return  # what was published meanwhile is looked at in the next round
        watched.version, watched.seen, watched.failures = version, (generation, entry.schema), 0

    def _mend(self, entry: Entry, watched: _Watched, collection: Collection) -> None:
        """Build again what was found damaged since the last look, and can be."""
        found = collection.artifacts.damage.stamp()
        if found == watched.mended:
            return
        named = collection.artifacts.damage.findings()
        manifest = collection.current()
        if manifest is not None and any(one.sha256 in named for one in artifacts_of(manifest)):
            collection.change_schema(entry.schema)
            try:
                published = rebuild(
                    collection,
                    self._writer,
                    self._indexers,
                    threads=self._threads(),
                    progress=self._paced(self._share()),
                    min_recall=self._min_recall,
                )
            except Refused as error:
                log.error("%s: what is damaged is not mended: %s", entry.name, error)
            else:
                if published is not None:
                    log.info("%s: what was damaged is built again, generation %d", entry.name, published.generation)
        watched.mended = found

    def _collect(self, entry: Entry, watched: _Watched, generation: int) -> None:
        watched.collected = generation  # where it fails the next generation is soon enough: folds go on
        try:
            retired, garbage = collect(self._data, entry.id, self._writer, keep=self._keep)
        except (VssError, OSError) as error:
            log.warning("%s: garbage was not collected: %s", entry.name, error)
            return
        if garbage or retired.operations:
            log.debug(
                "%s: collected %d files, %s bytes, %s operations",
                entry.name,
                len(garbage),
                f"{sum(one.bytes for one in garbage):,}",
                f"{retired.operations:,}",
            )

    def _fold(self, entry: Entry, collection: Collection, manifest: Manifest, reason: str) -> Manifest | None:
        """None when the build was refused, or the refusal of an earlier one still stands."""
        merged = to_merge(manifest, entry.schema, self._indexers)
        refusal = Refusals(collection.folder).read()
        ids = frozenset(one.id for one in merged)
        if refusal is not None and refusal.bars(ids, entry.schema.index, self._min_recall, time.time()):
            return None
        rows, began = sum(map(live_rows, merged)), time.monotonic()
        threads, waiting = self._threads(), survey(manifest, entry.schema, self._indexers).unindexed
        log.debug("%s: folding %s rows with %d threads: %s", entry.name, f"{rows:,}", threads, reason)
        try:
            published = compact(
                collection,
                merged,
                self._writer,
                self._indexers,
                threads=threads,
                progress=self._paced(1.0 if waiting > BEHIND_ROWS else self._share()),
                min_recall=self._min_recall,
            )
        except Refused as error:
            log.error("%s: a fold of %s rows was refused: %s", entry.name, f"{rows:,}", error)
            return None
        log.info(
            "%s: folded %s rows of %d segments in %.1f s, generation %d: %s",
            entry.name,
            f"{rows:,}",
            len(merged),
            time.monotonic() - began,
            published.generation,
            reason,
        )
        return published

    def _paced(self, share: float) -> Progress:
        """The progress of a build, which ends it when the worker is told to stop, and pauses it between two blocks."""
        since = time.monotonic()

        def progress(_: int) -> None:
            nonlocal since
            worked = time.monotonic() - since
            if self._stop.wait(min(LONGEST_REST_SECONDS, worked * (1 / share - 1))):
                raise Stopped
            since = time.monotonic()

        return progress

    def _failed(self, entry: Entry, watched: _Watched, error: Exception, catalog: Catalog) -> None:
        """Say why, and leave the collection alone for a while."""
        _close(watched)  # whatever is wrong with it may be mended or replaced by then
        if entry.id not in {one.id for one in catalog.entries().values()}:
            log.info("%s was deleted meanwhile", entry.name)
            return
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(watched.failures, 30))
        watched.failures += 1
        watched.again = time.monotonic() + pause
        log.warning(
            "%s was not folded: %s; again in %.0f s",
            entry.name,
            error if isinstance(error, VssError) else f"{type(error).__name__}: {error}",
            pause,
            exc_info=None if isinstance(error, VssError | OSError) else error,
        )


def _close(watched: _Watched) -> None:
    if watched.collection is not None:
        watched.collection.close()
    watched.collection, watched.version, watched.seen = None, -1, None
