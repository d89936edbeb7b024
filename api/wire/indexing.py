"""Qdrant's words for how vectors are indexed, as the index that the next build makes."""

from __future__ import annotations

from typing import ClassVar, Literal

from api.wire.base import Harmless, Unsupported, Wire, located, refuse_unsupported, under
from vss.errors import VssError, invalid
from vss.protocols import Indexers
from vss.schema import AUTO, IndexSettings, Schema
from vss.types import Metric

GRAPH = "faiss_hnsw"
"""The index that Qdrant's `hnsw_config` speaks of."""

FLAT = "flat"
"""The index that scans."""


class HnswWire(Wire):
    """The graph that the next build makes; `m` 0 makes none. The other members change no answer and have no effect."""

    m: int | None = None
    ef_construct: int | None = None
    full_scan_threshold: int | None = None
    max_indexing_threads: int | None = None
    on_disk: bool | None = None
    memory: str | None = None
    payload_m: Unsupported = None
    inline_storage: bool | None = None

    unsupported: ClassVar[Harmless] = {"payload_m": ()}


class ScalarWire(Wire):
    """Eight bits for a component in the graph; hits are scored again with the vectors themselves."""

    type: Literal["int8"]
    quantile: float | None = None
    always_ram: bool | None = None
    memory: str | None = None


class QuantizationWire(Wire):
    """Scalar quantization; the others are not supported."""

    scalar: ScalarWire | None = None
    product: Unsupported = None
    binary: Unsupported = None
    turbo: Unsupported = None

    unsupported: ClassVar[Harmless] = dict.fromkeys(("product", "binary", "turbo"), ())


class OptimizersWire(Wire):
    """When Qdrant rebuilds segments. Taken and without effect: `vss fold` builds, when it is run."""

    deleted_threshold: float | None = None
    vacuum_min_vector_number: int | None = None
    default_segment_number: int | None = None
    max_segment_size: int | None = None
    memmap_threshold: int | None = None
    indexing_threshold: int | None = None
    flush_interval_sec: int | None = None
    max_optimization_threads: int | str | None = None
    prevent_unoptimized: Unsupported = None

    unsupported: ClassVar[Harmless] = {"prevent_unoptimized": (False,)}


class WalWire(Wire):
    """The size of Qdrant's log files. Taken and without effect."""

    wal_capacity_mb: int | None = None
    wal_segments_ahead: int | None = None
    wal_retain_closed: int | None = None


def read_index(index: IndexSettings, hnsw: HnswWire | None, quantization: QuantizationWire | None) -> IndexSettings:
    """The index with what Qdrant's words for it say. VssError: INVALID, UNSUPPORTED."""
    kind, params = index.kind, dict(index.params)
    if hnsw is not None:
        refuse_unsupported(hnsw, "hnsw_config")
        said = {"m": hnsw.m, "ef_construction": hnsw.ef_construct}
        params |= {name: value for name, value in said.items() if value is not None}
        if hnsw.m == 0:
            kind, params = FLAT, {}
    if quantization is not None:
        refuse_unsupported(quantization, "quantization_config")
        if quantization.scalar is None:
            raise invalid("got nothing, wanted this field", field="quantization_config.scalar")
        if kind != FLAT:
            params["storage"] = "sq8"
    return IndexSettings(kind=kind, params=params)


def check_index(schema: Schema, indexers: Indexers, where: str) -> None:
    """Refuse now what would fail the first build. VssError (INVALID, UNSUPPORTED)."""
    index = schema.index
    # For few points "auto" is a scan without parameters; what it takes is judged by the graph.
    kind = GRAPH if index.kind == AUTO and index.params else index.kind
    for vector in schema.vectors.values():
        if index.kind == AUTO and vector.metric is Metric.MANHATTAN:
            continue
        try:
            indexers.choose(kind, vector.metric, vector.dim, 0, index.params)
        except VssError as error:
            raise located(error, under(where, _THEIRS.get(error.field or "kind", error.field or "kind"))) from None


_THEIRS = {"ef_construction": "ef_construct"}
