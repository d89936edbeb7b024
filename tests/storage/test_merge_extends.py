"""A fold of a large indexed segment and small ones inserts the small ones into its graph; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from indexers.registry import INDEXERS, native_compiled
from vss.changes import PatchPayload
from vss.distance import exact_search
from vss.engines.local import LocalEngine
from vss.patches import PayloadPatch
from vss.points import Point
from vss.recall import recall_at
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.types import Metric

DIM, COUNT = 16, 3_000

pytestmark = pytest.mark.skipif(not native_compiled(), reason="without its kernel nothing can extend an index")


def points(rows: range, seed: int) -> list[Point]:
    """Every third one has a vector of the second name too."""
    random = np.random.default_rng(seed)
    made = []
    for row in rows:
        vectors = {"": random.normal(size=DIM).astype(np.float32)}
        if row % 3 == 0:
            vectors["second"] = random.normal(size=DIM).astype(np.float32)
        made.append(Point(id=row, vectors=vectors, payload=b'{"seed":%d,"row":%d}' % (seed, row)))
    return made


def stored(point: Point) -> tuple[bytes, dict[str, bytes]]:
    return point.payload, {name: vector.tobytes() for name, vector in point.vectors.items()}


def test_a_fold_goes_on_from_the_largest_segment(tmp_path: Path) -> None:
    engine = LocalEngine(DataDir(tmp_path / "data"), INDEXERS, writable=True)
    schema = VectorSchema(dim=DIM, metric=Metric.EUCLID)
    engine.create(
        "c", Schema(vectors={"": schema, "second": schema}, index=IndexSettings(kind="native", params={"degree": 16}))
    )
    collection = engine.collection("c")
    # The larger segment comes last in order of size and of time, and first into the merge.
    held = {one.id: one for one in points(range(COUNT), 1)}
    engine.upsert("c", list(held.values())).result()
    fold(collection, engine, INDEXERS, threads=2)
    for rows, seed in ((range(COUNT, COUNT + 150), 2), (range(100, 160), 3)):
        new = points(rows, seed)
        engine.upsert("c", new).result()
        held |= {one.id: one for one in new}
        seal(collection, engine, INDEXERS)
    gone = list(range(200, 260)) + list(range(COUNT, COUNT + 10))
    engine.remove("c", gone).result()
    for one in gone:
        del held[one]
    engine.write("c", [PatchPayload(list(range(300, 320)), PayloadPatch(set={"patched": True}))]).result()
    for row in range(300, 320):
        held[row] = replace(held[row], payload=b'{"seed":1,"row":%d,"patched":true}' % row)

    manifest = seal(collection, engine, INDEXERS)
    largest = max(manifest.segments, key=lambda one: one.rows)
    dead = set(range(100, 160)) | set(range(200, 260)) | set(range(300, 320))
    assert (largest.rows, largest.deleted) == (COUNT, len(dead))
    seen: list[int] = []
    folded = fold(collection, engine, INDEXERS, threads=2, progress=seen.append)

    (segment,) = folded.segments
    living = [COUNT - len(dead), sum(row % 3 == 0 and row not in dead for row in range(COUNT))]
    assert sorted(seen)[-2:] == sorted(living), "rows of the graph there was should be taken over, not inserted"
    assert sum(seen) == len(held) + sum("second" in one.vectors for one in held.values())
    assert all(one.calibration for one in segment.vectors.values())
    view = collection.view()
    assert view.points == len(held)
    assert {one.id: stored(one) for one in view.retrieve(range(COUNT + 150))} == {
        row: stored(one) for row, one in held.items()
    }
    for name in ("", "second"):
        having = [one for one in held.values() if name in one.vectors]
        vectors = np.stack([one.vectors[name] for one in having])
        queries = np.random.default_rng(9).normal(size=(50, DIM)).astype(np.float32)
        queries[:10] = [one.vectors[name] for one in points(range(COUNT, COUNT + 30, 3), 2)]
        truth = exact_search(queries, vectors, 10, Metric.EUCLID).rows
        places = {one.id: place for place, one in enumerate(having)}
        found = [
            [places[view.parts[part].point(int(row)).id] for part, row in zip(hits.parts, hits.rows, strict=True)]
            for hits in search(view, queries, using=name, k=10, effort=128)
        ]
        assert recall_at(np.asarray(found), truth) >= 0.99
    engine.close()
