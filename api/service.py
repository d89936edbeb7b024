"""What every handler works with, and whether it is ready."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import partial

from api.metrics import Metrics
from api.settings import Settings
from api.writer import Writer
from vss import canary
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.protocols import Deadline, EmbedderInfo, Indexers, Models
from vss.schema import VectorSchema
from vss.storage.collection import Collection
from vss.storage.history import find
from vss.storage.manifest import ModelRecord, read_manifest
from vss.storage.npy import map_npy
from vss.types import Role, Vectors


@dataclass(slots=True, kw_only=True)
class Service:
    """The parts of a server.

    model_names: the embedders that are served; some may be loading still
    warm:        whether every collection was opened once
    draining:    whether the server was told to stop
    writer:      where a reader has carried out what it may not; None in the writer itself
    process:     names this life of this process
    canaries:    (model, sha256 of stored canaries) -> why the model does not make them, or None: it does
    """

    engine: LocalEngine
    models: Models
    indexers: Indexers
    settings: Settings
    metrics: Metrics
    model_names: tuple[str, ...] = ()
    warm: bool = False
    draining: bool = False
    writer: Writer | None = None
    process: str = field(default_factory=partial(secrets.token_hex, 8))
    canaries: dict[tuple[str, str], VssError | None] = field(default_factory=dict)

    def not_ready(self) -> str | None:
        """Why requests should go elsewhere, or None."""
        if self.draining:
            return "the server is stopping"
        if not self.warm:
            return "collections are being opened"
        try:
            entries = self.engine.entries()
        except VssError as error:
            return f"no collection can be found: {error.message}"
        needed = {vector.model for entry in entries for vector in entry.schema.vectors.values()}
        asked_for = self.settings.models is not None
        for name in self.model_names:
            try:
                self.models.info(name)
            except VssError as error:
                # Of a model that failed and that nobody named only a collection that needs it has to know.
                if error.code is Code.UNAVAILABLE or asked_for or name in needed:
                    return error.message
        return None

    def check_fingerprint(self, vector: VectorSchema, wanted: str | None) -> None:
        """VssError (FINGERPRINT_MISMATCH) when a request insists on another model than the collection's."""
        if wanted is not None and wanted != vector.fingerprint:
            raise VssError(
                Code.FINGERPRINT_MISMATCH,
                f"got fingerprint {wanted!r}, the collection's vectors were made with {vector.fingerprint!r}",
                field="vss.fingerprint",
                hint="embed with the collection's model, or build a collection with yours",
            )

    async def text_model(self, name: str, using: str) -> str:
        """The model that embeds texts for a collection's vector, once it has shown that it is the one that made them.

        VssError: NOT_FOUND, UNAVAILABLE, FINGERPRINT_MISMATCH (another model, or one that does not make the canaries).
        """
        collection = self.engine.collection(name)
        vector = collection.schema.vectors[using]
        assert vector.model is not None
        info = self.models.info(vector.model)
        if info.fingerprint != vector.fingerprint:
            raise VssError(
                Code.FINGERPRINT_MISMATCH,
                f"the served model {vector.model} has fingerprint {info.fingerprint!r}, "
                f"the collection's vectors were made with {vector.fingerprint!r}",
                hint="serve the model that the collection was made with, or embed the collection anew",
            )
        manifest = collection.view().manifest
        record = manifest.models.get(using) if manifest else None
        if record is not None:
            if record.fingerprint != vector.fingerprint:
                raise VssError(
                    Code.FINGERPRINT_MISMATCH,
                    f"the generation's vectors were made with fingerprint {record.fingerprint!r}, "
                    f"the collection says {vector.fingerprint!r}",
                    hint="a generation of another model is being promoted: try again, or promote it again",
                )
            await self._check_canaries(collection, record, info)
        return vector.model

    async def check_models(self, collection: Collection, generation: int) -> None:
        """Before a generation is promoted: of its models, those that are served must still make its canaries.

        VssError: NOT_FOUND (the generation), CORRUPT, FINGERPRINT_MISMATCH. A model that is not served, or that is
        another one by now, keeps no generation from being promoted: its queries by text are refused then.
        """
        chosen = find(collection.log, generation)
        manifest = read_manifest(collection.manifests, chosen.generation, chosen.manifest)
        for record in manifest.models.values():
            try:
                info = self.models.info(record.name)
            except VssError:
                continue
            if info.fingerprint == record.fingerprint:
                await self._check_canaries(collection, record, info)

    async def _check_canaries(self, collection: Collection, record: ModelRecord, info: EmbedderInfo) -> None:
        shown = (record.name, record.canaries.sha256)
        if shown not in self.canaries:
            stored = map_npy(collection.artifacts.path(record.canaries))
            made = await self.models.embed(record.name, canary.TEXTS, Role.DOCUMENT, Deadline())
            self.canaries[shown] = _mismatch(info, made, stored)
        error = self.canaries[shown]
        if error is not None:
            raise error


def _mismatch(info: EmbedderInfo, made: Vectors, stored: Vectors) -> VssError | None:
    try:
        canary.compare(info, made, stored)
    except VssError as error:
        return error
    return None
