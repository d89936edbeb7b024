"""After a power cut at any moment everything that was acknowledged is there, and nothing else (see `power_cuts`)."""

from __future__ import annotations

import errno
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proofs import power_cuts
from tests.proofs.disk import Disk, Entry, Mode, read_record
from tests.proofs.outcome import in_soak

SEED = 20_261_121


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library."""
    library = power_cuts.build(tmp_path_factory.mktemp("recorder"))
    if library is None:
        pytest.skip("no C compiler (gcc or cc), so the recorder of system calls cannot be built")
    return library


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where disks are made and judged."""
    with tempfile.TemporaryDirectory(dir=power_cuts.MEMORY) as folder:
        yield Path(folder)


def test_two_hundred_power_cuts(recorder: Path, folder: Path) -> None:
    done = power_cuts.run(recorder, folder / "r", SEED, 220, 8)
    assert done["states"] == 220
    assert done["acknowledged"] == 24
    assert min(done[mode.name] for mode in Mode) > 20


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_power_cuts_after_a_disk_that_failed(recorder: Path, folder: Path, number: int) -> None:
    """Once in the middle of the work three calls in a row fail; what such a sync has lost stays lost."""
    done = Counter[str]()
    for seed in range(3):
        fail = f"{random.Random(seed).randrange(60, 900)} {number} 3"
        done += power_cuts.run(recorder, folder / f"r{seed}", seed, 15, 8, fail)
    assert done["states"] == 45
    assert done["acknowledged"] == 72


def test_power_cuts_after_a_process_that_was_killed(recorder: Path, folder: Path) -> None:
    """What the next process found in the page cache is not taken for durable before it is."""
    done = Counter[str]()
    for seed in range(3):
        fail = f"{random.Random(seed).randrange(200, 500)} 0"
        done += power_cuts.run(recorder, folder / f"r{seed}", seed, 15, 8, fail)
    assert done["states"] == 45
    assert done["acknowledged"] > 72


def test_the_record_is_what_sqlite_and_the_store_did(recorder: Path, folder: Path) -> None:
    """All of the disk that the record gives is the disk that there is, but for what a process may lose."""
    record = power_cuts.record(recorder, folder, SEED, 5)
    disk, kinds = Disk(), Counter[str]()
    for entry in read_record(record):
        disk.take(entry)
        kinds[entry.kind] += 1
    assert min(kinds[kind] for kind in "WTSCDRLUNM") > 0
    (folder / "copy").mkdir()
    disk.cut(folder / "copy", Mode.EVERYTHING, random.Random(0))
    found = dict(_files(folder / "copy"))
    for name, content in _files(folder / "under"):
        assert found.pop(name) == content, name
    assert not found


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith("-shm"):
            yield str(path.relative_to(folder)), path.read_bytes()


def test_what_a_cut_keeps(tmp_path: Path) -> None:
    disk = Disk()
    for entry in (
        Entry("D", "", "", 1, 0, b""),
        Entry("C", "a", "", 2, 0, b""),
        Entry("W", "", "", 2, 0, b"old" * 1_000),
        Entry("S", "", "", 2, 0, b""),
        Entry("S", "", "", 1, 0, b""),
        Entry("W", "", "", 2, 0, b"new" * 1_000),
        Entry("R", "a", "b", 0, 0, b""),
        Entry("C", "c", "", 3, 0, b""),
    ):
        disk.take(entry)
    seen = set()
    for number in range(300):
        into = tmp_path / str(number)
        into.mkdir()
        disk.cut(into, list(Mode)[number % 4], random.Random(number))
        files = {path.name: path.read_bytes() for path in into.iterdir()}
        assert len(files.keys() & {"a", "b"}) == 1
        (content,) = files.keys() & {"a", "b"}
        assert len(files[content]) == 3_000
        shown = {b"old" * 1_000: "old", b"new" * 1_000: "new"}.get(files[content], "torn")
        seen.add((content, "c" in files, shown))
    assert len(seen) == 12
    disk.take(Entry("F", "", "", 2, 0, b""))
    disk.take(Entry("S", "", "", 2, 0, b""))
    (tmp_path / "doubted").mkdir()
    disk.cut(tmp_path / "doubted", Mode.NOTHING, random.Random(0))
    assert (tmp_path / "doubted" / "a").read_bytes() == b"old" * 1_000


@pytest.mark.soak
def test_five_thousand_power_cuts(recorder: Path, folder: Path) -> None:
    done = Counter[str]()
    power_cuts.run_many(recorder, folder, SEED + 1, in_soak(5_000), done)
    print(json.dumps(done))  # noqa: T201 - the result, with `pytest -s`
    assert done["states"] >= in_soak(5_000)
