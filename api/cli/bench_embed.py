"""`vss bench embed`: how fast texts become vectors."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.bench import embed as measured
from api.bench.counting import counting
from api.bench.report import Report
from api.bench.texts import from_jsonl, from_stdlib
from api.cli import bars, registry
from api.cli.options import DEFAULT_DATA, Data
from embedders.registry import open_embedder
from vss.cores import usable_cores


def embed(
    source: Annotated[
        Path | None, typer.Argument(help="A JSON Lines file of texts.  [default: Python's documentation]")
    ] = None,
    data: Data = DEFAULT_DATA,
    text_field: Annotated[str, typer.Option(help="Field of the text.")] = "text",
    texts: Annotated[int, typer.Option(min=1, help="How many, drawn by the seed.")] = 600,
    model: Annotated[str, typer.Option(help="The embedder.")] = registry.DEFAULT_MODEL,
    precision: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.  [default: all cores]")] = None,
    request: Annotated[int, typer.Option(min=1, help="Texts of a request to the server's batcher.")] = 32,
    clients: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 8,
    repetitions: Annotated[int, typer.Option(min=1, help="Rounds; in each all paths have their turn.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the choice of texts.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Append the JSON lines to this file, not to stdout.")] = None,
) -> None:
    """Texts and tokens per second: the model alone, served, in an import, and sentence-transformers by itself.

    What is found out about the model once, like its fastest precision, is kept in --data.

    \b
    Examples:
      vss bench embed
      vss bench embed docs.jsonl --texts 2000 --model hashing --data vss-data
    """
    console = Console(stderr=True, highlight=False)
    reporter = bars.reporter(console)
    threads = threads or usable_cores()
    plan = measured.Plan(repetitions=repetitions, request=request, clients=clients, threads=threads)
    with Report("embed", seed=seed, out=out) as report, tempfile.TemporaryDirectory(prefix="vss-bench-") as scratch:
        try:
            reporter.phase("read", 1, "")
            drawn = from_stdlib(texts, seed) if source is None else from_jsonl(source, text_field, texts, seed)
            reporter.phase("load model", 1, "")
            data.mkdir(parents=True, exist_ok=True)
            with closing(open_embedder(model, cache=data, precision=precision, threads=threads)) as embedder:
                reporter.phase("embed", measured.passes(plan), "passes")
                measured.measure(report, embedder, drawn, Path(scratch), plan, counting(reporter))
        finally:
            reporter.close()
