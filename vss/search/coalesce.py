"""Single queries that reach their search in the same turn of an event loop become one batch, which costs less."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

from vss.types import Vectors

Answer = TypeVar("Answer")


class Coalescing(Generic[Answer]):
    """The queries that wait for the end of this turn, by what is asked for beside them.

    Nothing waits for more queries to come: those that were read from their sockets together are there anyway.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[tuple[Vectors, asyncio.Future[Answer]]]] = {}

    async def answer(
        self, asked: Hashable, query: Vectors, most: int, search: Callable[[Vectors], list[Answer]]
    ) -> Answer:
        """What `search` gives for a `(1, dim)` query.

        asked:  queries for which this is equal may be searched as one batch `(q, dim)`, of at most `most`
        search: of the first of them is called for all, on the event loop
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        key = loop, asked
        batch = self._waiting.get(key)
        if batch is None:
            batch = self._waiting[key] = []
            loop.call_soon(self._search, key, batch, search)
        batch.append((query, future))
        if len(batch) >= most:
            del self._waiting[key]
        return await future

    def _search(
        self,
        key: Hashable,
        batch: list[tuple[Vectors, asyncio.Future[Answer]]],
        search: Callable[[Vectors], list[Answer]],
    ) -> None:
        if self._waiting.get(key) is batch:
            del self._waiting[key]
        # A request that was abandoned is answered no more.
        left = [(query, future) for query, future in batch if not future.done()]
        if not left:
            return
        try:
            answers = search(left[0][0] if len(left) == 1 else np.concatenate([query for query, _ in left]))
        except Exception as error:
            if len(left) == 1:
                left[0][1].set_exception(error)
            else:
                for one in left:
                    self._search(key, [one], search)  # only those whom it concerns shall fail
            return
        for (_, future), answer in zip(left, answers, strict=True):
            future.set_result(answer)
