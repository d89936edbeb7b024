"""One open collection: its log, its artifacts, and the view of them that queries read.

`view()` costs one PRAGMA when nothing was written; otherwise it reads the new rows, or opens the new generation, first.
So every process reads what any process has acknowledged.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage.artifacts import ArtifactStore
from vss.storage.live import LivePart
from vss.storage.log import Log
from vss.storage.manifest import Manifest, read_manifest
from vss.storage.segment import Segment
from vss.storage.view import View


class Collection:
    """An open collection. Safe from any thread.

    Raises VssError (CORRUPT) from `view` when an artifact is damaged, and (UNSUPPORTED) for a newer format.
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
        self._live = LivePart(schema, ())
        self._view: View | None = None
        self._seq = 0

    def view(self) -> View:
        """Everything that is acknowledged now."""
        with self._lock:
            # Read before the rows: a commit in between makes the next call read again, never miss one.
            version = self.log.data_version()
            if self._view is None or version != self._version:
                self._view = self._refresh()
                self._version = version
            return self._view

    def current(self) -> Manifest | None:
        """The current generation, without opening its segments; None before the first one. VssError (CORRUPT)."""
        pointer = self.log.pointer()
        return read_manifest(self.manifests, pointer.generation, pointer.manifest) if pointer.generation else None

    def change_schema(self, schema: Schema) -> None:
        """Read by another schema from the next view on."""
        with self._lock:
            self.schema = schema
            self._view = None
            self._generation = -1

    @property
    def live_size(self) -> tuple[int, int]:
        """Operations and bytes of the live part, as of the last view."""
        return self._live.operations, self._live.bytes

    def _refresh(self) -> View:
        pointer, operations = self.log.read(self._generation, self._seq)
        if pointer.generation != self._generation:
            manifest = None
            if pointer.generation:
                manifest = read_manifest(self.manifests, pointer.generation, pointer.manifest)
            segments = self._open(manifest)
            live = LivePart(self.schema, list(segments.values()))
            live.apply(operations)
            # Segments that only older views use are freed with the last of those views.
            self._manifest, self._segments, self._live = manifest, segments, live
            self._generation, self._seq = pointer.generation, pointer.covered_seq
        else:
            self._live.apply(operations)
        self._seq = operations[-1].seq if operations else self._seq
        snapshot, overlays = self._live.snapshot()
        return View(self.schema, self._manifest, self._seq, list(self._segments.values()), snapshot, overlays)

    def _open(self, manifest: Manifest | None) -> dict[str, Segment]:
        opened = {}
        for record in manifest.segments if manifest else ():
            known = self._segments.get(record.id)
            # The same segment with other tombstones is another reading of the same files.
            opened[record.id] = (
                known if known and known.record == record else Segment(record, self.artifacts, self._indexers)
            )
        return opened

    def close(self) -> None:
        """Close the log. Views that are still held stay readable."""
        self.log.close()


def remove_collection(folder: Path) -> None:
    """Delete a collection's folder after its name has left the catalog; what is open stays readable until closed."""
    shutil.rmtree(folder, ignore_errors=True)
