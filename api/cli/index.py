"""`vss index`: a bulk import in a process of its own, with or without a running server, or into a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from api.cli import bars, registry
from api.cli.options import DEFAULT_DATA, Data
from vss.cores import usable_cores
from vss.defaults import MIN_RECALL
from vss.jobs.bundles.build import Bundle
from vss.jobs.dead_letters import DEFAULT_MAX_BAD_SHARE, OnError
from vss.jobs.embedding_cache import EmbeddingCache
from vss.jobs.gate import Fields
from vss.jobs.importer import Imported, Tools, run_import
from vss.jobs.living import LivingCollection
from vss.jobs.remote import JobWriter
from vss.jobs.request import Import
from vss.jobs.sources.files import KNOWN
from vss.jobs.sources.systems import shown
from vss.schema import AUTO, IndexSettings
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode
from vss.types import Metric

KINDS = (AUTO, *registry.kinds())


def _kind(given: str) -> str:
    """A kind that there is, or what kinds there are."""
    if given not in KINDS:
        raise typer.BadParameter(f"{given!r} is not one of {', '.join(KINDS)}")
    return given


def _param(given: str) -> tuple[str, int | float | str]:
    """`key=value` as a pair; the value is a whole number, a number, or else a word."""
    name, equals, value = given.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"got {given!r}, wanted key=value, like storage=sq8")
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def _pair(given: str) -> tuple[str, str]:
    """`OLD=NEW` as a pair."""
    old, equals, new = given.partition("=")
    if not (old and equals and new):
        raise typer.BadParameter(f"got {given!r}, wanted OLD=NEW, like body=text")
    return old, new


def index(
    uri: Annotated[
        str, typer.Argument(help=f"A file, glob or directory, or a URI that fsspec opens. Known endings: {KNOWN}.")
    ],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Made when it is not there.")],
    data: Data = DEFAULT_DATA,
    out: Annotated[
        str | None,
        typer.Option(help="Build a bundle in this empty folder or URI instead; vss publish adopts it, anywhere."),
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field of the point's id, a string or an integer.")] = "id",
    text_field: Annotated[str | None, typer.Option(help="Field of the text to embed; stays in the payload.")] = None,
    vector_field: Annotated[str | None, typer.Option(help="Field of the ready vector.  [.npy, .npz: vector]")] = None,
    ids: Annotated[
        str | None, typer.Option(help="Ids of a .npy: another .npy, or a text with one a line.  [default: row numbers]")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Give a field another name first; may be repeated.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Embedder of a new collection: {registry.DEFAULT_MODEL}, hashing, a folder or a hub name."),
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Metric of a new collection.  [default: the model's, or Cosine]")
    ] = None,
    mode: Annotated[
        Mode, typer.Option(help="replace also drops points that the file does not name; newer writes always stay.")
    ] = Mode.UPSERT,
    kind: Annotated[
        str | None,
        typer.Option(
            "--index",
            callback=lambda given: given and _kind(given),
            metavar="KIND",
            help=f"Kind of index: {', '.join(KINDS)}.  [default: the collection's, or auto]",
        ),
    ] = None,
    index_param: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A build parameter of that kind, like storage=sq8; may be repeated."),
    ] = None,
    min_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Publish nothing when no effort reaches this recall@10.")
    ] = MIN_RECALL,
    on_error: Annotated[
        OnError, typer.Option(help="A row that cannot be stored is written down, or ends the import.")
    ] = OnError.DEAD_LETTER,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Publish nothing when more of the rows (and more than 10) are bad.")
    ] = DEFAULT_MAX_BAD_SHARE,
    embedding_cache: Annotated[
        Path | None, typer.Option(help="File that keeps embeddings, so that a second run reuses them.")
    ] = None,
) -> None:
    """Import files into a collection: embed, build the index, publish.

    In CSV every value is text, ids too; a vector is a JSON list. Of an .npz the arrays "vectors" and "ids" are read.
    Rows that cannot be stored go to DATA/dead-letters, with file, line and reason. Nothing is published when it fails.
    Killed or stopped, it goes on after its last finished chunk when the same command is run again, for up to 7 days.

    \b
    Examples:
      vss index docs.jsonl --collection docs --text-field text
      vss index vectors.parquet --collection items --vector-field vector --metric Dot --mode replace
      vss index vectors.parquet -c items --vector-field vector --index faiss_ivf --index-param storage=pq
      vss index 'data/*.csv.gz' -c docs --text-field text --rename body=text
      vss index vectors.npy -c items --ids names.txt
      vss index 's3://bucket/docs/*.jsonl.gz' -c docs --text-field text --on-error abort
      vss index docs.jsonl -c docs --text-field text --out s3://bucket/docs-7
    """
    params = dict(_param(given) for given in index_param or ())
    if params and kind is None:
        raise typer.BadParameter("--index-param needs --index, whose parameters they are")
    renamed = dict(_pair(one) for one in rename or ())
    if len(renamed) < len(rename or ()):
        raise typer.BadParameter("--rename gives one field two names")
    if vector_field is None and text_field is None and uri.lower().endswith((".npy", ".npz")):
        vector_field = "vector"
    if out is not None and mode is not Mode.UPSERT:
        raise typer.BadParameter("--mode is said when the bundle of --out is published")
    console = Console(stderr=True)
    job = Import(
        uri=uri,
        fields=Fields(id=id_field, text=text_field, vector=vector_field, ids=ids, rename=renamed),
        model=model,
        metric=metric,
        index=IndexSettings(kind=kind, params=params) if kind else None,
        min_recall=min_recall,
        on_error=on_error,
        max_bad_share=max_bad_share,
    )
    with ExitStack() as stack, _stopped(console):
        cache = stack.enter_context(EmbeddingCache(embedding_cache)) if embedding_cache else None
        indexers = registry.indexers()
        tools = Tools(
            indexers=indexers,
            embedders=registry.embedders(data),
            reporter=bars.reporter(console),
            threads=usable_cores(),
            dead_letters=data / "dead-letters",
            default_model=registry.DEFAULT_MODEL,
            cache=cache,
        )
        if out is None:
            folder = DataDir(data)
            living = LivingCollection(folder, collection, indexers=indexers, writer=JobWriter(folder), mode=mode)
            done = run_import(job, stack.enter_context(living), tools)
            lines = [f"{collection}: generation {done.manifest.generation}, {_counted(done)}", *summary(done)]
        else:
            built = run_import(job, stack.enter_context(Bundle(out, collection)), tools)
            lines = [
                f"{collection}: a bundle at {shown(out)}, {_counted(built)}",
                *summary(built),
                f"next: vss publish {shown(out)}",
            ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _stopped(console: Console) -> Iterator[None]:
    """Say what a job that was told to stop has kept."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        for note in getattr(stop, "__notes__", ()):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        raise


def _counted(done: Imported[Any]) -> str:
    reused = f", {done.cached:,} embeddings reused" if done.cached else ""
    return f"{done.rows:,} rows in {done.seconds:.1f} s{reused}"


def summary(done: Imported[Any]) -> list[str]:
    """The indexes that an import made and the rows that it refused, for people."""
    lines = []
    if done.resumed:
        lines.append(f"resumed after {done.resumed:,} rows")
    elif done.anew:
        lines.append(f"began anew; a killed import could not go on: {done.anew}")
    for name, record in done.segment.vectors.items():
        params = ", ".join(f"{key} {value}" for key, value in record.index.params.items())
        shown = f" {name!r}" if name else ""
        lines.append(
            f"index{shown}: {record.index.kind}{f' ({params})' if params else ''}, "
            f"best recall@10 for its own rows {done.recall[name]:.3f}"
        )
    if done.rejected:
        lines.append(f"{done.rejected:,} rows were refused: {done.dead_letters}")
    return lines
