"""`vss bench recall`: recall and speed of the index backends beside the raw libraries, in the same run."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from api.bench import dataset
from api.bench import recall as measured
from api.bench.built import Built, Choice, Workshop, parse
from api.bench.counting import counting
from api.bench.pinning import pin_threads
from api.bench.recall import ASKED, BATCH, Curve, Plan
from api.bench.registry import check_drawing, draw_curves, read_hdf5
from api.bench.report import Report
from api.bench.shapes import SHAPES
from api.cli import bars, registry
from api.demo.queries import COLLECTION
from indexers.raw.registry import KINDS as RAW_KINDS
from vss.errors import Code, VssError, invalid
from vss.jobs.progress import Reporter
from vss.schema import DEFAULT_VECTOR
from vss.types import Metric

DEMO = Path(".demo")
_MORE = ("faiss_hnsw:storage=sq8",)
"""Measured by default beside every kind with its own defaults, and every raw library."""


def recall(
    source: Annotated[
        str | None,
        typer.Argument(help=f"A .npy or an ann-benchmarks .hdf5 file, or a made-up shape: {', '.join(SHAPES)}."),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The vectors of `vss demo`.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="The data directory of --collection.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Its vectors are measured.")] = None,
    vector: Annotated[str, typer.Option(help="The vector name in the collection.")] = DEFAULT_VECTOR,
    metric: Annotated[Metric, typer.Option(help="How vectors of a .npy are compared.")] = Metric.COSINE,
    n: Annotated[int | None, typer.Option("--n", min=100, help="Vectors.  [default: all, or the shape's own]")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Rows held out as queries.")] = 1_000,
    name: Annotated[str | None, typer.Option(help="Name of the data in the figures.  [default: the source's]")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND[:KEY=VALUE,...]", help="Measure only these; may be repeated.  [default: all]"),
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Rounds; in each all have their turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.001, help="Of one timed pass, about.")] = 0.3,
    threads: Annotated[int, typer.Option(min=1, help="Callers at once; each search uses one thread.")] = 1,
    build_threads: Annotated[int, typer.Option(min=1, help="Threads of a build.")] = 2,
    target: Annotated[float, typer.Option(min=0.01, max=1, help="The recall at which rates are compared.")] = 0.95,
    seed: Annotated[
        int | None, typer.Option(help="Of the shape or the choice of queries.  [default: 7; hubs-256: 1]")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Keeps built indexes for the next run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Append the JSON lines to this file, not to stdout.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the recall/QPS curves.")] = None,
) -> None:
    """Recall@10 and queries per second of every index backend, beside raw hnswlib and raw FAISS in the same run.

    Queries are held-out rows, in batches of 64 and one at a time. All take turns in every round; figures are medians
    with their spread. Rates at a recall are interpolated between the two measured efforts around it.

    \b
    Examples:
      vss bench recall clustered-128 --png curves.png
      vss bench recall hubs-256 --n 100000 --cache bench-cache --out hubs.jsonl
      vss bench recall glove-100-angular.hdf5 --queries 1000
      vss bench recall vectors.npy --metric Dot --backend raw-hnswlib --backend faiss_hnsw:storage=sq8,m=24
      vss bench recall --data vss-data -c docs
    """
    if demo:
        if data or collection:
            raise typer.BadParameter("--demo names a data directory and a collection itself")
        data, collection = DEMO, COLLECTION
    if (source is None) == (collection is None):
        raise typer.BadParameter(f"give one of: a file, a shape ({', '.join(SHAPES)}), --demo, or --data with -c")
    choices = [parse(given) for given in backend] if backend else _all()
    if png is not None:
        check_drawing()
    pin_threads()
    console = Console(stderr=True, highlight=False)
    reporter = bars.reporter(console)
    plan = Plan(repetitions=repetitions, threads=threads, seconds=seconds, target=target)
    with ExitStack() as stack:
        stack.callback(reporter.close)
        seeded = seed if seed is not None else SHAPES[source].seed if source in SHAPES else 7
        report = stack.enter_context(Report("recall", seed=seeded, out=out))
        reporter.phase("read", 1, "")
        if collection is not None:
            found = dataset.collected(
                data or Path("vss-data"), collection, vector, registry.indexers(), n, queries, seeded
            )
        else:
            assert source is not None
            found = _read(source, metric, n, queries, seeded)
        if name is not None:
            found = replace(found, name=name)
        reporter.phase("true neighbours", len(found.queries), "queries")
        found = dataset.with_truth(found, counting(reporter))
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vss-bench-")))
        workshop = Workshop(found, dataset.hash_of(found), folder, build_threads)
        curves = [Curve(one, []) for one in _build(workshop, choices, reporter, console, strict=bool(backend))]
        reporter.phase("recall", len(curves), "indexes")
        for number, curve in enumerate(curves, start=1):
            curve.settled = measured.settle(curve.built, found, target)
            reporter.update(number, number)
        reporter.phase("time", measured.passes(curves, plan), "passes")
        measured.measure(curves, found, plan, counting(reporter))
        measured.write(report, found, curves, plan)
        if png is not None:
            draw_curves(png, found, curves, plan)
        reporter.close()
    console.print(summary(curves, plan, len(found.vectors)))


def _all() -> list[Choice]:
    return [parse(given) for given in (*registry.kinds(), *_MORE, *RAW_KINDS)]


def _read(source: str, metric: Metric, n: int | None, queries: int, seed: int) -> dataset.Dataset:
    if source in SHAPES:
        return dataset.drawn(source, n, queries, seed)
    path = Path(source)
    match path.suffix.lower():
        case ".npy":
            return dataset.from_npy(path, metric, n, queries, seed)
        case ".hdf5" | ".h5":
            if n is not None:
                raise invalid("got --n with an ann-benchmarks file, whose neighbours are of all its vectors", field="n")
            return read_hdf5(path, queries)
    raise invalid(
        f"got {source!r}, wanted a .npy or .hdf5 file, or a shape: {', '.join(SHAPES)}",
        hint="--data and -c measure a collection",
    )


def _build(
    workshop: Workshop, choices: list[Choice], reporter: Reporter, console: Console, *, strict: bool
) -> list[Built]:
    """All that can be built. What was not asked for by name and is not there is left out, and that is said."""
    built = []
    for choice in choices:
        reporter.phase(f"build {choice.name}", len(workshop.data.vectors), "vectors")
        try:
            built.append(workshop.make(choice, counting(reporter)))
        except VssError as error:
            # Not installed, or another metric than it knows.
            if strict or error.code not in {Code.UNAVAILABLE, Code.UNSUPPORTED, Code.INVALID}:
                raise
            console.print(f"{choice.name} is left out: {error}", markup=False, soft_wrap=True)
    return built


def summary(curves: list[Curve], plan: Plan, n: int) -> Table:
    """For people: rates at the target recall, best first."""
    table = Table(
        title=f"queries per second at recall@10 {plan.target:g} (interpolated between measured efforts)",
        caption=f"medians of {plan.repetitions} interleaved rounds; >: at the least effort, whose recall is higher",
    )
    table.add_column("index", no_wrap=True)
    for asked in ASKED:
        table.add_column(f"batch {BATCH}" if asked == "batch" else "single", justify="right")
    for column in ("best recall", "build s", "bytes/pt"):
        table.add_column(column, justify="right")

    def median(curve: Curve) -> float:
        return float(np.median(curve.rate_at(plan.target, "batch") or [0.0]))

    for curve in sorted(curves, key=median, reverse=True):
        built, reach = curve.built, curve.reach(plan.target)
        sign = "> " if reach == "least effort" and len(curve.settled) > 1 else ""
        cells = [
            f"{sign}{np.median(rates):,.0f}" if (rates := curve.rate_at(plan.target, asked)) else "not reached"
            for asked in ASKED
        ]
        size = (built.file_bytes + built.vector_bytes) / n
        table.add_row(
            built.choice.name,
            *cells,
            f"{max(one.recall for one in curve.settled):.3f}",
            f"{built.build_seconds:,.1f}{' (kept)' if built.kept else ''}",
            f"{size:,.0f}",
        )
    return table
