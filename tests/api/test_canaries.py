"""A served model must make the canary vectors of the generation; a fingerprint would not notice a broken build."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.app import create_app
from api.remote_models import RemoteModels
from api.settings import Settings
from api.writer import Writer
from embedders.registry import open_embedder
from indexers.registry import INDEXERS
from tests.api.server_process import ServerProcess
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

Process = Callable[[Path], Coroutine[Any, Any, str]]


def store(data: Path, canaries: Vectors) -> None:
    """A collection whose manifest holds these canaries."""
    engine = LocalEngine(DataDir(data), INDEXERS, writable=True)
    try:
        fingerprint = open_embedder(MODEL).info.fingerprint
        vector = VectorSchema(dim=256, model=MODEL, fingerprint=fingerprint, text_field="t")
        engine.create("c", Schema(vectors={"": vector}))
        collection = engine.collection("c")
        save_npy(data / "canaries.npy", canaries)
        kept = collection.artifacts.add(data / "canaries.npy")
        models = {"": ModelRecord(name=MODEL, fingerprint=fingerprint, canaries=kept)}
        manifest = next_manifest(collection, collection.view(), [], covered_seq=0, source="test", models=models)
        engine.publish(manifest)
    finally:
        engine.close()


async def alone(data: Path) -> str:
    """The model that a server of one process takes for the collection."""
    engine = LocalEngine(DataDir(data), INDEXERS, writable=False)
    models = ModelHost({MODEL: partial(open_embedder, MODEL)}, {})
    models.start()
    models.wait()
    try:
        return await create_app(engine, models, INDEXERS, Settings(data=data)).service.text_model("c", "")
    finally:
        models.close()
        engine.close()


async def reader(data: Path) -> str:
    """The model of its writer that a reader takes for it."""
    server = ServerProcess(data, models=MODEL)
    engine = LocalEngine(DataDir(data), INDEXERS, writable=False)
    writer = Writer(DataDir(data))
    models = RemoteModels(writer)
    known = asyncio.Event()
    following = asyncio.create_task(models.follow(known.set))
    try:
        await asyncio.wait_for(known.wait(), 30)
        app = create_app(engine, models, INDEXERS, Settings(data=data), writer=writer)
        return await app.service.text_model("c", "")
    finally:
        following.cancel()
        writer.close()
        await asyncio.sleep(0)  # the transports close in the next turn
        engine.close()
        server.kill()


PROCESSES = pytest.mark.parametrize("process", [alone, reader])


@PROCESSES
def test_the_model_that_makes_them_is_served(process: Process, tmp_path: Path) -> None:
    store(tmp_path / "data", canary.make(open_embedder(MODEL)))
    assert asyncio.run(process(tmp_path / "data")) == MODEL


@PROCESSES
def test_one_that_does_not_is_refused(process: Process, tmp_path: Path) -> None:
    canaries = canary.make(open_embedder(MODEL)).copy()
    canaries[3] = np.roll(canaries[3], 1)
    store(tmp_path / "data", canaries)
    with pytest.raises(VssError, match="makes canary 3 with cosine") as caught:
        asyncio.run(process(tmp_path / "data"))
    assert caught.value.code is Code.FINGERPRINT_MISMATCH


def test_a_generation_whose_canaries_it_does_not_make_is_not_promoted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    canaries = canary.make(open_embedder(MODEL)).copy()
    canaries[3] = np.roll(canaries[3], 1)
    store(data, canaries)
    engine = LocalEngine(DataDir(data), INDEXERS, writable=True)
    collection = engine.collection("c")
    engine.publish(next_manifest(collection, collection.view(), [], covered_seq=0, source="test"))
    engine.close()
    server = ServerProcess(data, models=MODEL)
    try:
        with server.client() as client:
            refused = client.post("/collections/c/generations/1/promote")
            assert (refused.status_code, refused.json()["vss"]["code"]) == (409, "fingerprint_mismatch")
            assert "makes canary 3" in refused.json()["status"]["error"]
            assert client.get("/collections/c").headers["vss-generation"] == "2"
    finally:
        server.stop()
