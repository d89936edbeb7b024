"""A fold whose index answers badly is not served: the generation before it is, all can tell, nobody tries again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from api.cli.generations import generations
from api.metrics import Metrics
from indexers.registry import INDEXERS
from tests.api.clusters import clustered
from vss.engines.health import health
from vss.engines.local import LocalEngine
from vss.jobs.remote import Writer
from vss.jobs.worker import Worker
from vss.points import Point
from vss.protocols import Index, IndexBuilder, Indexers, IndexSpec
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage import accept
from vss.storage.catalog import Catalog
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.manifest import artifacts_of
from vss.storage.refusals import Refusals
from vss.types import Hits, Mask, Metric, Progress, Vectors

DIM = 8
COUNT = 1_500
VECTORS = clustered(COUNT, DIM, seed=5)


class Careless:
    """An index that loses every third of what it finds."""

    def __init__(self, index: Index) -> None:
        self._index, self.spec, self.close = index, index.spec, index.close

    def __len__(self) -> int:
        return len(self._index)

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        found = self._index.search(queries, 2 * k, allow=allow, effort=effort)
        keep = np.flatnonzero(np.arange(2 * k) % 3 != 1)[:k]
        return Hits(np.ascontiguousarray(found.rows[:, keep]), np.ascontiguousarray(found.scores[:, keep]))


class CarelessBuilder:
    """faiss_hnsw, careless. efforts: what it has measured; with none it claims to be exact."""

    def __init__(self, efforts: tuple[int, ...]) -> None:
        self.kind, self.builds = "faiss_hnsw", 0
        self._base, self._efforts = INDEXERS.builder("faiss_hnsw"), efforts
        self.spec = self._base.spec

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        self.builds += 1
        self._base.build(vectors, spec, out, threads=threads, progress=progress)

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Index:
        return Careless(self._base.open(files, spec, vectors))

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        return self._efforts


class With:
    """The registry with another `faiss_hnsw`."""

    def __init__(self, builder: CarelessBuilder) -> None:
        self._builder, self.choose, self.growing = builder, INDEXERS.choose, INDEXERS.growing

    def builder(self, kind: str) -> IndexBuilder:
        return self._builder if kind == "faiss_hnsw" else INDEXERS.builder(kind)


class Misplaced:
    """The registry, but that the vectors of a build are mixed up on the disk while it is built."""

    def __init__(self) -> None:
        self.choose, self.growing = INDEXERS.choose, INDEXERS.growing
        self._base = INDEXERS.builder("faiss_hnsw")
        self.kind, self.spec, self.open, self.efforts = self._base.kind, self._base.spec, self._base.open, None

    def builder(self, kind: str) -> IndexBuilder:
        return cast(IndexBuilder, self) if kind == "faiss_hnsw" else INDEXERS.builder(kind)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        self.efforts = self._base.efforts  # type: ignore[assignment]
        path = out.parent / "0.vectors.npy"
        mixed = np.load(path)[::-1]
        with open(path, "r+b") as file:
            file.seek(-mixed.nbytes, 2)
            file.write(np.ascontiguousarray(mixed).tobytes())
        self._base.build(vectors, spec, out, threads=threads, progress=progress)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    """A collection "c" of one segment without an index."""
    engine = LocalEngine(DataDir(tmp_path / "data"), INDEXERS, writable=True)
    settings = IndexSettings(kind="faiss_hnsw")
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=settings))
    upsert(engine, range(COUNT))
    yield engine
    engine.close()


def upsert(engine: LocalEngine, rows: range) -> None:
    points = [Point(id=row, vectors={"": VECTORS[row]}, payload=b'{"row": %d}' % row) for row in rows]
    engine.upsert("c", points).result()
    seal(engine.collection("c"), engine, INDEXERS)


def worker(engine: LocalEngine, indexers: Indexers) -> Worker:
    return Worker(engine.data, indexers, cast(Writer, engine), threads=lambda: 1, stop=threading.Event())


def look(job: Worker, engine: LocalEngine) -> None:
    catalog = Catalog(engine.data)
    job.round(catalog)
    catalog.close()


@pytest.mark.parametrize("efforts", [(16, 64), ()])
def test_a_bad_build_is_refused_and_told_and_not_repeated(
    engine: LocalEngine,
    efforts: tuple[int, ...],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collection = engine.collection("c")
    before = collection.current()
    assert before is not None
    builder = CarelessBuilder(efforts)
    bad = cast(Indexers, With(builder))
    job = worker(engine, bad)
    with caplog.at_level(logging.ERROR, "vss.worker"):
        look(job, engine)
    assert builder.builds == 1
    assert "c: a fold of 1,500 rows was refused" in caplog.text
    assert "the current generation goes on serving" in caplog.text
    assert collection.current() == before
    assert collection.view().points == COUNT
    assert [one for one in health(engine, "c").problems() if "1 builds were refused: the faiss_hnsw index" in one]
    assert 'vss_index_builds_refused{collection="c"} 1.0' in Metrics(engine).show().decode()
    generations("c", data=engine.data.path)
    said = capsys.readouterr().out
    assert "build 1 in a row that was refused: the faiss_hnsw index" in said

    monkeypatch.setattr("vss.jobs.worker.REFUSED_SECONDS", 0.0)
    for again in (worker(engine, bad), worker(engine, cast(Indexers, INDEXERS))):  # as it is after a restart
        look(again, engine)
        look(again, engine)
    assert builder.builds == 1
    named = {one.sha256 for one in artifacts_of(before)}
    assert {path.name for path in (collection.folder / "artifacts").iterdir() if len(path.name) == 64} == named

    upsert(engine, range(20))  # other segments: not before the pause is over
    look(worker(engine, bad), engine)
    assert builder.builds == 1
    monkeypatch.setattr("vss.storage.refusals.FIRST_PAUSE_SECONDS", 0.0)
    look(worker(engine, bad), engine)
    assert builder.builds == 2
    refusal = Refusals(collection.folder).read()
    assert refusal is not None
    assert refusal.builds == 2

    engine.change_index("c", IndexSettings(kind="faiss_hnsw", params={"m": 8}))
    look(worker(engine, cast(Indexers, INDEXERS)), engine)
    after = collection.current()
    assert after is not None
    assert [one.vectors[""].index.kind != "flat" for one in after.segments] == [True]
    assert Refusals(collection.folder).read() is None
    assert health(engine, "c").problems() == []


def test_rows_that_are_not_the_points_that_were_merged_are_refused(engine: LocalEngine) -> None:
    before = engine.collection("c").current()
    with pytest.raises(accept.Refused, match="is not the point that was merged"):
        fold(engine.collection("c"), engine, cast(Indexers, Misplaced()), threads=1)
    assert engine.collection("c").current() == before


class Clock(threading.Event):
    """Nobody stops; keeps how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        return False


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_a_build_pauses_for_the_part_of_the_time_that_is_not_its_own(engine: LocalEngine, share: float) -> None:
    clock = Clock()
    job = Worker(engine.data, INDEXERS, cast(Writer, engine), threads=lambda: 1, stop=clock, share=lambda: share)
    began = time.monotonic()
    look(job, engine)
    worked = time.monotonic() - began
    after = engine.collection("c").current()
    assert after is not None
    assert after.source == "fold"
    if share == 1.0:
        assert sum(clock.waited) == 0
    else:
        assert len(clock.waited) >= 2
        assert 0 < sum(clock.waited) <= 9 * worked


def test_who_accepts_less_gets_it_and_what_was_accepted_once_stays_so(engine: LocalEngine) -> None:
    bad = cast(Indexers, With(CarelessBuilder((16, 64))))
    with pytest.raises(accept.Refused):
        fold(engine.collection("c"), engine, bad, threads=1)
    first = fold(engine.collection("c"), engine, bad, threads=1, min_recall=0.5)
    assert 0.5 < accept.best_recall(first.segments[0].vectors[""]) < 0.8
    reader = LocalEngine(engine.data, bad, writable=False)
    engine.remove("c", list(range(500))).result()
    seal(engine.collection("c"), engine, INDEXERS)
    second = fold(reader.collection("c"), engine, bad, threads=1)
    reader.close()
    assert second.generation > first.generation
    assert [one.rows for one in second.segments] == [COUNT - 500]
