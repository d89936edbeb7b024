"""Collections: what creating one takes, and how one is described."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from api.wire.base import Harmless, Hints, T, Unsupported, Wire, decode, located, refuse_unsupported, under
from api.wire.indexing import HnswWire, OptimizersWire, QuantizationWire, WalWire, check_index, read_index
from vss.engines.health import Health
from vss.errors import Code, VssError, invalid
from vss.filters import Condition, Filter, IsEmpty
from vss.protocols import EmbedderInfo, Indexers, Models
from vss.schema import AUTO, DEFAULT_VECTOR, IndexSettings, Schema, VectorSchema, check_schema
from vss.storage.catalog import Entry
from vss.storage.manifest import SegmentRecord
from vss.storage.view import View
from vss.types import Metric

_INDEX_HINT = "all vectors of a collection share its own hnsw_config and quantization_config"

MAX_VECTORS = 256
"""Named vectors of one collection."""

MAX_NAME = 255
"""Characters of a vector's name."""


class VssVector(Wire):
    """The model that makes a vector, and the payload field whose text it is made of.

    fingerprint: the model's identity. With it and a `size` the model need not be served here.
    """

    model: str | None = None
    text_field: str | None = None
    fingerprint: str | None = None


class VectorParams(Wire):
    """One vector. `size` may be left out where a model is named."""

    size: int | None = None
    distance: Metric | None = None
    hnsw_config: Unsupported = None
    quantization_config: Unsupported = None
    on_disk: bool | None = None
    memory: Unsupported = None
    datatype: Unsupported = None
    multivector_config: Unsupported = None
    vss: VssVector | None = None

    unsupported: ClassVar[Harmless] = {
        "hnsw_config": ({},),
        "quantization_config": (),
        "memory": (),
        "datatype": ("float32",),
        "multivector_config": (),
    }
    hints: ClassVar[Hints] = dict.fromkeys(("hnsw_config", "quantization_config"), _INDEX_HINT)


class IndexWire(Wire):
    """Which index a build makes, and its parameters."""

    kind: str = AUTO
    params: dict[str, int | float | str] = msgspec.field(default_factory=dict)


class VssCollection(VssVector):
    """Our additions: the model and text field of the only vector, and the index of all."""

    index: IndexWire | None = None


class CreateWire(Wire):
    """`PUT /collections/{collection}`."""

    vectors: Annotated[
        msgspec.Raw,
        msgspec.Meta(
            extra_json_schema={
                "oneOf": [
                    {"$ref": "#/components/schemas/VectorParams"},
                    {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/VectorParams"}},
                ]
            }
        ),
    ] = msgspec.field(default_factory=msgspec.Raw)
    shard_number: Unsupported = None
    sharding_method: Unsupported = None
    replication_factor: Unsupported = None
    write_consistency_factor: Unsupported = None
    on_disk_payload: bool | None = None
    payload: Unsupported = None
    id_tracker: Unsupported = None
    hnsw_config: HnswWire | None = None
    wal_config: WalWire | None = None
    optimizers_config: OptimizersWire | None = None
    quantization_config: QuantizationWire | None = None
    sparse_vectors: Unsupported = None
    strict_mode_config: Unsupported = None
    init_from: Unsupported = None
    metadata: Unsupported = None
    vss: VssCollection | None = None

    unsupported: ClassVar[Harmless] = {
        "shard_number": (1,),
        "sharding_method": ("auto",),
        "replication_factor": (1,),
        "write_consistency_factor": (1,),
        "payload": (),
        "id_tracker": (),
        "sparse_vectors": ({},),
        "strict_mode_config": ({}, {"enabled": False}),
        "init_from": (),
        "metadata": ({},),
    }


class CollectionName(msgspec.Struct, kw_only=True):
    """One row of the list of collections."""

    name: str


class CollectionsReply(msgspec.Struct, kw_only=True):
    """All collections, by name."""

    collections: list[CollectionName]


class ExistsReply(msgspec.Struct, kw_only=True):
    """Whether a collection is there."""

    exists: bool


class CollectionReply(msgspec.Struct, kw_only=True):
    """A collection as Qdrant describes one. Members without a meaning here say what is nearest to the truth."""

    status: str
    optimizer_status: str | dict[str, str]
    points_count: int
    indexed_vectors_count: int
    segments_count: int
    config: dict[str, Any]
    payload_schema: dict[str, Any] = {}


def read_create(wire: CreateWire, models: Models, indexers: Indexers) -> Schema:
    """The schema of a new collection. VssError: INVALID, UNSUPPORTED, NOT_FOUND (no such model)."""
    refuse_unsupported(wire)
    ours = wire.vss or VssCollection()
    vectors = _vectors(bytes(wire.vectors))
    if not vectors and ours.model is not None:
        vectors = {DEFAULT_VECTOR: VectorParams()}
    if (ours.model or ours.text_field or ours.fingerprint) and len(vectors) != 1:
        raise invalid(
            f"got one model for {len(vectors)} vectors",
            field="vss.model",
            hint='name it in each vector: {"vectors": {NAME: {"vss": {"model": ...}}}}',
        )
    if len(vectors) > MAX_VECTORS:
        raise invalid(f"got {len(vectors)} vectors, wanted at most {MAX_VECTORS}", field="vectors")
    schemas = {
        check_vector_name(name, "vectors") if name else name: read_vector(
            params, params.vss or ours, models, f"vectors.{name}" if name else "vectors"
        )
        for name, params in vectors.items()
    }
    index = IndexSettings()
    if ours.index is not None:
        index = IndexSettings(kind=ours.index.kind, params=ours.index.params)
    if wire.optimizers_config is not None:
        refuse_unsupported(wire.optimizers_config, "optimizers_config")
    index = read_index(index, wire.hnsw_config, wire.quantization_config)
    schema = check_schema(Schema(vectors=schemas, index=index))
    check_index(schema, indexers, "vss.index" if ours.index is not None else "hnsw_config")
    return schema


def check_vector_name(name: str, where: str) -> str:
    """The name itself. VssError (INVALID)."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise invalid(f"got vector name {name[:40]!r}, wanted 1 to {MAX_NAME} printable characters", field=where)
    return name


def _vectors(raw: bytes) -> dict[str, VectorParams]:
    if raw in (b"", b"null"):
        return {}
    members = _at("vectors", raw, dict[str, msgspec.Raw])
    if all(bytes(member)[:1] == b"{" for member in members.values()):
        return {name: _at(f"vectors.{name}", bytes(member), VectorParams) for name, member in members.items()}
    return {DEFAULT_VECTOR: _at("vectors", raw, VectorParams)}


def _at(where: str, raw: bytes, kind: type[T]) -> T:
    try:
        return decode(raw, kind)
    except VssError as error:
        raise located(error, where if error.field in (None, "body") else under(where, error.field or "")) from None


def read_vector(params: VectorParams, ours: VssVector, models: Models, where: str) -> VectorSchema:
    """One vector's schema. VssError: INVALID, UNSUPPORTED, NOT_FOUND (no such model), FINGERPRINT_MISMATCH."""
    refuse_unsupported(params, where)
    said = under(where, "vss") if params.vss else "vss"
    size, metric = params.size, params.distance
    if ours.model is None:
        if ours.text_field is not None or ours.fingerprint is not None:
            raise invalid("got nothing, wanted the model too", field=f"{said}.model")
        if size is None:
            raise invalid("got nothing, wanted this field", field=f"{where}.size")
        if metric is None:
            names = ", ".join(one.value for one in Metric)
            raise invalid(f"got nothing, wanted one of {names}", field=f"{where}.distance")
        return VectorSchema(dim=size, metric=metric)
    info = _info(ours, size, models, f"{said}.model")
    if info is None:
        assert size is not None
        dim, fingerprint, natural = size, ours.fingerprint, Metric.COSINE
    else:
        dim, fingerprint, natural = info.dim, info.fingerprint, info.metric
    if size not in (None, dim):
        raise invalid(f"got size {size}, but the model {ours.model} makes {dim}", field=f"{where}.size")
    if ours.fingerprint not in (None, fingerprint):
        raise VssError(
            Code.FINGERPRINT_MISMATCH,
            f"got fingerprint {ours.fingerprint!r}, the served model {ours.model} has {fingerprint!r}",
            field=f"{said}.fingerprint",
            hint="leave it out to take the served model's",
        )
    return VectorSchema(
        dim=dim, metric=metric or natural, model=ours.model, fingerprint=fingerprint, text_field=ours.text_field
    )


def _info(ours: VssVector, size: int | None, models: Models, where: str) -> EmbedderInfo | None:
    """The served model, or None when the request says all that has to be known of it."""
    assert ours.model is not None
    try:
        return models.info(ours.model)
    except VssError as error:
        if ours.fingerprint is not None and size is not None:
            return None
        code = Code.INVALID if error.code is Code.NOT_FOUND else error.code
        raise VssError(code, error.message, field=where, hint=error.hint) from None


def describe(entry: Entry, view: View | None, health: Health) -> CollectionReply:
    """A collection and what stands in it; `view` is None where it cannot be read."""
    schema = entry.schema
    quantized = schema.index.params.get("storage") == "sq8"
    params = {name: {"size": one.dim, "distance": one.metric.value} for name, one in schema.vectors.items()}
    return CollectionReply(
        # Red: queries are refused. Yellow: they are answered, and something has to be mended.
        status="red" if health.unreadable else "yellow" if health.problems() else "green",
        optimizer_status={"error": "; ".join(health.problems())} if health.problems() else "ok",
        points_count=view.points if view else 0,
        indexed_vectors_count=indexed(view) if view else 0,
        segments_count=len(view.parts) if view else 0,
        config={
            "params": {
                "vectors": params[DEFAULT_VECTOR] if list(params) == [DEFAULT_VECTOR] else params,
                "shard_number": 1,
                "replication_factor": 1,
                "write_consistency_factor": 1,
                "on_disk_payload": True,
            },
            "hnsw_config": {
                "m": schema.index.params.get("m", 16),
                "ef_construct": schema.index.params.get("ef_construction", 200),
                "full_scan_threshold": 20_000,
            },
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 0},
        }
        | ({"quantization_config": {"scalar": {"type": "int8"}}} if quantized else {}),
        payload_schema={
            path: {"data_type": kind, "points": view.count(has_value(path)) if view else 0}
            for path, kind in schema.payload_indexes.items()
        },
    )


def has_value(path: str) -> Condition:
    """Points with a value at a payload path."""
    return Filter(must_not=(IsEmpty(path),))


def additions(entry: Entry, view: View) -> dict[str, Any]:
    """What we say of a collection beside Qdrant's description."""
    return {
        "generation": view.generation,
        "seq": view.seq,
        "unindexed_points": view.points - min(view.points, indexed(view)),
        "schema": msgspec.to_builtins(entry.schema),
        "segments": [_segment(record) for record in (view.manifest.segments if view.manifest else ())],
    }


def _segment(record: SegmentRecord) -> dict[str, Any]:
    """What a segment is: its size, and for each vector name its index with the recall@10 that each effort measured."""
    return {
        "rows": record.rows,
        "deleted": record.deleted,
        "vectors": {
            name: {
                "index": one.index.kind,
                "params": one.index.params,
                "calibration": msgspec.to_builtins(one.calibration),
            }
            for name, one in record.vectors.items()
        },
    }


def indexed(view: View) -> int:
    """Points that lie in segments with a calibrated index."""
    return sum(
        part.count()
        for part, record in zip(view.parts[:-1], view.manifest.segments if view.manifest else (), strict=False)
        if any(one.calibration for one in record.vectors.values())
    )
