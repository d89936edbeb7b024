"""`vss bench write`: imports and durable writes beside the least that could do the same."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.bench import churn, dataset, durable
from api.bench import write as measured
from api.bench.counting import counting
from api.bench.report import Report
from api.bench.texts import from_jsonl, from_stdlib
from api.cli import bars, registry
from embedders.registry import open_embedder
from vss.cores import usable_cores
from vss.types import Metric


class Part(StrEnum):
    """What can be measured by itself."""

    VECTORS = "vectors"
    TEXTS = "texts"
    UPSERTS = "upserts"
    CHURN = "churn"


QUICK = (Part.VECTORS, Part.TEXTS, Part.UPSERTS)


def write(
    source: Annotated[
        Path | None, typer.Argument(help="A .npy of vectors to import.  [default: clustered-128 of --n]")
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", help="A folder of the disk to measure; a scratch folder in it comes and goes.")
    ] = Path(),
    part: Annotated[
        list[Part] | None, typer.Option(help="Only this; may be repeated.  [default: all but churn]")
    ] = None,
    metric: Annotated[Metric, typer.Option(help="How vectors of a .npy are compared.")] = Metric.COSINE,
    n: Annotated[int | None, typer.Option("--n", min=100, help="Vectors.  [default: all, or 50,000 made up]")] = None,
    index: Annotated[str, typer.Option(metavar="KIND", help="Kind of index that the import builds.")] = "auto",
    text_file: Annotated[
        Path | None, typer.Option(help="A JSON Lines file of texts.  [default: Python's documentation]")
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of the text.")] = "text",
    texts: Annotated[int, typer.Option(min=1, help="Texts to import, drawn by the seed.")] = 2_000,
    model: Annotated[str, typer.Option(help="The embedder of the texts.")] = registry.DEFAULT_MODEL,
    points: Annotated[int, typer.Option(min=100, help="Points to upsert, in batches of 100.")] = 5_000,
    threads: Annotated[int | None, typer.Option(min=1, help="Of builds and the model.  [default: all cores]")] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Rounds; in each both of a pair have their turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each loop of the churn.")] = 20.0,
    connections: Annotated[int, typer.Option(min=1, help="That ask in the loops of the churn.")] = 16,
    times: Annotated[int, typer.Option(min=1, help="How often the churn replaces every point.")] = 10,
    seed: Annotated[int, typer.Option(help="Of made-up vectors and the choice of texts.")] = 7,
    out: Annotated[Path | None, typer.Option(help="Append the JSON lines to this file, not to stdout.")] = None,
) -> None:
    """Imports beside a raw hnswlib build and beside the model alone; durable upserts beside raw SQLite.

    Each pair takes turns in the same run. Upserts of single points by 32 writers at once tell how they share syncs.
    The churn: searches while points are upserted at a fifth of what upserts alone reach, beside searches alone; then
    every point replaced many times, beside a fresh import.

    \b
    Examples:
      vss bench write
      vss bench write vectors.npy --part vectors --threads 2 --data /mnt/disk
      vss bench write --part texts --text-file docs.jsonl --texts 5000
      vss bench write --part churn --repetitions 3
    """
    console = Console(stderr=True, highlight=False)
    reporter = bars.reporter(console)
    parts = set(part or QUICK)
    threads = threads or usable_cores()
    plan = measured.Plan(repetitions=repetitions, threads=threads, kind=index)
    with (
        Report("write", seed=seed, out=out) as report,
        tempfile.TemporaryDirectory(prefix="vss-bench-", dir=data) as name,
    ):
        scratch = Path(name)
        try:
            if Part.VECTORS in parts or Part.UPSERTS in parts:
                reporter.phase("read", 1, "")
                found = (
                    dataset.drawn("clustered-128", n or 50_000, 1, seed)
                    if source is None
                    else dataset.from_npy(source, metric, n, 1, seed)
                )
            if Part.VECTORS in parts:
                reporter.phase("import vectors", 2 * repetitions, "runs")
                measured.imported_vectors(
                    report, found.name, found.vectors, found.metric, scratch, plan, counting(reporter)
                )
            if Part.UPSERTS in parts:
                upserted = found.vectors[:points]
                reporter.phase("upsert", 5 * repetitions, "runs")
                durable.upserts(report, upserted, found.metric, scratch, plan, counting(reporter))
                reporter.phase("upsert one by one", 2, "runs")
                durable.single_upserts(report, upserted, found.metric, scratch, counting(reporter))
            if Part.CHURN in parts:
                count, asked = n or 20_000, 200
                rows = dataset.drawn("clustered-128", (times + 1) * count, asked, seed)
                states = [rows.vectors[start : start + count] for start in range(0, len(rows.vectors), count)]
                last = replace(rows, vectors=states[-1])
                load = churn.Load(connections=connections, seconds=seconds, repetitions=repetitions)
                reporter.phase("search while written", 1 + 2 * repetitions, "runs")
                churn.searched_while_written(report, last, scratch, load, seed, counting(reporter))
                reporter.phase("replace", 1 + len(states), "runs")
                churn.replaced(report, states, last, scratch, seed, counting(reporter))
            if Part.TEXTS in parts:
                reporter.phase("load model", 1, "")
                drawn = (
                    from_stdlib(texts, seed) if text_file is None else from_jsonl(text_file, text_field, texts, seed)
                )
                with closing(open_embedder(model, cache=scratch, threads=threads)) as embedder:
                    reporter.phase("import texts", 2 * repetitions, "runs")
                    measured.imported_texts(report, embedder, drawn, scratch, plan, counting(reporter))
        finally:
            reporter.close()
