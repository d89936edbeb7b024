"""One open collection: its log, its artifacts, and the view of them that queries read.

`view()` costs one PRAGMA when nothing was written; otherwise it reads the new rows, or opens the new generation, first.
So every process reads what any process has acknowledged.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from vss.errors import VssError
from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage.artifacts import ArtifactStore
from vss.storage.live import LivePart
from vss.storage.log import Log, Operation, Pointer
from vss.storage.manifest import Manifest, read_manifest
from vss.storage.merge import backlog
from vss.storage.proof import damaged
from vss.storage.segment import Segment
from vss.storage.view import View

HEED_SECONDS = 1.0
"""How often an open collection looks whether another process found one of its files damaged."""


class Collection:
    """An open collection. Safe from any thread.

    Raises VssError from `view`: CORRUPT when what is damaged cannot be had from elsewhere (see `Segment`), UNSUPPORTED
    for a newer format.
    """

    def __init__(self, folder: Path, schema: Schema, indexers: Indexers) -> None:
        self.folder = folder
        self.schema = schema
        self.log = Log(folder / "log.db")
        self.artifacts = ArtifactStore(folder / "artifacts")
        self.manifests = folder / "manifests"
        self.staging = folder / "staging"
        self._indexers = indexers
        self._lock = threading.Lock()
        self._version = -1
        self._generation = -1
        self._manifest: Manifest | None = None
        self._segments: dict[str, Segment] = {}
        self._live = LivePart(schema, (), indexers)
        self._view: View | None = None
        self._seq = 0
        self._heeded = self.artifacts.damage.stamp()
        self._heed_at = 0.0

    def view(self) -> View:
        """Everything that is acknowledged now."""
        with self._lock:
            self._heed_damage()
            self._catch_up()
            if self._view is None:
                self._view = self._show()
            return self._view

    def catch_up(self) -> None:
        """Let the live part have everything that is acknowledged now."""
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        # Read before the rows: a commit in between makes the next call read again, never miss one.
        version = self.log.data_version()
        if version != self._version:
            self._refresh()
            self._version = version

    def _heed_damage(self) -> None:
        """Open anew what another process found damaged: a receipt hides it from this one."""
        now = time.monotonic()
        if now < self._heed_at:
            return
        self._heed_at = now + HEED_SECONDS
        # Not by what it says: what was found and mended since the last look is another file than is open here.
        stamp = self.artifacts.damage.stamp()
        if stamp != self._heeded:
            self._heeded = stamp
            self._segments = {}
            self._forget()

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged and can be built again; answers are whole without it, and take longer."""
        return tuple(f"segment {one.record.id}: {what}" for one in self._segments.values() for what in one.damage)

    def take(self, operations: Sequence[Operation]) -> None:
        """Let the live part have what this process has just committed, so that nobody has to read it again."""
        with self._lock:
            version = self.log.data_version()
            follows = bool(operations) and operations[0].seq == self._seq + 1
            if self._version < 0 or not follows or self.log.pointer().generation != self._generation:
                self._catch_up()
                return
            generation = self._generation
            self._forget()  # should this fail, everything is read again
            self._live.apply(operations)
            self._seq, self._generation, self._version = operations[-1].seq, generation, version

    def current(self) -> Manifest | None:
        """The current generation, without opening its segments; None before the first one. VssError (CORRUPT)."""
        while True:
            pointer = self.log.pointer()
            try:
                if not pointer.generation:
                    return None
                return read_manifest(self.manifests, pointer.generation, pointer.manifest)
            except VssError:
                if self.log.pointer().generation == pointer.generation:
                    raise

    def change_schema(self, schema: Schema) -> None:
        """Read by another schema from the next view on."""
        with self._lock:
            self.schema = schema
            self._forget()

    def backlog(self, at_least: int = 1) -> int:
        """Points that would get an index by a fold and have none, as of the last view or commit; 0 for fewer than
        `at_least`."""
        return backlog(self._manifest, self._live.points, self.schema, self._indexers, at_least)

    @property
    def live_size(self) -> tuple[int, int]:
        """Operations and bytes of the live part, as of the last view."""
        return self._live.operations, self._live.bytes

    def _forget(self) -> None:
        self._view, self._version, self._generation = None, -1, -1

    def _refresh(self) -> None:
        self._view = None
        pointer, operations = self.log.read(self._generation, self._seq)
        while pointer.generation != self._generation:
            try:
                self._open_generation(pointer, operations)
            except VssError:
                # It may have been superseded and collected between the pointer and its last file.
                if self.log.pointer().generation == pointer.generation:
                    raise
            else:
                if not self.damage or self.log.pointer().generation == pointer.generation:
                    break
                self._forget()
            pointer, operations = self.log.read(self._generation, self._seq)
        else:
            self._live.apply(operations)
        self._seq = operations[-1].seq if operations else self._seq

    def _open_generation(self, pointer: Pointer, operations: Sequence[Operation]) -> None:
        manifest = None
        if pointer.generation:
            manifest = read_manifest(self.manifests, pointer.generation, pointer.manifest)
            if manifest.covered_seq != pointer.covered_seq:
                raise damaged("log.db", f"its pointer covers {pointer.covered_seq}, wanted {manifest.covered_seq}")
        segments = self._open(manifest)
        live = LivePart(self.schema, list(segments.values()), self._indexers, self._live)
        live.apply(operations)
        # Segments that only older views use are freed with the last of those views.
        self._manifest, self._segments, self._live = manifest, segments, live
        self._generation, self._seq = pointer.generation, pointer.covered_seq

    def _show(self) -> View:
        snapshot, overlays = self._live.snapshot()
        return View(self.schema, self._manifest, self._seq, list(self._segments.values()), snapshot, overlays)

    def _open(self, manifest: Manifest | None) -> dict[str, Segment]:
        opened = {}
        for record in manifest.segments if manifest else ():
            known = self._segments.get(record.id)
            again = None if known is None else known.read_as(record, self.artifacts)
            opened[record.id] = Segment(record, self.artifacts, self._indexers) if again is None else again
        return opened

    def close(self) -> None:
        """Close the log. Views that are still held stay readable."""
        self.log.close()


def remove_collection(folder: Path) -> None:
    """Delete a collection's folder after its name has left the catalog; what is open stays readable until closed."""
    shutil.rmtree(folder, ignore_errors=True)
