"""Columns that a segment lacks are added later: every other file is shared, and the same filters read no payload."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from indexers.registry import INDEXERS
from tests.storage.conftest import DIM
from tests.storage.golden_data import KINDS, answers
from tests.storage.test_golden import VERSIONS, unpack
from vss.engines.local import LocalEngine
from vss.filters import Condition, IsEmpty, Match, Range
from vss.points import Point
from vss.storage.fold import seal
from vss.storage.manifest import Manifest, artifacts_of
from vss.storage.recolumn import add_columns
from vss.storage.segment import Segment

LATE = "field299"


def write(engine: LocalEngine, rows: range) -> None:
    """The first point has more fields than there are columns for."""
    wide = {f"field{number}": number for number in range(300)}
    random = np.random.default_rng(rows.start)
    points = [
        Point(
            id=row,
            vectors={"": random.normal(size=DIM).astype(np.float32)},
            payload=msgspec.json.encode(
                wide if row == rows.start else {LATE: row, "text": f"row {row}" + " long" * 80}
            ),
        )
        for row in rows
    ]
    engine.upsert("c", points).result()


def manifest_of(engine: LocalEngine) -> Manifest:
    manifest = engine.collection("c").current()
    assert manifest is not None
    return manifest


def read_for(engine: LocalEngine, where: Condition) -> list[int]:
    """Payloads that each segment reads for a filter."""
    bodies = [part.body for part in engine.collection("c").view().parts]
    return [body.filtered(where)[1] for body in bodies if isinstance(body, Segment)]


def test_a_path_past_the_limit_gets_its_columns(engine: LocalEngine) -> None:
    for rows in (range(40), range(40, 80)):
        write(engine, rows)
        seal(engine.collection("c"), engine, INDEXERS)
    engine.remove("c", [3, 45]).result()
    engine.upsert("c", [Point(id=500, vectors={"": np.ones(DIM, np.float32)}, payload=b'{"field299":7}')]).result()
    before = manifest_of(engine)
    wheres: list[Condition] = [Range(LATE, gte=5, lt=50), Match(LATE, (7,)), IsEmpty(LATE)]
    counts = [engine.collection("c").view().count(where) for where in wheres]
    assert counts == [44, 2, 0]
    assert read_for(engine, Match(LATE, (8,))) == [40, 40]

    engine.add_columns("c", LATE)
    after = manifest_of(engine)
    assert (after.generation, after.source, after.covered_seq) == (before.generation + 1, "columns", before.covered_seq)
    for old, new in zip(before.segments, after.segments, strict=True):
        assert artifacts_of(old) < artifacts_of(new)
        assert {one.path for one in new.columns} - {one.path for one in old.columns} == {LATE}
    assert [engine.collection("c").view().count(where) for where in wheres] == counts
    assert [read_for(engine, where) for where in (*wheres, Match(LATE, (8,)))] == [[0, 0]] * 4

    engine.add_columns("c", LATE)
    engine.add_columns("c", "field3")
    engine.add_columns("c", "field299[0]")
    assert manifest_of(engine).generation == after.generation  # nothing is left to do


def test_what_was_published_meanwhile_stays(engine: LocalEngine) -> None:
    collection = engine.collection("c")
    write(engine, range(40))
    seal(collection, engine, INDEXERS)

    class Overtaken:
        """Publishes only after somebody else has."""

        times = 0

        def publish(self, manifest: Manifest) -> None:
            self.times += 1
            if self.times == 1:
                write(engine, range(40, 80))
                engine.remove("c", [5]).result()
                seal(collection, engine, INDEXERS)
            engine.publish(manifest)

    publisher = Overtaken()
    add_columns(collection, LATE, publisher)
    assert publisher.times == 2
    assert read_for(engine, Range(LATE, lt=10)) == [0, 40]
    # 0 to 9 without 5; the first point of each write has the value 299.
    assert collection.view().count(Range(LATE, lt=10)) == 8
    assert collection.view().points == 79


@pytest.mark.parametrize("version", VERSIONS)
def test_segments_of_old_forms_get_the_columns_of_now(version: str, tmp_path: Path) -> None:
    engine = LocalEngine(unpack(version, tmp_path / "data"), INDEXERS, writable=True)
    try:
        for kind in KINDS:
            before = answers(engine, kind)
            points = list(engine.collection(kind).view().retrieve(list(range(100))))
            for path in {path for point in points for path in msgspec.json.decode(point.payload)}:
                engine.add_columns(kind, path)
            manifest = engine.collection(kind).current()
            assert manifest is not None
            assert manifest.source == "columns"
            assert answers(engine, kind) == before
    finally:
        engine.close()
