"""What `vss doctor --repair` does about damage. Nothing is deleted: a damaged file is replaced, or moved aside.

rebuild         indexes, columns and orders of ids are built again from the rest of their segment
go_back         where that is damaged itself: an older generation that is whole becomes current, as long as the
                log still has every operation since, so that nothing acknowledged is lost
restore_catalog the catalog is written again from its copy
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from vss.defaults import MIN_RECALL
from vss.errors import Code, VssError
from vss.protocols import Indexers
from vss.storage.catalog import restore
from vss.storage.catalog_copy import read_copy
from vss.storage.collection import Collection
from vss.storage.compact import compact
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.history import Retained, retained
from vss.storage.manifest import Manifest, read_manifest
from vss.storage.promote import check_generation
from vss.storage.publish import Publisher
from vss.storage.segment import Segment
from vss.types import Progress, no_progress

OF_THE_LOG = frozenset({"seal", "fold", "repair", "columns"})
"""Sources of generations that hold nothing but what the log and the generation before them held."""


Promote = Callable[[str, int], object]
"""Makes a retained generation of a collection current again."""


def rebuild(
    collection: Collection,
    publisher: Publisher,
    indexers: Indexers,
    *,
    threads: int,
    progress: Progress = no_progress,
    min_recall: float = MIN_RECALL,
) -> Manifest | None:
    """Build again what is damaged and can be; None when nothing is. VssError (CORRUPT) when the rest is damaged too."""
    damaged = [
        part.body.record for part in collection.view().parts if isinstance(part.body, Segment) and part.body.damage
    ]
    if not damaged:
        return None
    return compact(
        collection,
        damaged,
        publisher,
        indexers,
        threads=threads,
        progress=progress,
        source="repair",
        min_recall=min_recall,
    )


def go_back(name: str, collection: Collection, promote: Promote, indexers: Indexers) -> int:
    """Make the newest whole generation current from which nothing is lost; its number.

    VssError (CORRUPT) says what would be lost with each, or why it cannot serve.
    """
    known = sorted(retained(collection.log), key=lambda one: one.generation, reverse=True)
    why = []
    for one in known:
        if one.current:
            continue
        try:
            lost = _lost(collection, one, known)
            if lost:
                why.append(f"generation {one.generation} is from before {lost}")
                continue
            check_generation(collection, one, indexers)
        except VssError as error:
            why.append(f"generation {one.generation}: {error.message}")
            continue
        promote(name, one.generation)
        return one.generation
    raise VssError(
        Code.CORRUPT,
        "ids, payloads or vectors are damaged, and no older generation can take their place"
        + (f" ({'; '.join(why)})" if why else ""),
        hint="restore the named files from a backup, or import the source again; `vss generations` lists what is there",
    )


def _lost(collection: Collection, chosen: Retained, known: list[Retained]) -> str | None:
    """What came after a generation by another way than the log; None for nothing."""
    later = {one.generation: one for one in known if one.generation > chosen.generation}
    for number in range(chosen.generation + 1, max(later, default=0) + 1):
        if number not in later:
            return f"generation {number}, of which nothing is known any more"
        manifest = read_manifest(collection.manifests, number, later[number].manifest)
        if manifest.source not in OF_THE_LOG:
            return f"generation {number} ({manifest.source})"
    return None


def restore_catalog(data: DataDir) -> Path:
    """Write the catalog again from its copy; where the damaged one lies now.

    VssError: LOCKED while a server runs, CORRUPT when there is no sound copy.
    """
    with WriterLock(data):
        copied = read_copy(data.catalog_copy)
        if copied is None:
            raise VssError(
                Code.CORRUPT,
                "the catalog is damaged and its copy is too",
                hint="restore catalog.db or catalog.json from a backup; the collections' folders are as they were",
            )
        aside = data.path / f"catalog.db.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        fresh = data.path / "catalog.db.new"
        restore(fresh, copied)
        for ending in ("", "-wal", "-shm"):
            there = Path(f"{data.catalog}{ending}")
            if there.exists():
                os.rename(there, f"{aside}{ending}")
        os.rename(fresh, data.catalog)
    return aside
