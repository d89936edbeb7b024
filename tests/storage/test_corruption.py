"""Whatever happens to any byte of any file: every answer is the right one, or an error that names the damage.

See `tests.proofs.corruption`. The seed is in the name of the test.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexers.registry import INDEXERS
from tests.proofs import corruption
from tests.proofs.corruption import CASES, NAME, NAMED, Store, check, damage, outcome, try_all
from tests.proofs.outcome import in_soak
from tests.storage.golden_data import answers
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.jobs.scrub import scrub
from vss.storage.log import Kind, Log, Operation, pack_vectors
from vss.storage.manifest import artifacts_of

SEED = 6


@pytest.fixture(scope="module")
def stores() -> Iterator[list[Store]]:
    with corruption.two_stores() as stores:
        yield stores


@pytest.mark.parametrize("seed", [SEED])
def test_no_damage_gives_a_wrong_answer(stores: list[Store], seed: int) -> None:
    check(try_all(stores, seed, CASES))


@pytest.mark.soak
@pytest.mark.parametrize("seed", [SEED + 1])
def test_no_damage_gives_a_wrong_answer_for_long(stores: list[Store], seed: int) -> None:
    done = Counter[str]()
    corruption.try_many(stores, seed, in_soak(10_000), done)
    print(done)  # noqa: T201 - the result, with `pytest -s`


def test_a_flip_that_hides_behind_its_receipt_is_found_by_the_scrub(stores: list[Store]) -> None:
    store = stores[0]
    folder = next((store.data.path / "collections").iterdir())
    random = np.random.default_rng(SEED)
    engine = LocalEngine(store.data, INDEXERS, writable=False)
    assert answers(engine, NAME) == store.truth  # receipts are there
    store.remember()
    engine.close()
    try:
        for artifact in sorted(artifacts_of(store.manifest), key=lambda one: one.sha256):
            path = folder / "artifacts" / artifact.sha256
            before = path.stat()
            os.chmod(path, 0o644)
            with open(path, "r+b") as file:
                place = int(random.integers(artifact.bytes))
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ int(random.integers(1, 256))]))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            found = list(scrub(folder))
            assert [artifact.sha256[:12] in str(one) for one in found] == [True], found
            result = outcome(store, writable=False)
            assert result == "right" or artifact.sha256[:12] in result
            path.write_bytes(store.files[path])
            store.restore()
    finally:
        store.restore()


def test_a_changed_row_of_the_log_is_found(tmp_path: Path) -> None:
    """SQLite sees nothing where a byte of a row is another one: the row's own checksum does."""
    operations = [
        Operation(Kind.UPSERT, b"\x01%d" % row, pack_vectors({"": np.full(64, row, np.float32)}), b'{"n":%d}' % row)
        for row in range(200)
    ]
    path = tmp_path / "log.db"
    log = Log(path)
    log.append(operations)
    log.close()
    whole, random, refused = path.read_bytes(), np.random.default_rng(SEED), 0
    for case in range(200):
        done = damage(path, "byte", random)
        try:
            log = Log(path)
        except VssError as error:
            assert error.code in NAMED, (case, done, error)  # noqa: PT017
            refused += 1
        else:
            try:
                assert log.read(-1, 0)[1] == operations, (case, done)
            except VssError as error:
                assert error.code in NAMED, (case, done, error)  # noqa: PT017
                refused += 1
            log.close()
        for left in tmp_path.glob("log.db*"):
            left.unlink()
        path.write_bytes(whole)
    assert refused > 100
