"""What of Qdrant's API is the same here, different, or refused: a table made from the operations and their structs.

`docs/qdrant-dialect.md` is this table. A field is refused when its struct says so (`Wire.unsupported`), different when
a note here says how, and the same otherwise; a test compares the fields with the models of Qdrant's own client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from api.operations import Operation
from api.routes.health import QDRANT_VERSION
from api.routes.refused import REFUSED
from api.routes.table import OPERATIONS
from api.wire import (
    aliases,
    changes,
    collections,
    filters,
    indexing,
    pages,
    points,
    query,
    select,
    upserts,
    vectors,
    writes,
)
from api.wire.base import Wire

OURS = ("/v1/", "/docs", "/openapi.json", "/collections/{collection}/recommend")
"""Beginnings of paths that Qdrant does not have, or has for itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """A request of Qdrant's API, or a part of one.

    schemas:   its names in Qdrant's OpenAPI document; the members of a union share one struct here
    different: field -> what is different about it
    """

    schemas: tuple[str, ...]
    wire: type[Wire]
    different: Mapping[str, str] = field(default_factory=dict)


_NO_EFFECT = "taken, no effect: it changes no answer"
_IDS = "any string or 64-bit integer is an id, at most 512 bytes"
_MULTI = "a list of lists (multivector) and a sparse vector are refused (`invalid_argument`, `unsupported`)"

PARTS = (
    Part(
        ("CreateCollection",),
        collections.CreateWire,
        {
            "hnsw_config": "for the next build (`vss fold`, `vss worker`); until then points are scanned",
            "quantization_config": "`scalar` int8 only; hits are always scored again with the vectors themselves",
            "wal_config": _NO_EFFECT,
            "optimizers_config": f"{_NO_EFFECT}; segments are built when `vss fold` or `vss worker` does",
            "on_disk_payload": f"{_NO_EFFECT}; payloads are mapped from disk",
        },
    ),
    Part(("VectorParams", "DenseVectorConfig"), collections.VectorParams, {"on_disk": f"{_NO_EFFECT}; mapped files"}),
    Part(
        ("HnswConfigDiff",),
        indexing.HnswWire,
        {"m": "0 scans instead, as in Qdrant; else 2 to 64"}
        | dict.fromkeys(
            ("full_scan_threshold", "max_indexing_threads", "on_disk", "memory", "inline_storage"), _NO_EFFECT
        ),
    ),
    Part(
        ("OptimizersConfigDiff",),
        indexing.OptimizersWire,
        dict.fromkeys(
            (
                "deleted_threshold",
                "vacuum_min_vector_number",
                "default_segment_number",
                "max_segment_size",
                "memmap_threshold",
                "indexing_threshold",
                "flush_interval_sec",
                "max_optimization_threads",
            ),
            _NO_EFFECT,
        ),
    ),
    Part(
        ("WalConfigDiff",),
        indexing.WalWire,
        dict.fromkeys(("wal_capacity_mb", "wal_segments_ahead", "wal_retain_closed"), _NO_EFFECT),
    ),
    Part(
        ("ScalarQuantization", "ProductQuantization", "BinaryQuantization", "TurboQuantization"),
        indexing.QuantizationWire,
    ),
    Part(
        ("ScalarQuantizationConfig",),
        indexing.ScalarWire,
        dict.fromkeys(("quantile", "always_ram", "memory"), _NO_EFFECT),
    ),
    Part(
        ("UpdateCollection",),
        changes.UpdateCollectionWire,
        {
            "hnsw_config": "for the next build; segments that are built stay as they are",
            "quantization_config": "for the next build; `scalar` int8 or `Disabled`",
            "optimizers_config": _NO_EFFECT,
        },
    ),
    Part(("VectorParamsDiff",), changes.VectorDiff, dict.fromkeys(("on_disk", "memory"), _NO_EFFECT)),
    Part(("CollectionParamsDiff",), changes.CollectionParamsDiff, {"on_disk_payload": _NO_EFFECT}),
    Part(("DenseVectorNameConfig", "SparseVectorNameConfig"), changes.AddVectorWire),
    Part(
        ("CreateFieldIndex",),
        changes.CreateIndexWire,
        {"field_schema": "required; `geo` is refused (`unsupported`). A declaration: filters work without one"},
    ),
    Part(
        (
            "KeywordIndexParams",
            "IntegerIndexParams",
            "FloatIndexParams",
            "BoolIndexParams",
            "DatetimeIndexParams",
            "UuidIndexParams",
            "TextIndexParams",
            "GeoIndexParams",
        ),
        changes.IndexParams,
        dict.fromkeys(("is_tenant", "is_principal", "on_disk", "memory", "enable_hnsw", "lookup", "range"), _NO_EFFECT)
        | dict.fromkeys(("phrase_matching", "prefix"), "taken; these conditions work without it"),
    ),
    Part(("ChangeAliasesOperation",), aliases.AliasActionsWire),
    Part(("CreateAliasOperation", "DeleteAliasOperation", "RenameAliasOperation"), aliases.AliasActionWire),
    Part(("CreateAlias",), aliases.CreateAliasWire),
    Part(("DeleteAlias",), aliases.DeleteAliasWire),
    Part(("RenameAlias",), aliases.RenameAliasWire),
    Part(("PointsList", "PointsBatch"), upserts.UpsertWire),
    Part(("PointStruct",), upserts.PointWire, {"id": _IDS, "vector": f"may be left out; {_MULTI}"}),
    Part(("Batch",), upserts.ColumnsWire, {"ids": _IDS, "vectors": f"null where a point has none; {_MULTI}"}),
    Part(
        ("Document", "Image", "InferenceObject", "SparseVector"),
        vectors.Document,
        {"text": "embedded by the collection's model", "model": "has to be the collection's model"},
    ),
    Part(("PointIdsList", "FilterSelector"), writes.DeleteWire),
    Part(("SetPayload",), writes.SetPayloadWire, {"points": "exactly one of `points` and `filter`"}),
    Part(("DeletePayload",), writes.DeletePayloadWire, {"points": "exactly one of `points` and `filter`"}),
    Part(("UpdateVectors",), upserts.UpdateVectorsWire),
    Part(
        ("PointVectors",),
        upserts.PointVectorsWire,
        {"id": f"{_IDS}; one that does not exist is left out", "vector": _MULTI},
    ),
    Part(("DeleteVectors",), writes.DeleteVectorsWire, {"points": "exactly one of `points` and `filter`"}),
    Part(("UpdateOperations",), writes.OperationsWire),
    Part(
        (
            "UpsertOperation",
            "DeleteOperation",
            "SetPayloadOperation",
            "OverwritePayloadOperation",
            "DeletePayloadOperation",
            "ClearPayloadOperation",
            "UpdateVectorsOperation",
            "DeleteVectorsOperation",
        ),
        writes.OperationWire,
    ),
    Part(("PointRequest",), points.RetrieveWire),
    Part(("PayloadSelectorInclude", "PayloadSelectorExclude"), select.PayloadSelector),
    Part(("ScrollRequest",), pages.ScrollWire),
    Part(("OrderBy",), pages.OrderByWire, {"key": "a point whose value is an array stands once, by its first element"}),
    Part(("CountRequest",), pages.CountWire, {"exact": "the count is exact either way"}),
    Part(
        ("QueryRequest",),
        query.QueryWire,
        {"query": "required (scroll without one); a list of lists and a sparse vector are refused"},
    ),
    Part(("QueryRequestBatch",), query.QueryBatchWire),
    Part(
        (
            "NearestQuery",
            "RecommendQuery",
            "DiscoverQuery",
            "ContextQuery",
            "OrderByQuery",
            "FusionQuery",
            "RrfQuery",
            "FormulaQuery",
            "SampleQuery",
            "RelevanceFeedbackQuery",
            "TextQuery",
        ),
        query.QueryInput,
        {
            "text": "a string, which is embedded by the collection's model; Qdrant's TextQueryInput is refused",
            "model": "has to be the collection's model",
        },
    ),
    Part(("RecommendInput",), query.RecommendInput, dict.fromkeys(("positive", "negative"), "texts are refused")),
    Part(("LookupLocation",), query.LookupWire),
    Part(("SearchParams",), query.SearchParams, {"hnsw_ef": "the effort of any index; `vss.recall` chooses it"}),
    Part(("Filter",), filters.FilterWire),
    Part(
        (
            "FieldCondition",
            "IsEmptyCondition",
            "IsNullCondition",
            "HasIdCondition",
            "HasVectorCondition",
            "SliceCondition",
            "NestedCondition",
        ),
        filters.ConditionWire,
    ),
    Part(
        (
            "MatchValue",
            "MatchAny",
            "MatchExcept",
            "MatchText",
            "MatchTextAny",
            "MatchPhrase",
            "MatchPrefix",
            "MatchSubstring",
        ),
        filters.MatchWire,
    ),
    Part(("Range", "DatetimeRange"), filters.RangeWire),
    Part(("ValuesCount",), filters.ValuesCountWire),
    Part(("PayloadField",), filters.FieldWire),
    Part(("Nested",), filters.NestedWire),
    Part(("MinShould",), filters.MinShouldWire),
)
"""Every part of a request of these operations."""

QUERY_PARAMETERS = (
    ("wait", "different", "a write is on disk, and found, when it is answered; `wait` only chooses the word"),
    ("ordering", "same", "every write has the strongest order"),
    ("consistency", "same", "every process reads what any has acknowledged, so every consistency holds"),
    (
        "timeout",
        "different",
        "a query ends with what it has found by then, `complete: false` and the reason `deadline`; texts that wait for "
        "their model are refused; other operations finish",
    ),
)

ANSWERS = (
    ("envelope", "`usage` is left out; `vss` is added: `generation`, `complete`, `reason`, `seq`"),
    (
        "errors",
        "`status.error` as in Qdrant; `vss` beside it has `code`, `field`, `hint`, and `items`: each wrong point",
    ),
    ("operation_id", "the sequence number of the write's last operation"),
    ("score", "the distance under Euclid and Manhattan, as in Qdrant"),
    ("shard_key, order_value", "`shard_key` is left out; `order_value` stands in scrolled points"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One field: what it is called, whether it is the `same`, `different` or `refused`, and how."""

    name: str
    status: str
    how: str


def rows(part: Part) -> Iterator[Row]:
    """The fields of a part."""
    for one in msgspec.structs.fields(part.wire):
        if one.name in part.wire.unsupported:
            taken = ", ".join(f"`{msgspec.json.encode(value).decode()}`" for value in part.wire.unsupported[one.name])
            hint = part.wire.hints.get(one.name)
            how = "`unsupported`" + (f", but {taken} is taken" if taken else "") + (f"; {hint}" if hint else "")
            yield Row(one.encode_name, "refused", how)
        elif one.encode_name in part.different:
            yield Row(one.encode_name, "different", part.different[one.encode_name])
        elif one.encode_name == "vss":
            yield Row("vss", "ours", "left out by Qdrant's clients")
        else:
            yield Row(one.encode_name, "same", "")


def served() -> list[Operation]:
    """The operations that Qdrant has too."""
    return [one for one in OPERATIONS if not one.internal and not one.path.startswith(OURS)]


def document() -> str:
    """The table as Markdown."""
    lines = [
        "# What of Qdrant's API is the same",
        "",
        f"Compared with Qdrant {QDRANT_VERSION}; made from the code by",
        "`VSS_WRITE_DOCS=1 pytest tests/api/test_dialect.py`. What is refused gets HTTP 400 and the code given; a",
        "field that is not listed is refused too (`invalid_argument`). Null is no request for anything.",
        "",
        "## Operations",
        "",
        "| operation | | |",
        "|---|---|---|",
    ]
    lines += [f"| `{one.method} {_shown(one.path)}` | same | {one.summary} |" for one in served()]
    lines += [
        f"| `{one.method} {one.path}` | refused | `unsupported`{f'; {one.instead}' if one.instead else ''} |"
        for one in REFUSED
    ]
    lines += ["", "## Query parameters", "", "| parameter | | |", "|---|---|---|"]
    lines += [f"| `{name}` | {status} | {how} |" for name, status, how in QUERY_PARAMETERS]
    lines += ["", "## Answers", "", "| member | |", "|---|---|"]
    lines += [f"| {name} | {how} |" for name, how in ANSWERS]
    lines += ["", "## Fields", ""]
    for part in PARTS:
        lines += [f"### {', '.join(part.schemas)}", "", "| field | | |", "|---|---|---|"]
        lines += [f"| `{row.name}` | {row.status} | {row.how} |" for row in rows(part)]
        lines.append("")
    return "\n".join(lines)


def _shown(path: str) -> str:
    return path.replace(":path}", "}")
