"""Changes of a living collection: payload indexes, named vectors, and the index that its next build makes."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import msgspec

from api.wire.base import Harmless, Hints, Unsupported, Wire, exactly_one, refuse_unsupported, under, unsupported
from api.wire.collections import VectorParams, VssVector, check_vector_name, read_vector
from api.wire.indexing import HnswWire, OptimizersWire, QuantizationWire, read_index
from api.wire.payloads import read_path
from vss.errors import invalid
from vss.protocols import Models
from vss.schema import IndexSettings, Schema, VectorSchema

IndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "uuid", "text", "geo"]
"""Types of payload indexes in the dialect; `geo` is refused by name."""


class IndexParams(Wire):
    """A payload index with parameters. Those that change no answer have no effect: fields are columns anyway."""

    type: IndexKind
    is_tenant: bool | None = None
    is_principal: bool | None = None
    on_disk: bool | None = None
    memory: str | None = None
    enable_hnsw: bool | None = None
    lookup: bool | None = None
    range: bool | None = None
    tokenizer: Unsupported = None
    min_token_len: Unsupported = None
    max_token_len: Unsupported = None
    lowercase: Unsupported = None
    ascii_folding: Unsupported = None
    phrase_matching: bool | None = None
    stopwords: Unsupported = None
    stemmer: Unsupported = None
    scoring: Unsupported = None
    prefix: bool | None = None
    nested: Unsupported = None

    unsupported: ClassVar[Harmless] = {
        "tokenizer": ("word",),
        "min_token_len": (),
        "max_token_len": (),
        "lowercase": (True,),
        "ascii_folding": (False,),
        "stopwords": (),
        "stemmer": (),
        "scoring": (False,),
        "nested": (),
    }


class CreateIndexWire(Wire):
    """`PUT /collections/{collection}/index`: say what type a payload field has."""

    field_name: str
    field_schema: IndexKind | IndexParams | None = None


class AddVectorWire(Wire):
    """`PUT /collections/{collection}/vectors/{name}`: a named vector that no point has yet."""

    dense: VectorParams | None = None
    sparse: Unsupported = None

    unsupported: ClassVar[Harmless] = {"sparse": ()}


class VectorDiff(Wire):
    """What may change about one vector: where it is kept, which has no effect."""

    hnsw_config: Unsupported = None
    quantization_config: Unsupported = None
    on_disk: bool | None = None
    memory: str | None = None

    unsupported: ClassVar[Harmless] = {"hnsw_config": ({},), "quantization_config": ()}
    hints: ClassVar[Hints] = dict.fromkeys(
        ("hnsw_config", "quantization_config"), "all vectors of a collection share its own"
    )


class CollectionParamsDiff(Wire):
    """Replicas and where payloads are kept."""

    replication_factor: Unsupported = None
    write_consistency_factor: Unsupported = None
    read_fan_out_factor: Unsupported = None
    read_fan_out_delay_ms: Unsupported = None
    on_disk_payload: bool | None = None
    payload: Unsupported = None
    id_tracker: Unsupported = None

    unsupported: ClassVar[Harmless] = {
        "replication_factor": (1,),
        "write_consistency_factor": (1,),
        "read_fan_out_factor": (0,),
        "read_fan_out_delay_ms": (0,),
        "payload": (),
        "id_tracker": (),
    }


class UpdateCollectionWire(Wire):
    """`PATCH /collections/{collection}`: the index of the next build. Segments that are built stay as they are."""

    vectors: dict[str, VectorDiff] | None = None
    optimizers_config: OptimizersWire | None = None
    params: CollectionParamsDiff | None = None
    hnsw_config: HnswWire | None = None
    quantization_config: QuantizationWire | Literal["Disabled"] | None = None
    sparse_vectors: Unsupported = None
    strict_mode_config: Unsupported = None
    metadata: Unsupported = None

    unsupported: ClassVar[Harmless] = {
        "sparse_vectors": ({},),
        "strict_mode_config": ({}, {"enabled": False}),
        "metadata": ({},),
    }


def read_payload_index(wire: CreateIndexWire) -> tuple[str, str]:
    """The path and the type. VssError: INVALID, UNSUPPORTED."""
    path = read_path(wire.field_name, "field_name")
    if wire.field_schema is None:
        raise invalid(
            "got nothing, wanted a type",
            field="field_schema",
            hint=f"send one of {', '.join(kind for kind in get_args(IndexKind) if kind != 'geo')}",
        )
    kind, where = wire.field_schema, "field_schema"
    if isinstance(kind, IndexParams):
        refuse_unsupported(kind, where)
        kind, where = kind.type, "field_schema.type"
    if kind == "geo":
        raise unsupported(where, hint="there are no conditions on places")
    return path, kind


def read_add_vector(wire: AddVectorWire, name: str, models: Models) -> VectorSchema:
    """The vector to add. VssError: INVALID, UNSUPPORTED, NOT_FOUND (no such model)."""
    refuse_unsupported(wire)
    exactly_one(wire, ("dense",), "dense")
    assert wire.dense is not None
    check_vector_name(name, "vector_name")
    return read_vector(wire.dense, wire.dense.vss or VssVector(), models, "dense")


def read_update(wire: UpdateCollectionWire, schema: Schema) -> IndexSettings:
    """The index settings after the change. VssError: INVALID, UNSUPPORTED."""
    refuse_unsupported(wire)
    for name, diff in (wire.vectors or {}).items():
        where = under("vectors", name) if name else "vectors"
        if name not in schema.vectors:
            known = ", ".join(repr(one) for one in schema.vectors)
            raise invalid(f"got vector name {name!r}, wanted one of {known}", field=where)
        refuse_unsupported(diff, where)
    if wire.params is not None:
        refuse_unsupported(wire.params, "params")
    if wire.optimizers_config is not None:
        refuse_unsupported(wire.optimizers_config, "optimizers_config")
    index, quantization = schema.index, wire.quantization_config
    if quantization == "Disabled":
        left = {name: value for name, value in index.params.items() if name != "storage"}
        index, quantization = msgspec.structs.replace(index, params=left), None
    return read_index(index, wire.hnsw_config, quantization)
