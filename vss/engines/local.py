"""Collections on this machine: the catalog, the open collections, and the one writer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from vss.changes import Change, Delete, Upsert
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage.catalog import Catalog, Entry
from vss.storage.collection import Collection, remove_collection
from vss.storage.commit import CommitThread
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.fold import LIVE_BYTES, LIVE_OPERATIONS, seal
from vss.storage.manifest import Manifest
from vss.storage.publish import publish
from vss.types import PointId


class LocalEngine:
    """One data directory, opened. Safe from any thread.

    writable: take the writer lock and accept writes. VssError (LOCKED) when another process is the writer.
    """

    def __init__(self, data: DataDir, indexers: Indexers, *, writable: bool) -> None:
        self.data = data
        self._indexers = indexers
        self._lock = threading.Lock()
        self._writer_lock = WriterLock(data) if writable else None
        self._commits = CommitThread(self._bound_live_part) if writable else None
        self._catalog = Catalog(data)
        self._open: dict[str, Collection] = {}

    def entries(self) -> list[Entry]:
        """All collections, by name."""
        return list(self._catalog.entries().values())

    def entry(self, name: str) -> Entry:
        """One collection's entry. VssError (NOT_FOUND)."""
        return self._catalog.get(name)

    def collection(self, name: str) -> Collection:
        """One collection, opened on first use. VssError: NOT_FOUND, CORRUPT, UNSUPPORTED."""
        entry = self._catalog.get(name)
        with self._lock:
            known = self._open.get(entry.id)
            if known is None:
                folder = self.data.collection(entry.id)
                known = self._open[entry.id] = Collection(folder, entry.schema, self._indexers)
            return known

    def create(self, name: str, schema: Schema) -> Entry:
        """Create an empty collection. VssError: INVALID, ALREADY_EXISTS, LOCKED."""
        self._writing()
        return self._catalog.create(name, schema)

    def delete(self, name: str) -> bool:
        """Delete a collection and its data; False when there was none."""
        self._writing()
        entry = self._catalog.delete(name)
        if entry is None:
            return False
        with self._lock:
            known = self._open.pop(entry.id, None)
        if known is not None:
            known.close()
        remove_collection(self.data.collection(entry.id))
        return True

    def write(self, name: str, changes: Sequence[Change]) -> Future[int]:
        """Carry out changes in order (see `CommitThread.submit`). The future gives the last seq, once it is on disk."""
        return self._writing().submit(self.collection(name), changes)

    def upsert(self, name: str, points: Sequence[Point]) -> Future[int]:
        """Write points whole; all or none."""
        return self.write(name, [Upsert(points)])

    def remove(self, name: str, ids: Sequence[PointId]) -> Future[int]:
        """Delete points; ids that do not exist are no error."""
        return self.write(name, [Delete(tuple(ids))])

    def publish(self, manifest: Manifest) -> None:
        """Make a job's generation current (see `vss.storage.publish.Publisher`)."""
        self._writing()
        for entry in self.entries():
            if entry.id == manifest.collection:
                collection = self.collection(entry.name)
                publish(collection.log, collection.manifests, manifest)
                return
        raise VssError(Code.NOT_FOUND, "the collection was deleted while the job ran", field="collection")

    def _writing(self) -> CommitThread:
        if self._commits is None:
            raise VssError(Code.LOCKED, "this process only reads", hint="send the write to the server")
        return self._commits

    def _bound_live_part(self, collection: Collection) -> None:
        collection.view()
        operations, size = collection.live_size
        if operations >= LIVE_OPERATIONS or size >= LIVE_BYTES:
            seal(collection, self, self._indexers)

    def close(self) -> None:
        """Write what is waiting, close everything, give the writer lock back."""
        if self._commits is not None:
            self._commits.close()
        for collection in self._open.values():
            collection.close()
        self._catalog.close()
        if self._writer_lock is not None:
            self._writer_lock.close()
