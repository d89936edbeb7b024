"""Collecting what no retained generation names: by the worker after each publication, and by `vss gc`.

    retire    the writer forgets generations past the last few, then the operations that all others cover
    sweep     files that nothing names any more go, from any process

Nothing is swept that could still be needed, whoever runs beside it:

- A query opens every file of its generation when it begins, and looks again for the current one when it meets a file
  that has gone meanwhile (`storage.collection`).
- A job has a second name, in its own staging folder, of each artifact that it has stored or reads, from before the
  sweep looks until its generation is published (`storage.artifacts`).
- No number of a generation is given twice, and a number above all that are known may be one that is being published.

What goes is first moved into a staging folder of the collector: a kill at any point leaves a whole collection, and the
next one finds the rest.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vss.errors import Code, VssError
from vss.jobs.journal import killed_imports
from vss.storage.artifacts import ArtifactStore
from vss.storage.catalog import Catalog
from vss.storage.collection import remove_collection
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.history import Retired, known_numbers
from vss.storage.log import Log
from vss.storage.manifest import artifacts_of, read_manifest
from vss.storage.staging import PURPOSES, in_use, lock_folder, staging_folder

DRAFT_SECONDS = 3600.0
"""A draft that is so old was left by a process that ended: others take a moment."""


class Keeper(Protocol):
    """Who changes a log for the collector: the writer."""

    def retire(self, collection: str, keep: int, *, erase: bool = False) -> Retired:
        """Forget generations but the last `keep`, and operations that all others cover.

        collection: its id; erase: whether the log is written anew, so that its file has no byte of what went
        """


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that can go: what it is, for people; where it lies; its bytes."""

    what: str
    path: Path
    bytes: int


def sweep(data: DataDir, collection: str, *, dry_run: bool = False) -> list[Garbage]:
    """Remove the files of a collection (by its id) that nothing needs; returns what they are, or would be.

    VssError (CORRUPT) when a retained manifest cannot be read: then nobody knows what is needed, and nothing goes.
    """
    folder = data.collection(collection)
    staging = folder / "staging"
    if not (folder / "log.db").exists():
        return []
    found = list(_dead(staging, dry_run=dry_run))
    garbage: list[Garbage] = []
    artifacts, manifests = ArtifactStore(folder / "artifacts"), folder / "manifests"
    log = Log(folder / "log.db")
    try:
        used = bool(log.last_seq() or log.pointer().generation)
        for one in killed_imports(staging):
            # Of a collection that such an import has made and nobody has used, it is the only sign.
            if one.given_up and (used or not one.created):
                found.append(Garbage("import that was killed and given up", one.folder, _size(one.folder)))
                if not dry_run:
                    one.remove()
        with ExitStack() as stack:
            moved = None if dry_run else stack.enter_context(staging_folder(staging, "collect"))
            with artifacts.collecting():
                # In this order: a job stores, then publishes, then leaves its folder. So what a job has left is named.
                busy = in_use(staging, data.path / "staging")
                stored = list(_artifacts(folder / "artifacts"))
                numbered = [(path, _number(path)) for path in manifests.glob("[0-9]*.json")]
                drafts = [(path, _number(path)) for path in manifests.glob(".*.tmp")]
                retained, newest = known_numbers(log)
                named = set()
                for each in retained:
                    manifest = read_manifest(manifests, each.generation, each.manifest)
                    named |= {artifact.sha256 for artifact in artifacts_of(manifest)}
                numbers = {each.generation for each in retained}
                gone = [path for path, number in numbered if number not in numbers and number <= newest]
                garbage = [Garbage("manifest", path, path.stat().st_size) for path in gone]
                garbage += [Garbage("draft", path, _size(path)) for path, number in drafts if number <= newest]
                garbage += [
                    Garbage("artifact", Path(entry.path), stat.st_size)
                    for entry, stat in stored
                    if entry.name not in named and stat.st_ino not in busy
                ]
                garbage += _old_drafts(folder)
                if moved is not None:
                    for place, piece in enumerate(garbage):
                        with suppress(FileNotFoundError):
                            os.rename(piece.path, moved / str(place))
            if garbage and not dry_run:
                artifacts.forget({piece.path.name for piece in garbage if piece.what == "artifact"})
    finally:
        log.close()
    return found + garbage


def sweep_directory(data: DataDir, catalog: Catalog, *, dry_run: bool = False) -> list[Garbage]:
    """Remove what belongs to no collection: folders that the catalog does not name, and what killed jobs have left.

    While a server runs, what only nobody's writing makes sure of stays: collections that were never made or used.
    """
    found = list(_dead(data.path / "staging", dry_run=dry_run))
    with ExitStack() as stack:
        alone = True
        try:
            stack.enter_context(WriterLock(data))
        except VssError:
            alone = False
        for folder in sorted((data.path / "collections").iterdir()):
            # A folder is made just before its row in the catalog, and its log after that: with a log it had a name.
            had_name = (folder / "log.db").exists()
            name = _name(catalog, folder.name)
            if name is None and (had_name or alone):
                what = "deleted collection" if had_name else "collection that was never made"
            elif name is not None and alone and _never_used(folder):
                what = f"collection {name} of an import that was killed"
            else:
                continue
            found.append(Garbage(what, folder, _size(folder)))
            if not dry_run:
                if name is not None:
                    catalog.delete(name)
                remove_collection(folder)
    return found


def _name(catalog: Catalog, collection: str) -> str | None:
    return next((name for name, entry in catalog.entries().items() if entry.id == collection), None)


def _never_used(folder: Path) -> bool:
    """Whether an import that was killed and given up made this collection, and nobody has used it. No writer runs."""
    imports = list((folder / "staging").glob("import-*"))
    if not imports or not (folder / "log.db").exists():
        return False
    log = Log(folder / "log.db")
    try:
        if log.last_seq() or log.pointer().generation:
            return False
    finally:
        log.close()
    ended = killed_imports(folder / "staging")
    return len(ended) == len(imports) and any(one.created for one in ended) and all(one.given_up for one in ended)


def _dead(staging: Path, *, dry_run: bool) -> Iterator[Garbage]:
    """The folders of folds, seals and publications whose process has ended."""
    for folder in sorted(staging.glob("*-*")):
        lock = lock_folder(folder) if folder.name.partition("-")[0] in PURPOSES else None
        if lock is None:
            continue
        try:
            yield Garbage("folder of a job that ended", folder, _size(folder))
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _artifacts(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry, entry.stat(follow_symlinks=False)


def _old_drafts(folder: Path) -> Iterator[Garbage]:
    for path in folder.glob("*.tmp"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            if time.time() - stat.st_mtime > DRAFT_SECONDS:
                yield Garbage("draft", path, stat.st_size)


def _number(path: Path) -> int:
    """The generation of a manifest or of a draft of one (`.000007.<pid>.tmp`)."""
    digits = path.name.lstrip(".").partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def _size(path: Path) -> int:
    """Bytes on the disk that go with a file or a folder: what has a name elsewhere is not counted."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    total = 0
    for below in path.rglob("*"):
        with suppress(FileNotFoundError):
            stat = below.stat()
            total += stat.st_size if below.is_file() and stat.st_nlink == 1 else 0
    return total


def collect(data: DataDir, collection: str, keeper: Keeper, *, keep: int) -> tuple[Retired, list[Garbage]]:
    """Retire and sweep one collection, by its id. VssError: NOT_FOUND (deleted meanwhile), LOCKED, CORRUPT."""
    try:
        return keeper.retire(collection, keep), sweep(data, collection)
    except FileNotFoundError as error:
        raise VssError(Code.NOT_FOUND, "the collection was deleted meanwhile", field="collection") from error
