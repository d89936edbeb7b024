"""What the points of a collection look like: named vectors, and how their indexes are built."""

from __future__ import annotations

import msgspec

from vss.errors import invalid
from vss.types import Metric
from vss.vectors import MAX_DIM

DEFAULT_VECTOR = ""
"""The name of a collection's only vector when it has none, as in Qdrant."""

AUTO = "auto"
"""The index kind that lets `indexers.choose` decide."""

SCAN = "scan"
"""The index kind that lets it take the quickest of those that are made at once: what waits for a better one has it."""


class VectorSchema(msgspec.Struct, frozen=True, kw_only=True):
    """One named vector.

    dim:         components
    metric:      how two of them are compared
    model:       name of the embedder that makes them, or None for ready vectors
    fingerprint: that embedder's identity (`EmbedderInfo.fingerprint`)
    text_field:  payload field whose text is embedded; the re-ranker reads it too
    """

    dim: int
    metric: Metric = Metric.COSINE
    model: str | None = None
    fingerprint: str | None = None
    text_field: str | None = None


class IndexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which index the next build makes. `params` are the backend's own (`{"m": 16, ...}`)."""

    kind: str = AUTO
    params: dict[str, int | float | str] = {}


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The schema of a collection; stands in the catalog and in each manifest.

    payload_indexes: path -> type, as declared by clients. Columns are made of what payloads hold, declared or not; the
                     declaration is kept and reported.
    """

    vectors: dict[str, VectorSchema]
    index: IndexSettings = IndexSettings()
    payload_indexes: dict[str, str] = {}

    def vector(self, name: str) -> VectorSchema:
        """One named vector. VssError (INVALID) names those that exist."""
        try:
            return self.vectors[name]
        except KeyError:
            known = ", ".join(repr(n) for n in self.vectors)
            raise invalid(f"got vector name {name!r}, wanted one of {known}", field="using") from None


def check_schema(schema: Schema) -> Schema:
    """The schema itself, or VssError (INVALID)."""
    if not schema.vectors:
        raise invalid(
            "got no vectors, wanted at least one",
            field="vectors",
            hint='send {"vectors": {"size": 384, "distance": "Cosine"}}',
        )
    for name, vector in schema.vectors.items():
        where = f"vectors.{name}.size" if name else "vectors.size"
        if not 1 <= vector.dim <= MAX_DIM:
            raise invalid(f"got size {vector.dim}, wanted 1 to {MAX_DIM}", field=where)
    return schema
