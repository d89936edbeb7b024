"""`vss publish`: adopts a bundle that `vss index --out` built, with or without a running server."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from api.cli import bars, registry
from api.cli.options import DEFAULT_DATA, Data
from vss.jobs.bundles.publish import Publication, run_publish
from vss.jobs.remote import JobWriter
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode


def publish(
    uri: Annotated[str, typer.Argument(help="The bundle: a folder, or a URI that fsspec opens.")],
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", help="Made when it is not there.  [default: the bundle's]"),
    ] = None,
    data: Data = DEFAULT_DATA,
    mode: Annotated[
        Mode, typer.Option(help="replace also drops points that the bundle does not name; newer writes always stay.")
    ] = Mode.UPSERT,
) -> None:
    """Adopt a generation that vss index --out built elsewhere: fetch, verify, check, publish.

    Every file is hashed, every point passes the checks of a write, and the index's recall is measured again. Nothing
    is published when it fails. Publish only what builders that you trust have made.

    \b
    Examples:
      vss publish s3://bucket/docs-7
      vss publish ./docs-7 --collection docs --mode replace
    """
    console = Console(stderr=True)
    folder = DataDir(data)
    job = Publication(uri=uri, collection=collection, mode=mode)
    done = run_publish(folder, job, registry.indexers(), JobWriter(folder), bars.reporter(console))
    recall = "".join(f", best recall@10{f' {name!r}' if name else ''} {best:.3f}" for name, best in done.recall.items())
    line = (
        f"{done.collection}: generation {done.manifest.generation}, {done.points:,} points{recall}, "
        f"{done.copied:,} bytes fetched, {done.seconds:.1f} s"
    )
    console.print(line, markup=False, highlight=False, soft_wrap=True)
