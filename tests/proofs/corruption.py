"""Damage any byte of any file of a data directory: every answer is the right one, or an error that names the damage.

    python -m tests.proofs.corruption --cases 10500 --out results.jsonl

Each case damages one file of a small data directory (flipped, overwritten or cut off somewhere, emptied, removed),
opens it as a server does, and compares all that it says with what was said before.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indexers.registry import INDEXERS
from tests.proofs.outcome import long_run
from tests.storage.golden_data import DIM, answers, build
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.storage.datadir import DataDir
from vss.storage.manifest import Manifest, artifacts_of

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where the files lie, since every case syncs; None: where temporary files are."""

NAME = "native"
DAMAGES = ("bit", "byte", "block", "cut", "empty", "remove")
NAMED = (Code.CORRUPT, Code.UNSUPPORTED, Code.STORAGE)
"""What an error may be: NOT_FOUND for a collection that exists would be a wrong answer."""

CASES = 560
"""With one seed: all kinds of files, each a dozen times."""


@dataclass
class Store:
    """A data directory that can be damaged and put back. `truth` is what it says when it is whole."""

    data: DataDir
    truth: dict[str, Any]
    manifest: Manifest
    files: dict[Path, bytes] = field(default_factory=dict)
    stamps: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def remember(self) -> None:
        """What lies there now is whole."""
        self.files = {path: path.read_bytes() for path in sorted(self.data.path.rglob("*")) if path.is_file()}
        self.stamps = {path: stamp(path) for path in self.files}

    def restore(self) -> None:
        """Put back what has changed since."""
        for path in self.data.path.rglob("*"):
            if path.is_file() and path not in self.files:
                path.unlink()
        for path, data in self.files.items():
            if not path.exists() or stamp(path) != self.stamps[path]:
                path.unlink(missing_ok=True)
                path.write_bytes(data)
                self.stamps[path] = stamp(path)

    def kinds(self) -> dict[str, list[Path]]:
        """The files by what they are: of artifacts, by their role."""
        found: dict[str, list[Path]] = {}
        roles = dict(roles_of(self.manifest))
        for path in self.files:
            kind = roles.get(path.name, "an older artifact") if path.parent.name == "artifacts" else path.name
            found.setdefault("a manifest" if path.parent.name == "manifests" else kind, []).append(path)
        return found


def stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def roles_of(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """sha256 and role of each artifact."""
    for record in manifest.segments:
        for role, part in (("ids", record.ids), ("payloads", record.payloads), ("columns", record.columns)):
            yield from ((one.sha256, role) for one in artifacts_of(part))
        yield record.versions.sha256, "versions"
        if record.tombstones is not None:
            yield record.tombstones.sha256, "tombstones"
        for one in record.vectors.values():
            yield one.vectors.sha256, "vectors"
            yield from ((file.sha256, f"index {name}") for name, file in one.files.items())


def make(folder: Path, *, killed: bool) -> Store:
    """A data directory as a killed process leaves it, its write-ahead logs full, or as a stopped one does."""
    engine = build(DataDir(folder / "source"), (NAME,))
    truth, manifest = answers(engine, NAME), engine.collection(NAME).current()
    assert manifest is not None
    if not killed:
        engine.close()
    shutil.copytree(folder / "source", folder / "data")
    engine.close()
    store = Store(DataDir(folder / "data"), truth, manifest)
    store.remember()
    return store


@contextmanager
def two_stores(folder: Path | None = None) -> Iterator[list[Store]]:
    """One that was stopped and one that was killed. folder: where to make them"""
    with tempfile.TemporaryDirectory(dir=folder or MEMORY) as made:
        yield [make(Path(made) / name, killed=name == "killed") for name in ("stopped", "killed")]


def damage(path: Path, how: str, random: np.random.Generator) -> str:
    """Damage a file; says how."""
    data = bytearray(path.read_bytes())
    path.unlink()
    place = int(random.integers(len(data))) if data else 0
    if how == "remove":
        return "removed"
    if how == "cut":
        data = data[:place]
    elif how == "empty":
        data = bytearray()
    elif how == "block":
        data[place : place + 512] = random.bytes(len(data[place : place + 512]))
    elif data:
        data[place] ^= 1 << int(random.integers(8)) if how == "bit" else int(random.integers(1, 256))
    path.write_bytes(data)
    return f"{how} at {place} of {len(data)}"


def outcome(store: Store, *, writable: bool) -> str:
    """ "right", or the error; fails when an answer is wrong. A writer also writes, and finds what it wrote."""
    engine = LocalEngine(store.data, INDEXERS, writable=writable)
    try:
        assert answers(engine, NAME) == store.truth
        assert engine.entry("alias").name == NAME
        if writable:
            vector = np.ones(DIM, np.float32)
            engine.upsert(NAME, [Point(id="new", vectors={"": vector}, payload=b'{"n":-1}')]).result(30)
            (found,) = engine.collection(NAME).view().retrieve(["new"])
            assert (found.payload, found.vectors[""].tolist()) == (b'{"n":-1}', vector.tolist())
    except VssError as error:
        if error.code not in NAMED:
            raise
        return f"{error.code}: {error}"
    finally:
        engine.close()
    return "right"


def try_all(stores: list[Store], seed: int, cases: int) -> dict[str, list[str]]:
    """Damage and look, in turn over all kinds of files; the outcomes by kind."""
    random = np.random.default_rng(seed)
    outcomes: dict[str, list[str]] = {}
    turns = [(store, kind, paths) for store in stores for kind, paths in store.kinds().items()]
    for case in range(cases):
        store, kind, paths = turns[case % len(turns)]
        path = paths[int(random.integers(len(paths)))]
        how = DAMAGES[int(random.integers(len(DAMAGES)))]
        done = damage(path, how, random)
        try:
            found = outcome(store, writable=bool(random.integers(2)))
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case}: {kind} {path.name}: {done}") from error
        finally:
            store.restore()
        outcomes.setdefault(kind, []).append(f"{done}: {found}")
    for store in stores:
        assert outcome(store, writable=False) == "right"
        store.restore()
    return outcomes


def check(outcomes: dict[str, list[str]]) -> None:
    """The damage was real: of what holds data a good part was refused; what can be had from elsewhere never was."""
    assert {"log.db", "log.db-wal", "log.seq", "catalog.db", "catalog.json", "a manifest"} <= outcomes.keys()
    assert {"ids", "payloads", "columns", "versions", "vectors", "tombstones", "verified.json"} <= outcomes.keys()
    assert any(kind.startswith("index ") for kind in outcomes)
    for kind, said in outcomes.items():
        right = sum(one.endswith(": right") for one in said) / len(said)
        if kind in ("payloads", "versions", "vectors", "tombstones"):
            assert right == 0, (kind, said)
        if kind.startswith("index ") or kind in ("columns", "verified.json", "an older artifact", "writer.lock"):
            assert right == 1, (kind, [one for one in said if not one.endswith(": right")])


def try_many(
    stores: list[Store], seed: int, cases: int, done: Counter[str], over: Callable[[], bool] = lambda: False
) -> None:
    """`try_all` and `check` with one seed after the other, until there are so many or it is `over`. done: what was."""
    while done["cases"] < cases and not over():
        try:
            outcomes = try_all(stores, seed, CASES)
            check(outcomes)
        except BaseException as error:
            error.add_note(f"again: python -m tests.proofs.corruption --cases 1 --seed {seed}")
            raise
        said = [one for each in outcomes.values() for one in each]
        done["cases"] += len(said)
        done["right nevertheless"] += sum(one.endswith(": right") for one in said)
        done["kinds of files"] = len(outcomes)
        done["last seed"] = seed
        seed += 1


def main() -> None:
    """The long form."""
    asked = long_run("corruption", "cases", 10_000, __doc__)
    done = Counter[str]()
    with two_stores(asked.folder) as stores, asked.told(done):
        try_many(stores, asked.seed, asked.wanted, done, lambda: asked.over)


if __name__ == "__main__":
    main()
