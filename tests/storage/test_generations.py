"""Generations: promoting and rolling back lose no acknowledged write, and are refused where they would."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from tests.storage.conftest import DIM
from vss.changes import Delete, Upsert
from vss.engines.generations import describe_generation, list_generations
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Indexers
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage import history
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.npy import save_npy
from vss.storage.publish import publish, successor
from vss.types import Metric


def point(number: int, value: float = 0.0, dim: int = DIM) -> Point:
    return Point(id=number, vectors={"": np.full(dim, value, np.float32)}, payload=b'{"v": %d}' % value)


def write(engine: LocalEngine, numbers: range, value: float) -> None:
    engine.upsert("c", [point(number, value) for number in numbers]).result()


def contents(engine: LocalEngine) -> dict[int, float]:
    """id -> the value that its vector says, which must be that of its payload."""
    found = {}
    for one in engine.collection("c").view().retrieve(range(100)):
        found[int(one.id)] = float(one.vectors[""][0])
        assert one.payload == b'{"v": %d}' % found[int(one.id)]
    assert engine.collection("c").view().points == len(found)
    return found


def sealed(engine: LocalEngine, indexers: Indexers) -> int:
    return seal(engine.collection("c"), engine, indexers).generation


@pytest.fixture
def history_of(engine: LocalEngine, indexers: Indexers) -> list[dict[int, float]]:
    """Three generations of writes and deletions, and live ones after them; what was true at each."""
    for value, numbers in ((1.0, range(10)), (2.0, range(5, 15)), (3.0, range(12, 20))):
        write(engine, numbers, value)
        engine.remove("c", [int(value)]).result()
        sealed(engine, indexers)
    write(engine, range(8), 4.0)
    engine.remove("c", [7]).result()
    return []


def test_rolling_back_loses_no_acknowledged_write(
    engine: LocalEngine, history_of: object, data: DataDir, indexers: Indexers
) -> None:
    before = contents(engine)
    for number in (1, 3, 2, 3, 1):
        engine.promote("c", number)
        assert engine.collection("c").view().generation == number
        assert contents(engine) == before
        other = LocalEngine(data, indexers, writable=False)
        assert contents(other) == before
        other.close()
    write(engine, range(30, 33), 5.0)
    assert contents(engine) == before | dict.fromkeys(range(30, 33), 5.0)


def test_a_deleted_id_stays_deleted_through_every_generation(engine: LocalEngine, indexers: Indexers) -> None:
    """bugs.md: a deleted id resurrects."""
    write(engine, range(5), 1.0)
    sealed(engine, indexers)
    engine.remove("c", [3]).result()
    sealed(engine, indexers)
    for number in (1, 2, 1):
        engine.promote("c", number)
        assert set(contents(engine)) == {0, 1, 2, 4}
    sealed(engine, indexers)
    fold(engine.collection("c"), engine, indexers, threads=1)
    assert set(contents(engine)) == {0, 1, 2, 4}


def test_a_number_is_never_given_twice(engine: LocalEngine, history_of: object, indexers: Indexers) -> None:
    engine.promote("c", 1)
    assert sealed(engine, indexers) == 4
    engine.promote("c", 2)
    engine.retire(engine.collection("c").folder.name, 1)  # forgets generation 4
    write(engine, range(2), 9.0)
    assert sealed(engine, indexers) == 5
    assert [one.generation for one in list_generations(engine.collection("c"))] == [2, 5]


def test_a_job_that_a_promotion_overtook_is_told(engine: LocalEngine, history_of: object, indexers: Indexers) -> None:
    collection = engine.collection("c")
    manifest = collection.current()
    assert manifest is not None
    with pytest.raises(VssError) as caught:
        publish(collection.log, collection.manifests, manifest)
    assert caught.value.code is Code.CONFLICT
    overtaken = successor(collection, manifest, manifest.segments, source="a job that began on generation 3")
    sealed(engine, indexers)
    engine.promote("c", manifest.generation)
    # Its parent is current again, and its number is that of another generation by now.
    with pytest.raises(VssError, match="generation 4 was published") as caught:
        publish(collection.log, collection.manifests, overtaken)
    assert caught.value.code is Code.CONFLICT
    engine.promote("c", 4)
    assert collection.view().generation == 4


def test_the_generations_that_were_current_last_stay(
    engine: LocalEngine, history_of: object, indexers: Indexers
) -> None:
    collection = engine.collection("c")
    before = contents(engine)
    engine.promote("c", 1)
    for _ in range(2):
        sealed(engine, indexers)
    retired = engine.retire(collection.folder.name, 3)
    assert retired.generations == (2, 3)
    assert [one.generation for one in list_generations(collection)] == [1, 4, 5]
    with pytest.raises(VssError, match="retained are 1, 4, 5") as caught:
        engine.promote("c", 2)
    assert caught.value.code is Code.NOT_FOUND
    assert contents(engine) == before


def test_operations_stay_until_the_oldest_retained_generation_covers_them(
    engine: LocalEngine, history_of: object
) -> None:
    """bugs.md: never purge the log past what the index on disk proves."""
    collection, before = engine.collection("c"), contents(engine)
    oldest, middle, newest = (one.covered_seq for one in history.retained(collection.log))
    assert engine.retire(collection.folder.name, 3).operations == oldest
    assert len(collection.log.keys_after(oldest)) > 0
    engine.promote("c", 1)
    assert contents(engine) == before
    engine.promote("c", 3)
    assert engine.retire(collection.folder.name, 1).operations == newest - oldest
    assert middle < newest
    with pytest.raises(VssError, match="the log begins after"):
        collection.log.keys_after(middle)
    assert contents(engine) == before


def test_what_a_job_needs_of_the_log_stays(engine: LocalEngine, history_of: object) -> None:
    collection = engine.collection("c")
    held = 4
    assert history.retire(collection.log, 1, lambda: held).operations == held
    assert len(collection.log.keys_after(held)) > 0


def damaged(path: Path) -> None:
    os.chmod(path, 0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_damaged_generation_is_not_promoted(engine: LocalEngine, history_of: object, indexers: Indexers) -> None:
    collection, before = engine.collection("c"), contents(engine)
    named = [history.find(collection.log, number) for number in (1, 3)]
    first, last = (engine_files(collection, one.generation) for one in named)
    for name in sorted(first - last):
        path = collection.folder / "artifacts" / name
        kept = path.read_bytes()
        damaged(path)
        with pytest.raises(VssError, match="artifact") as caught:
            engine.promote("c", 1)
        assert caught.value.code is Code.CORRUPT
        path.write_bytes(kept)
    (collection.manifests / "000002.json").write_bytes(b"{}")
    with pytest.raises(VssError, match="changed after it was published"):
        engine.promote("c", 2)
    assert collection.view().generation == 3
    assert contents(engine) == before
    assert [one.damage is not None for one in list_generations(collection)] == [False, True, False]


def engine_files(collection: Collection, number: int) -> set[str]:
    text = (collection.manifests / f"{number:06d}.json").read_text()
    return set(re.findall(r'"sha256": "([0-9a-f]{64})"', text))


def test_an_index_that_does_not_answer_is_not_promoted(engine: LocalEngine, indexers: Indexers, tmp_path: Path) -> None:
    """A graph whose bytes are right, and which was made of other vectors."""
    engine.change_index("c", IndexSettings(kind="faiss_hnsw"))
    vectors = np.random.default_rng(3).normal(size=(5_000, DIM)).astype(np.float32)
    engine.upsert("c", [Point(id=row, vectors={"": vectors[row]}) for row in range(5_000)]).result()
    collection = engine.collection("c")
    good = fold(collection, engine, indexers, threads=1)
    (record,) = good.segments
    save_npy(tmp_path / "other.npy", vectors[::-1].copy())
    other = structs.replace(record.vectors[""], vectors=collection.artifacts.add(tmp_path / "other.npy"))
    engine.publish(successor(collection, good, [structs.replace(record, vectors={"": other})], source="test"))
    bad = good.generation + 1
    engine.promote("c", good.generation)
    with pytest.raises(VssError, match="does not answer for its vectors") as caught:
        engine.promote("c", bad)
    assert caught.value.code is Code.CORRUPT
    assert collection.view().generation == good.generation
    detail = describe_generation(collection, good.generation)
    assert detail.segments[0].indexes == {"": "faiss_hnsw"}
    assert detail.segments[0].recall[""] > 0.9


def test_a_long_live_part_is_sealed_at_once(
    engine: LocalEngine, indexers: Indexers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (1.0, 2.0):
        write(engine, range(50), value)
        sealed(engine, indexers)
    before = contents(engine)
    monkeypatch.setattr("vss.engines.sealing.LIVE_OPERATIONS", 40)
    engine.promote("c", 1)
    view = engine.collection("c").view()
    assert (view.generation, view.manifest.parent if view.manifest else 0) == (3, 1)
    assert engine.collection("c").live_size[0] == 0
    assert contents(engine) == before


@pytest.fixture
def remodelled(data: DataDir, indexers: Indexers) -> Iterator[LocalEngine]:
    """Generation 1 has vectors by one model, generation 3 by another."""
    engine = LocalEngine(data, indexers, writable=True)
    engine.create("c", Schema(vectors={"": model("a", 8), "other": VectorSchema(dim=2)}))
    write(engine, range(3), 1.0)
    sealed(engine, indexers)
    engine.drop_vector("c", "")
    engine.add_vector("c", "", model("b", 4))
    yield engine
    engine.close()


def model(name: str, dim: int) -> VectorSchema:
    return VectorSchema(dim=dim, metric=Metric.EUCLID, model=name, fingerprint=f"print of {name}", text_field="t")


def test_rolling_back_over_a_change_of_model_brings_the_model_back(remodelled: LocalEngine) -> None:
    remodelled.promote("c", 1)
    assert remodelled.entry("c").schema.vectors[""] == model("a", 8)
    assert contents(remodelled) == dict.fromkeys(range(3), 1.0)


def test_writes_of_another_model_are_neither_lost_nor_mixed(remodelled: LocalEngine, indexers: Indexers) -> None:
    remodelled.write("c", [Upsert([point(7, 2.0, dim=4)])]).result()
    with pytest.raises(VssError, match="4 numbers under Euclid by b print of b") as caught:
        remodelled.promote("c", 1)
    assert caught.value.code is Code.CONFLICT
    assert remodelled.entry("c").schema.vectors[""] == model("b", 4)
    (found,) = remodelled.collection("c").view().retrieve([7])
    assert found.vectors[""].tolist() == [2.0] * 4
    remodelled.write("c", [Delete((7,))]).result()


def test_a_promotion_that_was_cut_off_is_finished_by_the_next_writer(
    remodelled: LocalEngine, data: DataDir, indexers: Indexers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "_settle_schema", killed)
        with pytest.raises(KeyboardInterrupt):
            remodelled.promote("c", 1)
    remodelled.close()
    again = LocalEngine(data, indexers, writable=True)
    again.collection("c")
    assert again.entry("c").schema.vectors[""] == model("a", 8)
    assert contents(again) == dict.fromkeys(range(3), 1.0)
    again.close()
