"""A data directory with the real index backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.protocols import Indexers
from vss.schema import Schema, VectorSchema
from vss.storage.datadir import DataDir
from vss.types import Metric

DIM = 8


@pytest.fixture
def indexers() -> Indexers:
    return INDEXERS


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


@pytest.fixture
def engine(data: DataDir, indexers: Indexers) -> Iterator[LocalEngine]:
    engine = LocalEngine(data, indexers, writable=True)
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}))
    yield engine
    engine.close()
