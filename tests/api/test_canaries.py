"""A served model must make the canary vectors of the generation; a fingerprint would not notice a broken build."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from api.app import create_app
from api.settings import Settings
from embedders.registry import open_embedder
from indexers.registry import INDEXERS
from vss import canary
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.schema import Schema, VectorSchema
from vss.search.batching import ModelHost
from vss.storage.datadir import DataDir
from vss.storage.manifest import ModelRecord
from vss.storage.npy import save_npy
from vss.storage.publish import next_manifest
from vss.types import Vectors

MODEL = "hashing-256"


def text_model(folder: Path, canaries: Vectors) -> str:
    """What a server says of a collection whose manifest holds these canaries."""
    embedder = open_embedder(MODEL)
    engine = LocalEngine(DataDir(folder / "data"), INDEXERS, writable=True)
    models = ModelHost({MODEL: partial(open_embedder, MODEL)}, {})
    models.start()
    models.wait()
    try:
        vector = VectorSchema(dim=256, model=MODEL, fingerprint=embedder.info.fingerprint, text_field="t")
        engine.create("c", Schema(vectors={"": vector}))
        collection = engine.collection("c")
        save_npy(folder / "canaries.npy", canaries)
        record = ModelRecord(
            name=MODEL,
            fingerprint=embedder.info.fingerprint,
            canaries=collection.artifacts.add(folder / "canaries.npy"),
        )
        view = collection.view()
        engine.publish(next_manifest(collection, view, [], covered_seq=0, source="test", models={"": record}))
        service = create_app(engine, models, INDEXERS, Settings(data=folder), model_names=(MODEL,)).service
        return asyncio.run(service.text_model("c", ""))
    finally:
        models.close()
        engine.close()


def test_the_model_that_makes_them_is_served(tmp_path: Path) -> None:
    assert text_model(tmp_path, canary.make(open_embedder(MODEL))) == MODEL


def test_one_that_does_not_is_refused(tmp_path: Path) -> None:
    canaries = canary.make(open_embedder(MODEL)).copy()
    canaries[3] = np.roll(canaries[3], 1)
    with pytest.raises(VssError, match="makes canary 3 with cosine") as caught:
        text_model(tmp_path, canaries)
    assert caught.value.code is Code.FINGERPRINT_MISMATCH
