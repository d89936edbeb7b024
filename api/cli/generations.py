"""`vss generations`, `vss promote`, `vss gc`, `vss purge`: what a collection was, and what stays of it on the disk."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from api.cli import bars, registry
from api.cli.client import Client
from api.cli.options import DEFAULT_DATA, Collection, Data, Keep
from vss.cores import usable_cores
from vss.defaults import KEEP
from vss.engines.generations import Generation, describe_generation, list_generations
from vss.engines.local import LocalEngine
from vss.errors import invalid
from vss.jobs.collect import Garbage, sweep, sweep_directory
from vss.jobs.purge import purge as purge_collection
from vss.jobs.remote import PATIENCE_SECONDS, JobWriter, serves
from vss.storage.catalog import Catalog
from vss.storage.datadir import DataDir
from vss.storage.refusals import Refusals

Number = Annotated[int, typer.Argument(min=1, help="The generation.")]


def generations(
    collection: Collection,
    generation: Annotated[int | None, typer.Argument(min=1, help="Describe this one.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List the generations that can be promoted, or describe one.

    \b
    Examples:
      vss generations docs
      vss generations docs 7
    """
    engine = LocalEngine(DataDir(data), registry.indexers(), writable=False)
    try:
        target = engine.collection(collection)
        if generation is None:
            for one in list_generations(target):
                _say(_line(one))
            refused = Refusals(target.folder).read()
            if refused is not None:
                when = datetime.fromtimestamp(refused.at, UTC).isoformat(timespec="seconds")
                _say(f"not published: {when} fold, build {refused.builds} in a row that was refused: {refused.what}")
            return
        described = describe_generation(target, generation)
        _say(_line(described.summary))
        for name, vector in described.vectors.items():
            model = f", {vector.model} {vector.fingerprint}" if vector.model else ""
            _say(f"  vectors {name!r}: {vector.dim} numbers under {vector.metric}{model}")
        for segment in described.segments:
            indexes = ", ".join(
                f"{kind}{f' recall@10 {segment.recall[name]:.3f}' if name in segment.recall else ''}"
                for name, kind in segment.indexes.items()
            )
            _say(f"  segment {segment.id}: {segment.points:,} points, {segment.deleted:,} deleted, {indexes}")
    finally:
        engine.close()


def promote(collection: Collection, generation: Number, data: Data = DEFAULT_DATA) -> None:
    """Make a generation current, or roll back to it. Writes that it does not cover apply to it: none is lost.

    Its files are verified and its indexes asked first; nothing changes when they fail.

    \b
    Example:
      vss promote docs 7
    """
    folder = DataDir(data)
    if serves(folder):
        with Client(None, data, timeout=600.0) as client:
            answer = client.send("POST", f"/collections/{collection}/generations/{generation}/promote")
            current = answer["result"]["current"]
    else:
        engine = LocalEngine(folder, registry.indexers(), writable=True, lock_wait=PATIENCE_SECONDS)
        try:
            engine.promote(collection, generation)
            current = engine.collection(collection).view().generation
        finally:
            engine.close()
    sealed = "" if current == generation else f", and sealed as generation {current}"
    _say(f"{collection}: generation {generation} promoted{sealed}")


def gc(
    collection: Annotated[str | None, typer.Argument(help="Name of the collection.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All collections, and what belongs to none of them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what no generation names now; remove nothing.")
    ] = False,
    keep: Keep = KEEP,
    data: Data = DEFAULT_DATA,
) -> None:
    """Remove what no retained generation needs: old generations, their files, old log rows, what killed jobs left.

    The worker does the same after each publication. Safe beside queries, writes and jobs.

    \b
    Examples:
      vss gc docs --keep 2
      vss gc --all --dry-run
    """
    if (collection is None) != everything:
        raise invalid("got neither or both of a collection and --all, wanted one of them", field="COLLECTION")
    folder = DataDir(data)
    catalog = Catalog(folder)
    try:
        entries = list(catalog.entries().values()) if everything else [catalog.get(collection or "")]
        for entry in entries:
            if not (folder.collection(entry.id) / "log.db").exists():
                continue
            if not dry_run:
                retired = JobWriter(folder).retire(entry.id, keep)
                shown = ", ".join(map(str, retired.generations)) or "none"
                _say(f"{entry.name}: generations retired: {shown}; log rows deleted: {retired.operations:,}")
            _report(entry.name, sweep(folder, entry.id, dry_run=dry_run), dry_run)
        if everything:
            _report("of no collection", sweep_directory(folder, catalog, dry_run=dry_run), dry_run)
    finally:
        catalog.close()


def purge(collection: Collection, data: Data = DEFAULT_DATA) -> None:
    """Remove deleted and replaced points from the disk for good, and all older generations with them.

    Dead letters, embedding caches, bundles and copies of the data directory are not touched.

    \b
    Example:
      vss purge docs
    """
    folder, indexers = DataDir(data), registry.indexers()
    engine = LocalEngine(folder, indexers, writable=False)
    show = bars.reporter(Console(stderr=True))
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        show.update(done, done)

    try:
        target = engine.collection(collection)
        show.phase("index", target.view().points, "vectors")
        purged = purge_collection(
            folder, target, JobWriter(folder), indexers, threads=usable_cores(), progress=progress
        )
    finally:
        show.close()
        engine.close()
    _say(
        f"{collection}: generation {purged.manifest.generation} is the only one, "
        f"{purged.rewritten} segments rewritten, {purged.files} files and {purged.operations:,} log rows removed, "
        f"{purged.bytes:,} bytes"
    )


def _report(name: str, found: list[Garbage], dry_run: bool) -> None:
    counts, sizes = Counter(one.what for one in found), Counter[str]()
    for one in found:
        sizes[one.what] += one.bytes
    for what, count in sorted(counts.items()):
        _say(f"{name}: {what}: {count}, {sizes[what]:,} bytes")
    verb = "would be removed" if dry_run else "removed"
    _say(f"{name}: {len(found)} {verb}, {sum(sizes.values()):,} bytes")


def _line(one: Generation) -> str:
    if one.damage is not None:
        return f"{one.generation}{' (current)' if one.current else ''}: damaged: {one.damage}"
    return (
        f"{one.generation}{' (current)' if one.current else ''}: {one.created} {one.source}, {one.points:,} points in "
        f"{one.segments} segments, {one.bytes:,} bytes, covers operation {one.covered_seq:,}"
    )


def _say(line: str) -> None:
    Console(highlight=False, soft_wrap=True).print(line, markup=False)
