"""A reader's view of the writer's models; and what a reader may not carry out itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from api.remote_models import RemoteModels
from api.routes.table import OPERATIONS
from api.writer import Writer
from embedders.registry import open_embedder
from tests.api.server_process import ServerProcess
from vss.errors import Code, VssError
from vss.protocols import Deadline
from vss.storage.datadir import DataDir
from vss.types import Role

READING = {"points", "scroll", "count", "query", "query/batch", "recommend"}
"""Last steps of the paths of POST that change nothing and that a reader answers."""


def test_whatever_changes_something_is_forwarded() -> None:
    for one in OPERATIONS:
        if one.internal or one.method in {"GET", "HEAD"}:
            continue
        reads = one.method == "POST" and any(one.path.endswith("/" + step) for step in READING)
        assert one.forwarded is not reads, f"{one.method} {one.path}: forwarded=True, or name it in READING"


def known(models: RemoteModels) -> bool:
    with contextlib.suppress(VssError):
        return models.info("hashing").dim > 0
    return False


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def test_a_writer_that_was_started_again_must_show_its_canaries_again(tmp_path: Path) -> None:
    lives: list[int] = []
    server = ServerProcess(tmp_path / "data")
    writer = Writer(DataDir(tmp_path / "data"))
    models = RemoteModels(writer)
    texts = ["red", "", "ü"]

    async def ask() -> None:
        nonlocal server
        with pytest.raises(VssError) as early:
            models.info("hashing")
        assert early.value.code is Code.UNAVAILABLE
        following = asyncio.create_task(models.follow(lambda: lives.append(1)))
        await eventually(lambda: bool(lives))
        embedder = open_embedder("hashing")
        assert models.info("hashing") == models.info(embedder.info.name) == embedder.info
        made = await models.embed("hashing", texts, Role.QUERY, Deadline.after_ms(30_000))
        np.testing.assert_array_equal(made, embedder.embed(texts, Role.QUERY))
        assert await models.tokens("hashing", texts) == sum(embedder.lengths(texts))
        with pytest.raises(VssError) as unknown:
            await models.embed("none", texts, Role.QUERY, Deadline())
        assert unknown.value.code is Code.NOT_FOUND

        following.cancel()  # so that it does not notice
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(server.kill)
        with pytest.raises(VssError) as gone:
            await models.embed("hashing", texts, Role.QUERY, Deadline())
        assert gone.value.code is Code.UNAVAILABLE
        server = await asyncio.to_thread(ServerProcess, tmp_path / "data")
        with pytest.raises(VssError, match="started again") as again:
            await models.embed("hashing", texts, Role.QUERY, Deadline())
        assert again.value.code is Code.UNAVAILABLE
        following = asyncio.create_task(models.follow(lambda: lives.append(2)))
        await eventually(lambda: 2 in lives)
        assert (await models.embed("hashing", texts, Role.QUERY, Deadline())).shape == made.shape

        await asyncio.to_thread(server.kill)  # a reader is not ready without it
        await eventually(lambda: not known(models))
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        writer.close()
        await asyncio.sleep(0)  # the transports close in the next turn

    try:
        asyncio.run(ask())
    finally:
        server.kill()
