"""Queries that arrive together: one batch, the answers of each, and nobody pays for another's error."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from vss.errors import VssError, invalid
from vss.search.coalesce import Coalescing
from vss.types import Vectors


class Doubling:
    """A search that remembers its batches, and refuses what is negative."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, queries: Vectors) -> list[float]:
        self.sizes.append(len(queries))
        if (queries < 0).any():
            raise invalid("got a negative query", field="query")
        return [2 * float(one[0]) for one in queries]


def one(value: float) -> Vectors:
    return np.array([[value]], np.float32)


async def ask(search: Doubling, *values: float, most: int = 16, key: str = "same") -> list[float | BaseException]:
    together: Coalescing[float] = Coalescing()
    keys = [f"{key}{place}" if key == "other" else key for place in range(len(values))]
    asked = [together.answer(name, one(value), most, search) for name, value in zip(keys, values, strict=True)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert not together._waiting
    return answers


def test_queries_of_one_turn_are_one_batch() -> None:
    search = Doubling()
    assert asyncio.run(ask(search, 1, 2, 3)) == [2, 4, 6]
    assert search.sizes == [3]


def test_no_batch_is_larger_than_it_may_be() -> None:
    search = Doubling()
    assert asyncio.run(ask(search, *range(7), most=3)) == [0, 2, 4, 6, 8, 10, 12]
    assert search.sizes == [3, 3, 1]


def test_what_asks_for_something_else_is_searched_alone() -> None:
    search = Doubling()
    assert asyncio.run(ask(search, 1, 2, key="other")) == [2, 4]
    assert search.sizes == [1, 1]


def test_a_query_that_fails_fails_alone() -> None:
    found = asyncio.run(ask(Doubling(), 1, -2, 3))
    assert found[0] == 2
    assert found[2] == 6
    assert isinstance(found[1], VssError)


def test_a_later_turn_is_another_batch() -> None:
    async def turns() -> list[float]:
        together: Coalescing[float] = Coalescing()
        return [await together.answer("same", one(value), 16, search) for value in (1, 2)]

    search = Doubling()
    assert asyncio.run(turns()) == [2, 4]
    assert search.sizes == [1, 1]


def test_who_gave_up_is_not_searched_for() -> None:
    async def abandon() -> float:
        together: Coalescing[float] = Coalescing()
        gone = asyncio.ensure_future(together.answer("same", one(1), 16, search))
        stays = asyncio.ensure_future(together.answer("same", one(2), 16, search))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    search = Doubling()
    assert asyncio.run(abandon()) == 4
    assert search.sizes == [1]
