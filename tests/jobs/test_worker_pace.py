"""When the worker folds: where writes go on only once much has gathered, sooner once they have ceased."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from indexers.registry import INDEXERS
from tests.conformance.data import clustered
from vss.engines.local import LocalEngine
from vss.jobs.remote import Writer
from vss.jobs.worker import Worker
from vss.points import Point
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.catalog import Catalog
from vss.storage.compact import compact
from vss.storage.datadir import DataDir
from vss.storage.fold import seal
from vss.storage.manifest import Manifest
from vss.types import Metric

DIM, COUNT = 8, 600
VECTORS = clustered(2 * COUNT, DIM, seed=3)


def sealed(engine: LocalEngine, rows: range) -> None:
    engine.upsert("c", [Point(id=row, vectors={"": VECTORS[row]}, payload=b"{}") for row in rows]).result()
    seal(engine.collection("c"), engine, INDEXERS)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(DataDir(tmp_path / "data"), INDEXERS, writable=True)
    settings = IndexSettings(kind="faiss_hnsw")
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=settings))
    yield engine
    engine.close()


def kinds(engine: LocalEngine) -> list[str]:
    manifest = engine.collection("c").current()
    assert manifest is not None
    return [one.vectors[""].index.kind for one in manifest.segments]


def worker(engine: LocalEngine) -> Worker:
    return Worker(engine.data, INDEXERS, cast(Writer, engine), threads=lambda: 1, stop=threading.Event())


@pytest.mark.parametrize("busy_seconds", [1e6, 0.0])
def test_a_fold_waits_while_one_generation_follows_another(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, busy_seconds: float
) -> None:
    job, catalog = worker(engine), Catalog(engine.data)
    sealed(engine, range(COUNT))
    job.round(catalog)
    assert kinds(engine) == ["faiss_hnsw"]  # nothing was known to come before it

    monkeypatch.setattr("vss.jobs.worker.BUSY_SECONDS", busy_seconds)
    sealed(engine, range(COUNT, 2 * COUNT))
    job.round(catalog)
    job.round(catalog)
    assert kinds(engine) == (["faiss_hnsw", "coded"] if busy_seconds else ["faiss_hnsw"])
    catalog.close()


def test_what_is_sealed_during_a_fold_tells_that_writes_go_on(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, catalog = worker(engine), Catalog(engine.data)

    def compact_and_write(*given: Any, **settings: Any) -> Manifest:
        monkeypatch.setattr("vss.jobs.worker.BUSY_SECONDS", 1e6)  # however long this takes
        sealed(engine, range(COUNT, 2 * COUNT))
        return compact(*given, **settings)

    monkeypatch.setattr("vss.jobs.worker.compact", compact_and_write)
    sealed(engine, range(COUNT))
    job.round(catalog)
    job.round(catalog)
    assert kinds(engine) == ["faiss_hnsw", "coded"] or kinds(engine) == ["coded", "faiss_hnsw"]
    catalog.close()
