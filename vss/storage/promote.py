"""Making a retained generation current again, or rolling back: what is checked before the pointer moves.

Every file is verified and opened, each graph answers for its own vectors as well as when it was measured, and no write
that was acknowledged since would be lost or read by another model. Then nothing but the pointer moves, and the
operations that the generation does not cover apply to it as they did when they came.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from vss import canary
from vss.errors import Code, VssError
from vss.protocols import Indexers
from vss.recall import calibrate
from vss.schema import Schema
from vss.storage.build import CALIBRATION_SEED
from vss.storage.collection import Collection
from vss.storage.history import Retained, vectors_after
from vss.storage.manifest import Manifest, artifacts_of, read_manifest
from vss.storage.npy import map_npy
from vss.storage.segment import Segment

QUESTIONS = 16
"""Golden queries of each graph: rows of its own."""

TOLERANCE = 0.1
"""How far below the measured recall the answers to so few may be (standard error about .02 at .95)."""


def check_generation(collection: Collection, chosen: Retained, indexers: Indexers) -> Manifest:
    """The manifest of a generation that can serve. VssError (CORRUPT) when a file is missing, damaged or useless."""
    manifest = read_manifest(collection.manifests, chosen.generation, chosen.manifest)
    for artifact in artifacts_of(manifest):
        collection.artifacts.path(artifact)
    for record in manifest.segments:
        segment = Segment(record, collection.artifacts, indexers)
        try:
            if segment.damage:
                raise VssError(Code.CORRUPT, f"segment {record.id}: {segment.damage[0]}")
            _ask(segment, manifest)
        finally:
            segment.close()
    for name, model in manifest.models.items():
        canaries = map_npy(collection.artifacts.path(model.canaries))
        if canaries.dtype != np.float32 or canaries.shape[:1] != (len(canary.TEXTS),):
            raise VssError(Code.CORRUPT, f"the canaries of {name!r} are of shape {canaries.shape}")
    return manifest


def _ask(segment: Segment, manifest: Manifest) -> None:
    for name, one in segment.vectors.items():
        if not one.record.calibration:
            continue
        best = max(one.record.calibration, key=lambda point: point.recall)
        metric = one.record.index.metric
        (found,) = calibrate(
            one.index, one.vectors, metric, efforts=(best.effort,), sample=QUESTIONS, seed=CALIBRATION_SEED
        )
        if not found.recall >= best.recall - TOLERANCE:
            shown = f" {name!r}" if name else ""
            raise VssError(
                Code.CORRUPT,
                f"the index{shown} of generation {manifest.generation} does not answer for its vectors: recall@10 "
                f"{found.recall:.3f} at effort {best.effort}, measured when it was built {best.recall:.3f}",
                hint="promote another generation, or build the index again",
            )


def restored_schema(collection: Collection, chosen: Retained, manifest: Manifest) -> Schema:
    """The schema under the generation: its vectors and index; vectors that were added since stay, and fields too.

    VssError (CONFLICT) when acknowledged writes that it does not cover hold vectors which it would read by another
    model, dimension or metric.
    """
    now, then = collection.schema, manifest.schema
    changed = {name for name, vector in now.vectors.items() if then.vectors.get(name, vector) != vector}
    if changed:
        written = sorted(changed & vectors_after(collection.log, chosen.covered_seq))
        if written:
            raise VssError(
                Code.CONFLICT,
                f"writes that generation {chosen.generation} does not cover hold vectors {written[0]!r} of "
                f"{_shown(now, written[0])}; its own are of {_shown(then, written[0])}",
                hint="import the older model's vectors as a new collection, and move an alias",
            )
    return replace(now, vectors=now.vectors | then.vectors, index=then.index)


def _shown(schema: Schema, name: str) -> str:
    vector = schema.vectors[name]
    model = f" by {vector.model} {vector.fingerprint}" if vector.model else ""
    return f"{vector.dim} numbers under {vector.metric}{model}"
