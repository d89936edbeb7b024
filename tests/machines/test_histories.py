"""Random histories of a collection are those of a dictionary and numpy (see `collection_machine`)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from indexers.registry import native_compiled
from tests.machines import histories
from tests.machines.collection_machine import SEEN
from tests.machines.reading_process import ReadingProcess
from tests.proofs.outcome import in_soak

SEED = 20_261_121


@pytest.fixture
def process() -> Iterator[ReadingProcess]:
    with histories.reading() as process:
        yield process


def test_random_histories(process: ReadingProcess) -> None:
    print(f"seeds from {SEED}")  # noqa: T201 - shown when it fails
    wanted = ["import", "promotion", "collected files", "pruned operations", "search by graph", "built faiss_ivf"]
    wanted += ["built faiss_hnsw"] + (["built native", "extended native"] if native_compiled() else [])
    for number in range(SEED, SEED + 9):
        histories.run(process, number, examples=16, steps=45)
        if SEEN["steps"] >= 2_000 and all(SEEN[what] for what in wanted):
            break
    assert SEEN["steps"] >= 2_000
    assert [what for what in wanted if not SEEN[what]] == []


@pytest.mark.soak
def test_random_histories_for_long(process: ReadingProcess) -> None:
    """Each thousand steps or two have a seed of their own."""
    histories.run_many(process, SEED + 100, in_soak(200_000))
    print(json.dumps(SEEN))  # noqa: T201 - the result, with `pytest -s`
