"""Collections on this machine: the catalog, the open collections, and the one writer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from msgspec.structs import replace

from vss.changes import Change, Delete, Upsert
from vss.defaults import MAX_UNINDEXED
from vss.engines.sealing import SealThread
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Indexers
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage import history
from vss.storage.answers import Answer
from vss.storage.catalog import AliasAction, Catalog, Entry
from vss.storage.collection import Collection, remove_collection
from vss.storage.commit import Commit, CommitThread, remembered
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.expand import affected
from vss.storage.fold import seal
from vss.storage.history import Retired
from vss.storage.manifest import Manifest
from vss.storage.promote import check_generation, restored_schema
from vss.storage.publish import CHEAP_ATTEMPTS, publish, until_published
from vss.storage.recolumn import add_columns
from vss.types import PointId


class LocalEngine:
    """One data directory, opened. Safe from any thread.

    writable:  take the writer lock and accept writes. VssError (LOCKED) when another process is the writer
    lock_wait: seconds to wait for that lock
    observe:   called, by the thread that writes, with each transaction

    max_unindexed: points of a collection that wait for an index, past which writes are refused (see `write`)
    """

    def __init__(
        self,
        data: DataDir,
        indexers: Indexers,
        *,
        writable: bool,
        lock_wait: float = 0.0,
        max_unindexed: int = MAX_UNINDEXED,
    ) -> None:
        self.data = data
        self._indexers = indexers
        self._lock = threading.Lock()
        self._writer_lock = WriterLock(data, wait=lock_wait) if writable else None
        self._seals = SealThread(self._seal) if writable else None
        self._commits = CommitThread(self._seals.make_room, self._seals.heed, self._observe) if self._seals else None
        self._max_unindexed = max_unindexed
        self.observe: Callable[[Commit], None] | None = None
        self._catalog = Catalog(data)
        self._open: dict[str, Collection] = {}

    def entries(self) -> list[Entry]:
        """All collections, by name."""
        return list(self._catalog.entries().values())

    def catalog_refusing(self) -> VssError | None:
        """Why this process cannot change the catalog at the moment, or None."""
        return self._catalog.refusing

    def entry(self, name: str) -> Entry:
        """One collection's entry. VssError (NOT_FOUND)."""
        return self._catalog.get(name)

    def collection(self, name: str) -> Collection:
        """One collection, opened on first use. VssError: NOT_FOUND, CORRUPT, UNSUPPORTED."""
        entry = self._catalog.get(name)
        with self._lock:
            known = self._open.get(entry.id)
            if known is None:
                self._forget_deleted()
                folder = self.data.collection(entry.id)
                try:
                    known = self._open[entry.id] = Collection(folder, entry.schema, self._indexers)
                    if self._commits is not None:
                        self._settle_schema(entry, known)
                except VssError:
                    self._catalog.get(name)  # of one that was deleted meanwhile it says so
                    raise
            elif known.schema is not entry.schema and known.schema != entry.schema:
                known.change_schema(entry.schema)  # another process changed it
            return known

    def _forget_deleted(self) -> None:
        """Close what another process has deleted. Called with the lock held."""
        there = {entry.id for entry in self._catalog.entries().values()}
        for id_ in self._open.keys() - there:
            self._open.pop(id_).close()

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
            if self._seals is not None:
                self._seals.forget(known)
            known.close()
        remove_collection(self.data.collection(entry.id))
        return True

    def aliases(self) -> dict[str, str]:
        """Alias -> the collection that it stands for."""
        return self._catalog.aliases()

    def change_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Carry out alias actions, all or none. VssError: NOT_FOUND, ALREADY_EXISTS, INVALID."""
        self._writing()
        self._catalog.change_aliases(actions)

    def add_vector(self, name: str, vector_name: str, vector: VectorSchema) -> None:
        """Add a named vector; no point has one yet. VssError: ALREADY_EXISTS, INVALID."""
        schema = self.entry(name).schema
        if vector_name in schema.vectors:
            raise VssError(Code.ALREADY_EXISTS, f"the vector {vector_name!r} already exists", field="vector_name")
        # What a drop that was cut off has left behind must not come back to life.
        self._drop_leftovers(name)
        self._change_schema(name, replace(schema, vectors=schema.vectors | {vector_name: vector}))

    def drop_vector(self, name: str, vector_name: str) -> None:
        """Drop a named vector from every point; the others are not touched. VssError: INVALID."""
        schema = self.entry(name).schema
        schema.vector(vector_name)
        left = {one: vector for one, vector in schema.vectors.items() if one != vector_name}
        self._change_schema(name, replace(schema, vectors=left))
        self._drop_leftovers(name)

    def add_columns(self, name: str, path: str) -> None:
        """Give segments the columns of a payload path that they lack (`vss.storage.recolumn`)."""
        self._writing()
        add_columns(self.collection(name), path, self)

    def set_payload_index(self, name: str, path: str, kind: str) -> None:
        """Declare a payload field."""
        schema = self.entry(name).schema
        self._change_schema(name, replace(schema, payload_indexes=schema.payload_indexes | {path: kind}))

    def drop_payload_index(self, name: str, path: str) -> None:
        """Take a declaration back; one that was never made is no error."""
        schema = self.entry(name).schema
        left = {one: kind for one, kind in schema.payload_indexes.items() if one != path}
        self._change_schema(name, replace(schema, payload_indexes=left))

    def change_index(self, name: str, index: IndexSettings) -> None:
        """Choose the index that the next build makes; what is built stays as it is."""
        self._change_schema(name, replace(self.entry(name).schema, index=index))

    def _change_schema(self, name: str, schema: Schema) -> None:
        self._writing()
        self._catalog.change_schema(self.entry(name).name, schema)
        self.collection(name).change_schema(schema)

    def _drop_leftovers(self, name: str) -> None:
        """Seal by the schema of now: the new generation holds no vectors that it does not name."""
        self._seal(self.collection(name))

    def _seal(self, collection: Collection) -> Manifest:
        return until_published(lambda: seal(collection, self, self._indexers), CHEAP_ATTEMPTS)

    def write(self, name: str, changes: Sequence[Change], once: Answer | None = None) -> Future[int]:
        """Carry out changes in order (see `CommitThread.submit`). The future gives the last seq, once it is on disk.

        Raises VssError (OVERLOADED) when `max_unindexed` points wait for an index, unless all it does is delete.
        """
        commits, collection = self._writing(), self.collection(name)
        if not all(isinstance(change, Delete) for change in changes):
            waiting = collection.backlog(at_least=self._max_unindexed)
            if waiting:
                collection.catch_up()  # a fold may have come since
                waiting = collection.backlog(at_least=self._max_unindexed)
            if waiting:
                raise VssError(
                    Code.OVERLOADED,
                    f"{waiting:,} points wait for an index, the limit is {self._max_unindexed:,}; nothing was written",
                    hint=f"`vss worker` and `vss fold {name}` index them; then send it again. Deletes are still taken",
                )
        return commits.submit(collection, changes, once)

    def preview(self, name: str, change: Change) -> int:
        """How many points a change would write or remove now. VssError as the change itself would raise."""
        return affected(change, self.collection(name).view())

    def remembered(self, name: str, key: str, digest: bytes) -> Answer | None:
        """What the write of this key was answered. VssError (CONFLICT) when that was another request."""
        return remembered(self.collection(name), key, digest)

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

    def promote(self, name: str, generation: int) -> Manifest:
        """Make a retained generation current; operations that it does not cover apply to it again.

        Nothing changes when it is refused. VssError: NOT_FOUND (not retained), CORRUPT (a file, or an index that does
        not answer), CONFLICT (writes since are of another model).
        """
        self._writing()
        entry = self.entry(name)
        collection = self.collection(entry.name)
        chosen = history.find(collection.log, generation)
        manifest = check_generation(collection, chosen, self._indexers)
        schema = restored_schema(collection, chosen, manifest)
        history.promote(collection.log, chosen, None if schema == entry.schema else schema)
        self._settle_schema(entry, collection)
        collection.view()
        # What a fold had covered is live again: no query should scan more of it than of any live part. Where that
        # fails the generation is current all the same, and the next write tries again.
        with suppress(VssError, OSError):
            if self._seals is not None:
                self._seals.bound(collection)
        return manifest

    def _settle_schema(self, entry: Entry, collection: Collection) -> None:
        """Give the catalog the schema of a promotion, also of one that a kill cut off."""
        schema = history.pending_schema(collection.log)
        if schema is not None:
            self._catalog.change_schema(entry.name, schema)
            collection.change_schema(schema)
            history.settle_schema(collection.log)

    def retire(self, collection: str, keep: int, *, erase: bool = False) -> Retired:
        """Forget old generations and operations of a collection, by its id (see `vss.jobs.collect.Keeper`)."""
        self._writing()
        for entry in self.entries():
            if entry.id == collection:
                log = self.collection(entry.name).log
                return history.retire(log, keep, lambda: self.data.held_seq(collection), erased=erase)
        raise VssError(Code.NOT_FOUND, "the collection was deleted meanwhile", field="collection")

    def _writing(self) -> CommitThread:
        if self._commits is None:
            raise VssError(Code.LOCKED, "this process only reads", hint="send the write to the server")
        return self._commits

    def _observe(self, commit: Commit) -> None:
        if self.observe is not None:
            self.observe(commit)

    def close(self) -> None:
        """Write what is waiting, close everything, give the writer lock back."""
        if self._commits is not None:
            self._commits.close()
        if self._seals is not None:
            self._seals.close()
        for collection in self._open.values():
            collection.close()
        self._catalog.close()
        if self._writer_lock is not None:
            self._writer_lock.close()
