"""The collection that filters are measured in: one segment with payloads, kept between runs where asked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from api.bench.dataset import Dataset
from api.bench.filter_cases import Payloads
from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.points import id_key
from vss.schema import DEFAULT_VECTOR, IndexSettings, Schema, VectorSchema
from vss.storage.build import Block, SegmentBuilder
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode, adopt
from vss.storage.view import View
from vss.types import Progress

NAME = "filtered"
BLOCK = 5_000

FORM = 2
"""What payloads and artifacts are kept as; a kept collection of another form is not taken."""


def stored(
    folder: Path, data: Dataset, data_hash: str, payloads: Payloads, kind: str, threads: int, tell: Progress
) -> Path:
    """The data directory with all vectors and payloads in one segment of `NAME`; ids are their positions.

    It lies in `folder` under a name of its own; one that is there already is taken as it is.
    """
    digest = hashlib.sha256(data_hash.encode())
    for text in payloads.texts:
        digest.update(text)
    digest.update(json.dumps([kind, threads, FORM]).encode())
    kept = folder / f"filtered-{digest.hexdigest()[:24]}"
    if kept.is_dir():
        tell(len(data.vectors))
        return kept
    draft = kept.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with closing(LocalEngine(DataDir(draft), INDEXERS, writable=True)) as engine:
        engine.create(
            NAME,
            Schema(
                vectors={DEFAULT_VECTOR: VectorSchema(dim=data.vectors.shape[1], metric=data.metric)},
                index=IndexSettings(kind=kind),
            ),
        )
        _fill(engine, data, payloads, kind, threads, tell)
    os.rename(draft, kept)
    return kept


def _fill(engine: LocalEngine, data: Dataset, payloads: Payloads, kind: str, threads: int, tell: Progress) -> None:
    collection = engine.collection(NAME)
    collection.staging.mkdir(exist_ok=True)
    with SegmentBuilder(collection.schema, collection.staging / "bench") as builder:
        for start in range(0, len(data.vectors), BLOCK):
            vectors = data.vectors[start : start + BLOCK]
            size = len(vectors)
            builder.add(
                Block(
                    keys=[id_key(one) for one in range(start, start + size)],
                    payloads=payloads.texts[start : start + size],
                    versions=np.zeros(size, np.int64),
                    vectors={DEFAULT_VECTOR: (np.arange(size), np.array(vectors))},
                )
            )
        record = builder.finish(
            collection.artifacts, INDEXERS, IndexSettings(kind=kind), threads=threads, progress=tell
        )
    adopt(
        collection,
        record,
        started_seq=0,
        mode=Mode.UPSERT,
        publisher=engine,
        indexers=INDEXERS,
        models={},
        source="bench",
    )
    shutil.rmtree(collection.staging / "bench")


@contextmanager
def opened(data: Path) -> Iterator[View]:
    """A view of the stored collection. Each has caches of its own."""
    with closing(LocalEngine(DataDir(data), INDEXERS, writable=False)) as engine:
        yield engine.collection(NAME).view()
