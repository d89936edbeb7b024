"""The everyday destination: a collection of a data directory, made when it is not there, with writers at work."""

from __future__ import annotations

import secrets
from types import TracebackType

from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.jobs.destination import Site
from vss.jobs.progress import Reporter
from vss.jobs.remote import Writer
from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage.catalog import check_name
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode, adopt
from vss.storage.manifest import Manifest, ModelRecord, SegmentRecord
from vss.storage.npy import map_npy
from vss.storage.staging import hold_log
from vss.types import Vectors


class LivingCollection:
    """A `Destination`: writes acknowledged since the import began win over its rows (`storage.imports`).

    mode:   what happens to points that the import does not name
    writer: who commits
    VssError (INVALID) for a name that no collection can have.
    """

    resumes = True

    def __init__(
        self, data: DataDir, name: str, *, indexers: Indexers, writer: Writer, mode: Mode = Mode.UPSERT
    ) -> None:
        self.name = check_name(name)
        self._mode = mode
        self._indexers = indexers
        self._writer = writer
        self._engine = LocalEngine(data, indexers, writable=False)
        self.created = False

    def schema(self) -> Schema | None:
        """As `Destination.schema`."""
        return {entry.name: entry.schema for entry in self._engine.entries()}.get(self.name)

    def canaries(self, vector_name: str) -> Vectors | None:
        """As `Destination.canaries`."""
        collection = self._engine.collection(self.name)
        manifest = collection.view().manifest
        record = manifest.models.get(vector_name) if manifest else None
        return None if record is None else map_npy(collection.artifacts.path(record.canaries))

    def create(self, schema: Schema) -> Schema:
        """As `Destination.create`."""
        self._writer.create(self.name, schema)
        self.created = True
        # A server that has another version of the model makes another schema of it.
        return self._engine.entry(self.name).schema

    def begin(self) -> Site:
        """As `Destination.begin`."""
        collection = self._engine.collection(self.name)
        staged = collection.staging / f"import-{secrets.token_hex(8)}"
        # Whatever was written to a collection that this job made came after its start.
        started_seq = 0 if self.created else collection.log.last_seq()
        return Site(staged, collection.artifacts, started_seq)

    def hold(self, site: Site) -> None:
        """As `Destination.hold`: the log keeps what was written since, until the folder goes."""
        hold_log(site.staged, self._engine.entry(self.name).id, site.started_seq)

    def publish(
        self, site: Site, segment: SegmentRecord, models: dict[str, ModelRecord], source: str, reporter: Reporter
    ) -> Manifest:
        """As `Destination.publish`: the next generation of the collection. VssError (CONFLICT) when overtaken."""
        reporter.phase("publish", 1, "")
        manifest = adopt(
            self._engine.collection(self.name),
            segment,
            started_seq=site.started_seq,
            mode=self._mode,
            publisher=self._writer,
            indexers=self._indexers,
            models=models,
            source=source,
        )
        reporter.update(1, 0)
        return manifest

    def undo(self) -> None:
        """As `Destination.undo`."""
        if self.created and self._untouched():
            self._writer.delete(self.name)

    def _untouched(self) -> bool:
        """Whether nobody has written to the collection that this job made."""
        try:
            collection = self._engine.collection(self.name)
            return collection.log.last_seq() == 0 and collection.view().generation == 0
        except VssError:
            return False  # gone, or not to be judged: leave it alone

    def close(self) -> None:
        """Close what was opened."""
        self._engine.close()

    def __enter__(self) -> LivingCollection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
