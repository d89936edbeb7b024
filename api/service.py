"""What every handler works with, and whether it is ready."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.metrics import Metrics
from api.settings import Settings
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.protocols import Indexers, Models
from vss.schema import VectorSchema


@dataclass(slots=True, kw_only=True)
class Service:
    """The parts of a server.

    model_names: the embedders that are served; some may be loading still
    warm:        whether every collection was opened once
    draining:    whether the server was told to stop
    """

    engine: LocalEngine
    models: Models
    indexers: Indexers
    settings: Settings
    metrics: Metrics
    model_names: tuple[str, ...] = ()
    warm: bool = False
    draining: bool = field(default=False)

    def not_ready(self) -> str | None:
        """Why requests should go elsewhere, or None."""
        if self.draining:
            return "the server is stopping"
        if not self.warm:
            return "collections are being opened"
        needed = {vector.model for entry in self.engine.entries() for vector in entry.schema.vectors.values()}
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

    def text_model(self, vector: VectorSchema) -> str:
        """The model that embeds texts for a vector. VssError: NOT_FOUND, UNAVAILABLE, FINGERPRINT_MISMATCH."""
        assert vector.model is not None
        info = self.models.info(vector.model)
        if info.fingerprint != vector.fingerprint:
            raise VssError(
                Code.FINGERPRINT_MISMATCH,
                f"the served model {vector.model} has fingerprint {info.fingerprint!r}, "
                f"the collection's vectors were made with {vector.fingerprint!r}",
                hint="serve the model that the collection was made with, or embed the collection anew",
            )
        return vector.model
