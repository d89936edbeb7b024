"""`vss demo`: the main job, end to end, on real input."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.cli import registry
from api.cli.client import Client
from api.cli.options import Data
from api.demo import corpus, measure, process, queries
from vss.storage.datadir import DataDir, WriterLock

FOLDER = Path(".demo")
"""`make serve` serves it when it is there."""


def demo(
    data: Data = FOLDER,
    model: Annotated[str, typer.Option(help="The embedder.")] = registry.DEFAULT_MODEL,
    limit: Annotated[int | None, typer.Option(min=20, help="Take only about this many documents.")] = None,
) -> None:
    """Embed the documentation of Python's standard library, index it, serve it, search it and measure it.

    A second run reuses the embeddings.

    \b
    Examples:
      vss demo
      vss demo --model hashing --limit 300 --data /tmp/vss-demo
    """
    console = Console(highlight=False)
    began = time.monotonic()
    folder = DataDir(data)
    WriterLock(folder).close()  # a server that runs on the folder is told now, not after the work

    _step(console, 1, "read the documentation of Python's standard library")
    source = folder.path / "stdlib.jsonl"
    documents = corpus.write(source, limit)
    _say(console, f"{len(documents):,} documents in {_short(source)}")

    _step(console, 2, f"embed it with {model} and build an HNSW index, in a job process")
    process.run(
        *("index", str(source), "--data", str(folder.path), "--collection", queries.COLLECTION),
        *("--text-field", "text", "--model", model, "--mode", "replace", "--index", "faiss_hnsw"),
        *("--embedding-cache", str(folder.path / "embeddings.db")),
    )

    port = process.choose_port()
    _step(console, 3, "start the server")
    settings = {"VSS_MODELS": json.dumps([model])}
    with process.Server(folder.path, port, settings) as server, Client(server.url, folder.path) as client:
        _say(console, f"ready at {server.url} after {server.seconds:.1f} s, its API is described at {server.url}/docs")

        _step(console, 4, "search, filter and recommend through HTTP")
        queries.show(console, client, server.url)

        _step(console, 5, "measure through HTTP")
        spread = max(1, len(documents) // measure.QUERIES)
        texts = [str(one["summary"]) for one in documents[::spread]][: measure.QUERIES]
        vectors = measure.embed(client, model, texts)
        found = measure.recall(client, queries.COLLECTION, vectors)
        _say(console, f"{len(vectors)} text queries (first lines of documents) against exact search:")
        _say(console, f"recall@{measure.K} {found:.3f}")
        load = measure.load(server.url, queries.COLLECTION, vectors)
        _say(
            console,
            f"{load.requests:,} JSON vector queries over {measure.CONNECTIONS} connections: "
            f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, {load.per_second:,.0f} requests/s",
        )

    console.print()
    _say(
        console,
        f"Done in {time.monotonic() - began:.0f} s. Go on: serve this data again and paste any curl line above.",
    )
    if data == FOLDER:
        extra = "" if port == process.DEFAULT_PORT else f" SERVE_ARGS='--port {port}'"
        _say(console, f"  make serve{extra}")
    _say(console, f"  vss serve --data {data} --port {port}")


def _step(console: Console, number: int, what: str) -> None:
    console.print()
    console.rule(f"{number}. {what}", align="left")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
