"""The generations of a collection as people see them: for HTTP and the command line."""

from __future__ import annotations

import msgspec

from vss.errors import Code, VssError
from vss.schema import VectorSchema
from vss.storage.collection import Collection
from vss.storage.history import Retained, find, retained
from vss.storage.manifest import Manifest, SegmentRecord, artifacts_of, read_manifest
from vss.storage.merge import live_rows


class Generation(msgspec.Struct, kw_only=True):
    """A generation that can be promoted.

    created:     when, in ISO 8601, UTC; `source` says by what
    covered_seq: writes up to this operation are in its segments; later ones apply to it
    points:      in its segments
    bytes:       of all files that it names; generations share files
    damage:      why it cannot be promoted, where its manifest cannot be read
    """

    generation: int
    current: bool
    covered_seq: int
    parent: int = 0
    created: str = ""
    source: str = ""
    points: int = 0
    segments: int = 0
    bytes: int = 0
    damage: str | None = None


class SegmentOfGeneration(msgspec.Struct, kw_only=True):
    """One segment. indexes: vector name -> kind; recall: the best that was measured, where it was."""

    id: str
    points: int
    deleted: int
    indexes: dict[str, str]
    recall: dict[str, float]


class GenerationDetail(msgspec.Struct, kw_only=True):
    """A generation, its vectors (model and fingerprint too) and its segments."""

    summary: Generation
    vectors: dict[str, VectorSchema]
    segments: list[SegmentOfGeneration]


def list_generations(collection: Collection) -> list[Generation]:
    """All that are retained, oldest first."""
    return [_summary(collection, one) for one in retained(collection.log)]


def describe_generation(collection: Collection, number: int) -> GenerationDetail:
    """One of them. VssError: NOT_FOUND, CORRUPT (its manifest)."""
    chosen = find(collection.log, number)
    manifest = read_manifest(collection.manifests, chosen.generation, chosen.manifest)
    return GenerationDetail(
        summary=_summarised(manifest, chosen),
        vectors=manifest.schema.vectors,
        segments=[_segment(one) for one in manifest.segments],
    )


def _summary(collection: Collection, chosen: Retained) -> Generation:
    try:
        return _summarised(read_manifest(collection.manifests, chosen.generation, chosen.manifest), chosen)
    except VssError as error:
        if error.code is not Code.CORRUPT:
            raise
        damage = error.message
    return Generation(
        generation=chosen.generation, current=chosen.current, covered_seq=chosen.covered_seq, damage=damage
    )


def _summarised(manifest: Manifest, chosen: Retained) -> Generation:
    return Generation(
        generation=chosen.generation,
        current=chosen.current,
        covered_seq=chosen.covered_seq,
        parent=manifest.parent,
        created=manifest.created,
        source=manifest.source,
        points=sum(map(live_rows, manifest.segments)),
        segments=len(manifest.segments),
        bytes=sum(one.bytes for one in artifacts_of(manifest)),
    )


def _segment(record: SegmentRecord) -> SegmentOfGeneration:
    return SegmentOfGeneration(
        id=record.id,
        points=live_rows(record),
        deleted=record.deleted,
        indexes={name: one.index.kind for name, one in record.vectors.items()},
        recall={
            name: max(point.recall for point in one.calibration)
            for name, one in record.vectors.items()
            if one.calibration
        },
    )
