"""What a fold merges and when it is due; and that a merge holds beside what is published while it is built."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from indexers.registry import INDEXERS
from tests.storage.conftest import DIM
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Growing, Indexers, IndexSpec
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.artifacts import Artifact
from vss.storage.compact import compact
from vss.storage.fold import fold, seal
from vss.storage.manifest import Manifest, SegmentRecord, VectorsRecord
from vss.storage.merge import PILE, Merge, due, survey, to_merge
from vss.storage.staging import remove_orphans, staging_folder
from vss.types import Metric

FILE = Artifact("0" * 64, 1)


@pytest.mark.parametrize(
    ("merge", "is_due"),
    [
        (Merge(points=0, segments=0), False),
        (Merge(points=20_000, segments=1, unindexed=20_000), True),
        (Merge(points=50_000_000, segments=1, unindexed=20_000), True),
        (Merge(points=50_000_000, segments=1, unindexed=19_999), False),
        (Merge(points=8_000, segments=2, unindexed=2_000), True),
        (Merge(points=8_000, segments=2, unindexed=1_999), False),
        (Merge(points=10_000_000, segments=PILE - 1), False),
        (Merge(points=7_000, segments=PILE), True),
        (Merge(points=100, segments=1, dead=40), False),
        (Merge(points=100_000, segments=1, dead=30_000), True),
    ],
)
def test_when_a_fold_is_due(merge: Merge, is_due: bool) -> None:
    assert (due(merge) is not None) == is_due


@pytest.mark.parametrize(
    ("merge", "is_due"),
    [
        (Merge(points=8_000, segments=2, unindexed=8_000), False),
        (Merge(points=40_000, segments=2, unindexed=20_000), True),
        (Merge(points=40_000, segments=2, dead=19_999), False),
        (Merge(points=40_000, segments=2, dead=20_000), True),
        (Merge(points=7_000, segments=PILE), True),
    ],
)
def test_while_writes_go_on_more_has_to_gather(merge: Merge, is_due: bool) -> None:
    assert due(merge) is not None
    assert (due(merge, settled=False) is not None) == is_due


def generation(*segments: tuple[int, str], metric: Metric = Metric.COSINE, deleted: int = 0) -> tuple[Manifest, Schema]:
    """A manifest of segments of so many rows and that kind of index; each has `deleted` tombstones beside them."""
    schema = Schema(vectors={"": VectorSchema(dim=DIM, metric=metric)})
    records = tuple(
        SegmentRecord(
            id=f"s{number}",
            rows=rows + deleted,
            ids={},
            payloads={},
            versions=FILE,
            vectors={
                "": VectorsRecord(
                    vectors=Artifact("0" * 64, 192 + 4 * DIM * (rows + deleted)),
                    rows=None,
                    index=IndexSpec(kind=kind, metric=metric, dim=DIM),
                    files={},
                )
            },
            deleted=deleted,
        )
        for number, (rows, kind) in enumerate(segments)
    )
    made = Manifest(
        collection="c",
        generation=1,
        parent=0,
        created="",
        source="",
        schema=schema,
        covered_seq=0,
        segments=records,
    )
    return made, schema


@pytest.mark.parametrize(
    ("segments", "merged"),
    [
        ([], []),
        ([(1_000_000, "faiss_hnsw"), (20_000, "flat")], [20_000]),
        # One that was sealed larger than usual has no index either.
        ([(1_000_000, "faiss_hnsw"), (39_000, "flat")], [39_000]),
        ([(60_000, "faiss_hnsw"), (20_000, "faiss_hnsw"), (20_000, "flat")], [20_000, 20_000, 60_000]),
        ([(61_000, "faiss_hnsw"), (30_000, "faiss_hnsw")], []),
        ([(30_000, "faiss_hnsw")] * 9, [30_000] * 9),
    ],
)
def test_what_a_fold_merges(segments: list[tuple[int, str]], merged: list[int]) -> None:
    manifest, schema = generation(*segments)
    assert sorted(one.rows for one in to_merge(manifest, schema, INDEXERS)) == merged


def test_small_collections_are_not_given_an_index_and_exact_ones_never() -> None:
    manifest, schema = generation((4_000, "flat"))
    assert survey(manifest, schema, INDEXERS).unindexed == 0
    manifest, schema = generation((4_000, "flat"), (4_000, "flat"))
    assert survey(manifest, schema, INDEXERS).unindexed == 8_000
    manifest, schema = generation((4_000, "flat"), (4_000, "flat"), metric=Metric.MANHATTAN)
    assert survey(manifest, schema, INDEXERS) == Merge(points=8_000, segments=2)
    manifest, schema = generation((15_000, "faiss_hnsw"), deleted=5_000)
    assert survey(manifest, schema, INDEXERS).dead == 5_000


@pytest.mark.parametrize("kind", ["faiss_hnsw", "flat"])
def test_work_stays_amortised_and_segments_few(kind: str) -> None:
    """Seals of 20,000 points up to 10,000,000: how often a point is written, and how much lies there unindexed."""
    metric = Metric.MANHATTAN if kind == "flat" else Metric.COSINE
    segments: list[tuple[int, str]] = []
    written = 0
    for _ in range(500):
        segments.append((20_000, "flat"))
        manifest, schema = generation(*segments, metric=metric)
        while due(survey(manifest, schema, INDEXERS)):
            merged = to_merge(manifest, schema, INDEXERS)
            total = sum(one.rows for one in merged)
            written += total
            segments = [(one.rows, one.vectors[""].index.kind) for one in manifest.segments if one not in merged]
            segments.append((total, kind))
            manifest, schema = generation(*segments, metric=metric)
            assert kind == "flat" or all(one == kind for _, one in segments)
        assert len(segments) <= PILE + 9  # log3(10,000,000 / 20,000) = 5.7 beside the pile
    assert written / 10_000_000 <= 12  # log1.5(500) = 15.3


def points(rows: range, seed: int = 1) -> list[Point]:
    vectors = np.random.default_rng(seed).normal(size=(rows.stop, DIM)).astype(np.float32)
    return [Point(id=row, vectors={"": vectors[row]}, payload=b'{"seed": %d}' % seed) for row in rows]


def contents(engine: LocalEngine) -> dict[object, tuple[bytes, bytes]]:
    view = engine.collection("c").view()
    found = view.retrieve(range(1_000))
    assert len(found) == view.points
    return {point.id: (point.payload, point.vectors[""].tobytes() if point.vectors else b"") for point in found}


class Meddling:
    """Index backends during whose build something else happens."""

    def __init__(self, engine: LocalEngine, happens: object) -> None:
        self.engine, self.happens = engine, happens

    def builder(self, kind: str) -> object:
        return INDEXERS.builder(kind)

    def choose(self, *given: object) -> IndexSpec:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()  # type: ignore[operator]
        return INDEXERS.choose(*given)  # type: ignore[arg-type]

    def growing(self, *given: object) -> Growing:
        return INDEXERS.growing(*given)  # type: ignore[arg-type]


def test_writes_and_seals_during_a_fold_win_and_are_kept(engine: LocalEngine, indexers: Indexers) -> None:
    collection = engine.collection("c")
    for rows in (range(300), range(300, 600)):
        engine.upsert("c", points(rows)).result()
        seal(collection, engine, indexers)
    engine.upsert("c", points(range(5), seed=2)).result()  # live while the fold starts
    before = contents(engine)
    wanted: dict[object, tuple[bytes, bytes]] = {}

    def meanwhile() -> None:
        engine.upsert("c", points(range(290, 310), seed=3)).result()
        engine.remove("c", [7, 599]).result()
        seal(collection, engine, indexers)
        engine.upsert("c", points(range(600, 605), seed=4)).result()
        wanted.update(contents(engine))

    manifest = collection.current()
    assert manifest is not None
    merged = to_merge(manifest, collection.schema, indexers)
    folded = compact(collection, merged, engine, Meddling(engine, meanwhile), threads=1)  # type: ignore[arg-type]
    assert folded.generation == 4
    assert [one.rows - one.deleted for one in folded.segments] == [25, 600 - 5 - 20 - 2]
    assert contents(engine) == wanted != before
    engine.close()
    again = LocalEngine(engine.data, indexers, writable=False)
    assert contents(again) == wanted
    again.close()


def test_of_two_folds_of_the_same_segments_one_wins(engine: LocalEngine, indexers: Indexers) -> None:
    collection = engine.collection("c")
    engine.upsert("c", points(range(300))).result()
    manifest = seal(collection, engine, indexers)
    before = contents(engine)

    def meanwhile() -> None:
        fold(collection, engine, indexers, threads=1)

    meddling = Meddling(engine, meanwhile)
    with pytest.raises(VssError) as error:
        compact(collection, manifest.segments, engine, meddling, threads=1)  # type: ignore[arg-type]
    assert error.value.code is Code.CONFLICT
    assert contents(engine) == before
    assert not list(collection.staging.iterdir())


def test_a_vector_that_is_dropped_and_made_again_during_a_fold_stays_empty(
    engine: LocalEngine, indexers: Indexers
) -> None:
    collection = engine.collection("c")
    engine.add_vector("c", "extra", VectorSchema(dim=2, metric=Metric.EUCLID))
    extra = {"extra": np.ones(2, np.float32)}
    engine.upsert("c", [replace(one, vectors={**one.vectors, **extra}) for one in points(range(300))]).result()
    manifest = seal(collection, engine, indexers)

    def meanwhile() -> None:
        engine.drop_vector("c", "extra")
        engine.add_vector("c", "extra", VectorSchema(dim=2, metric=Metric.EUCLID))

    compact(collection, manifest.segments, engine, Meddling(engine, meanwhile), threads=1)  # type: ignore[arg-type]
    found = collection.view().retrieve([5])
    assert set(found[0].vectors) == {""}


def test_an_index_setting_that_changes_is_taken_by_the_next_fold(engine: LocalEngine, indexers: Indexers) -> None:
    engine.upsert("c", points(range(300))).result()
    seal(engine.collection("c"), engine, indexers)
    engine.change_index("c", IndexSettings(kind="faiss_hnsw"))
    manifest = engine.collection("c").current()
    assert manifest is not None
    assert survey(manifest, engine.entry("c").schema, indexers).unindexed == 300
    folded = fold(engine.collection("c"), engine, indexers, threads=1)
    assert survey(folded, engine.entry("c").schema, indexers).unindexed == 0


def test_staging_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, signal\n"
        "from vss.storage.staging import staging_folder\n"
        "with staging_folder(pathlib.Path(sys.argv[1]), 'fold') as folder:\n"
        "    (folder / 'file').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (tmp_path / "import-1").mkdir()
    with staging_folder(tmp_path, "fold") as mine:
        assert len(os.listdir(tmp_path)) == 3
        assert remove_orphans(tmp_path) == 1
        assert {path.name for path in tmp_path.iterdir()} == {mine.name, "import-1"}
    assert os.listdir(tmp_path) == ["import-1"]
