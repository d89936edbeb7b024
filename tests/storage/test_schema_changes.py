"""Aliases, and named vectors that come to and go from a living collection."""

from __future__ import annotations

import numpy as np
import pytest

from tests.storage.conftest import DIM
from vss.changes import UpdateVectors
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Indexers
from vss.schema import VectorSchema
from vss.search.retrieve import search
from vss.storage.catalog import CreateAlias, DeleteAlias, RenameAlias
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.types import Metric

IMAGE = VectorSchema(dim=2, metric=Metric.EUCLID)


def write(engine: LocalEngine, ids: range, **more: list[float]) -> None:
    vectors = {"": np.ones(DIM, np.float32)} | {name: np.asarray(value, np.float32) for name, value in more.items()}
    engine.upsert("c", [Point(id=one, vectors=vectors) for one in ids]).result()


def found(engine: LocalEngine, using: str, dim: int) -> set[object]:
    view = engine.collection("c").view()
    (answer,) = search(view, np.ones((1, dim), np.float32), using=using, k=100)
    return {view.parts[part].point(int(row)).id for part, row in zip(answer.parts, answer.rows, strict=True)}


def test_a_vector_is_added_to_a_living_collection(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    write(engine, range(5))
    fold(engine.collection("c"), engine, indexers, threads=1)
    write(engine, range(5, 8))
    reader = LocalEngine(data, indexers, writable=False)
    assert found(reader, "", DIM) == set(range(8))
    engine.add_vector("c", "image", IMAGE)
    assert found(engine, "image", 2) == set()
    image = {"image": np.asarray([1, 2], np.float32)}
    engine.write("c", [UpdateVectors([Point(id=one, vectors=image) for one in (1, 6, 99)])]).result()
    for one in (engine, reader):
        assert found(one, "image", 2) == {1, 6}
        assert found(one, "", DIM) == set(range(8))
    fold(engine.collection("c"), engine, indexers, threads=1)
    assert found(reader, "image", 2) == {1, 6}
    with pytest.raises(VssError) as caught:
        engine.add_vector("c", "image", IMAGE)
    assert caught.value.code is Code.ALREADY_EXISTS
    reader.close()


def test_a_dropped_vector_does_not_come_back(engine: LocalEngine, indexers: Indexers) -> None:
    engine.add_vector("c", "image", IMAGE)
    write(engine, range(4), image=[1, 2])
    fold(engine.collection("c"), engine, indexers, threads=1)
    artifacts = len(list((engine.collection("c").folder / "artifacts").iterdir()))
    write(engine, range(4, 6), image=[3, 4])
    engine.drop_vector("c", "image")
    with pytest.raises(VssError, match="image"):
        found(engine, "image", 2)
    manifest = engine.collection("c").view().manifest
    assert manifest is not None
    assert all(list(record.vectors) == [""] for record in manifest.segments)
    # The sealed segment's other files are shared, not copied: only those of the live points are new.
    assert len(list((engine.collection("c").folder / "artifacts").iterdir())) <= artifacts + 8
    engine.add_vector("c", "image", VectorSchema(dim=3, metric=Metric.DOT))
    assert found(engine, "image", 3) == set()
    write(engine, range(1), image=[1, 1, 1])
    assert found(engine, "image", 3) == {0}
    assert found(engine, "", DIM) == set(range(6))


def test_a_drop_that_was_cut_off_leaves_nothing_behind(engine: LocalEngine) -> None:
    engine.add_vector("c", "image", IMAGE)
    write(engine, range(4), image=[1, 2])
    # As if the process had died between the two steps of `drop_vector`.
    entry = engine.entry("c")
    left = {"": entry.schema.vectors[""]}
    engine._change_schema("c", type(entry.schema)(vectors=left, index=entry.schema.index))
    engine.add_vector("c", "image", IMAGE)
    assert found(engine, "image", 2) == set()


def test_the_last_vector_stays(engine: LocalEngine) -> None:
    with pytest.raises(VssError, match="at least one"):
        engine.drop_vector("c", "")


def test_aliases_move_together(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    engine.create("d", engine.entry("c").schema)
    write(engine, range(3))
    engine.change_aliases([CreateAlias("live", "c"), CreateAlias("next", "d")])
    reader = LocalEngine(data, indexers, writable=False)
    assert reader.collection("live").view().points == 3
    engine.change_aliases([DeleteAlias("live"), RenameAlias("next", "live")])
    assert reader.aliases() == {"live": "d"}
    assert reader.collection("live").view().points == 0
    with pytest.raises(VssError, match="'next'"):
        engine.change_aliases([CreateAlias("other", "c"), DeleteAlias("next")])
    assert engine.aliases() == {"live": "d"}, "nothing of a refused request is applied"
    engine.delete("d")
    assert reader.aliases() == {}
    reader.close()


def test_a_name_is_a_collection_or_an_alias(engine: LocalEngine) -> None:
    engine.change_aliases([CreateAlias("live", "c")])
    for refused in (
        lambda: engine.create("live", engine.entry("c").schema),
        lambda: engine.change_aliases([CreateAlias("c", "c")]),
    ):
        with pytest.raises(VssError) as caught:
            refused()
        assert caught.value.code is Code.ALREADY_EXISTS


def test_payload_indexes_are_kept(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    engine.set_payload_index("c", "city", "keyword")
    engine.set_payload_index("c", "price", "float")
    engine.drop_payload_index("c", "city")
    reader = LocalEngine(data, indexers, writable=False)
    assert reader.entry("c").schema.payload_indexes == {"price": "float"}
    reader.close()
