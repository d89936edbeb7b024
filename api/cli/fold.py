"""`vss fold`: live points become an indexed segment, with or without a running server."""

from __future__ import annotations

from rich.console import Console

from api.cli import bars, registry
from api.cli.options import DEFAULT_DATA, Collection, Data, MinRecall
from vss.cores import usable_cores
from vss.defaults import MIN_RECALL
from vss.engines.local import LocalEngine
from vss.jobs.remote import JobWriter
from vss.storage.datadir import DataDir
from vss.storage.fold import fold as fold_parts
from vss.storage.manifest import Manifest
from vss.storage.publish import until_published

ATTEMPTS = 5
"""How often a fold that another job overtook is done again."""


def fold(collection: Collection, data: Data = DEFAULT_DATA, min_recall: MinRecall = MIN_RECALL) -> None:
    """Turn live points and small segments into one indexed segment, and serve it when it answers well enough.

    \b
    Example:
      vss fold docs
    """
    console = Console(stderr=True)
    folder = DataDir(data)
    indexers = registry.indexers()
    engine = LocalEngine(folder, indexers, writable=False)
    show = bars.reporter(console)
    try:
        target = engine.collection(collection)

        done = 0

        def begin(rows: int) -> None:
            nonlocal done
            done = 0
            show.phase("index", rows, "vectors")

        def progress(count: int) -> None:
            nonlocal done
            done += count
            show.update(done, done)

        def once() -> Manifest:
            return fold_parts(
                target,
                JobWriter(folder),
                indexers,
                threads=usable_cores(),
                min_recall=min_recall,
                begin=begin,
                progress=progress,
            )

        manifest = until_published(once, ATTEMPTS)
    finally:
        show.close()
        engine.close()
    console.print(_summary(collection, manifest), markup=False, highlight=False, soft_wrap=True)


def _summary(collection: str, manifest: Manifest) -> str:
    points = sum(segment.rows - segment.deleted for segment in manifest.segments)
    return f"{collection}: generation {manifest.generation}, {points:,} points in {len(manifest.segments)} segments"
