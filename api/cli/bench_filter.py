"""`vss bench filter`: filters of many shapes, beside raw FAISS and with each plan forced."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from api.bench import dataset, filter_cases, filtered, filtered_http, filtered_store
from api.bench.built import Workshop
from api.bench.counting import counting
from api.bench.dataset import Dataset
from api.bench.filter_cases import CASES, Case
from api.bench.filtered import UNFILTERED, Measured, ways_of
from api.bench.pinning import pin_threads
from api.bench.registry import check_drawing, draw_filters
from api.bench.report import Report, spread
from api.bench.shapes import SHAPES
from api.cli import bars, registry
from api.cli.options import DEFAULT_DATA
from indexers.raw.library import RawFiltered
from vss.jobs.progress import Reporter
from vss.schema import DEFAULT_VECTOR
from vss.types import Metric

_RAW = "raw-faiss-hnsw"


def filter_(
    source: Annotated[str | None, typer.Argument(help=f"A .npy file, or a made-up shape: {', '.join(SHAPES)}.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The data directory of --collection.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Its vectors are measured.")] = None,
    vector: Annotated[str, typer.Option(help="The vector name in the collection.")] = DEFAULT_VECTOR,
    metric: Annotated[Metric, typer.Option(help="How vectors of a .npy are compared.")] = Metric.COSINE,
    n: Annotated[
        int | None, typer.Option("--n", min=1_000, help="Vectors.  [default: all, or the shape's own]")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Rows held out as queries, each with filters of its own.")] = 500,
    name: Annotated[str | None, typer.Option(help="Name of the data in the figures.  [default: the source's]")] = None,
    payloads: Annotated[
        Path | None, typer.Option(help="JSON lines, an object for each row of a .npy: its tags, text and section.")
    ] = None,
    kind: Annotated[str, typer.Option("--index", help="The index of the collection.")] = "auto",
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only these shapes of filters; may be repeated.")
    ] = None,
    target: Annotated[float, typer.Option(min=0.01, max=1, help="Unfiltered recall that sets the efforts.")] = 0.95,
    http: Annotated[bool, typer.Option("--http", help="Ask a server of its own too.")] = False,
    build_threads: Annotated[int, typer.Option(min=1, help="Threads of a build.")] = 2,
    cache: Annotated[Path | None, typer.Option(help="Keeps what is built for the next run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the data, its payloads and the filters.")] = None,
    out: Annotated[Path | None, typer.Option(help="Append the JSON lines to this file, not to stdout.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw time and recall.")] = None,
) -> None:
    """Recall@10 and time under filters: new, again, when a filter is hot, by each plan alone, and by raw FAISS.

    One thread, one query at a time. Efforts are the least ones with the target recall when nothing is filtered. Times
    stand beside those of raw FAISS HNSW (M=16, efConstruction=200) without a filter. Each shape is held to bars of its
    own: recall .95; new filters 4 times and hot ones (asked until their rows were gathered, or 256 times) twice FAISS's
    time; one that comes again 1.3 times that of the fastest plan that reaches .95 alone; over HTTP 3 times a query
    without a filter.

    \b
    Examples:
      vss bench filter clustered-128 --n 100000 --png filters.png
      vss bench filter vectors.npy --payloads items.jsonl --metric Cosine --only 10% --only "full text"
      vss bench filter --data vss-data -c docs --http
    """
    if (source is None) == (collection is None):
        raise typer.BadParameter(f"give one of: a file, a shape ({', '.join(SHAPES)}), or --data with -c")
    cases = [case for case in CASES if only is None or case.name in only]
    if not cases:
        raise typer.BadParameter(f"wanted one of {', '.join(case.name for case in CASES)}", param_hint="--only")
    if png is not None:
        check_drawing()
    pin_threads()
    console = Console(stderr=True, highlight=False)
    reporter = bars.reporter(console)
    with ExitStack() as stack:
        stack.callback(reporter.close)
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vss-bench-")))
        seeded = seed if seed is not None else SHAPES[source].seed if source in SHAPES else 7
        report = stack.enter_context(Report("filter", seed=seeded, out=out))
        reporter.phase("read", 1, "")
        found = _read(source, data, collection, vector, metric, n, queries, seeded)
        found = dataset.with_truth(replace(found, name=name or found.name), counting(reporter))
        given = filter_cases.payloads_for(found, seeded, payloads)
        shapes = {case: filter_cases.drawn(case, found.queries, given, seeded) for case in cases}
        workshop = Workshop(found, dataset.hash_of(found), folder, build_threads)
        reporter.phase(f"build {_RAW}", len(found.vectors), "vectors")
        raw = workshop.raw(_RAW, counting(reporter))
        assert isinstance(raw, RawFiltered)
        reporter.phase(f"build {kind}", len(found.vectors), "vectors")
        stored = filtered_store.stored(
            folder, found, workshop.data_hash, given, kind, build_threads, counting(reporter)
        )
        reporter.phase("true neighbours", len(found.queries), "queries")
        with filtered_store.opened(stored) as view:
            asked = filtered.truths(view, found, shapes, counting(reporter))
        with filtered_store.opened(stored) as view:
            efforts = filtered.settled(view, raw, found, target)
            taken = [(case, Measured()) for case in cases]
            reporter.phase("filters", len(cases), "shapes")
            for number, case in enumerate(cases):
                taken[number] = case, filtered.measure(view, found, asked[case], raw, efforts)
                filtered.write(report, found, *taken[number], efforts)
                reporter.update(number + 1, number + 1)
        if http:
            _over_http(report, reporter, stored, found, asked, taken, efforts)
        if png is not None:
            shape = f"{len(found.vectors):,} x {found.vectors.shape[1]}"
            draw_filters(png, f"{found.name}: {shape}, {len(found.queries)} queries, one thread", taken)
        reporter.close()
    console.print(_table(taken))


def _over_http(
    report: Report,
    reporter: Reporter,
    stored: Path,
    data: Dataset,
    asked: dict[Case, filtered.Drawn],
    taken: list[tuple[Case, Measured]],
    efforts: filtered.Efforts,
) -> None:
    reporter.phase("over HTTP", len(taken), "shapes")
    with filtered_http.served(stored) as place:
        for number, (case, measured) in enumerate(taken, start=1):
            times = filtered_http.measure(place, data, asked[case], efforts)
            measured.http = filtered_http.over(times)
            for way, values in times.items():
                report.write(case.name, way=f"HTTP, {way}", data=data.name, queries=len(values), us=spread(values))
            filtered.write_bars(report, data, case, measured)
            reporter.update(number, number)


def _read(
    source: str | None,
    data: Path | None,
    collection: str | None,
    vector: str,
    metric: Metric,
    n: int | None,
    queries: int,
    seed: int,
) -> Dataset:
    if collection is not None:
        return dataset.collected(data or DEFAULT_DATA, collection, vector, registry.indexers(), n, queries, seed)
    assert source is not None
    if source in SHAPES:
        return dataset.drawn(source, n, queries, seed)
    return dataset.from_npy(Path(source), metric, n, queries, seed)


def _table(found: list[tuple[Case, Measured]]) -> Table:
    """For people."""
    table = Table(
        title="median microseconds (times raw FAISS without a filter), recall@10",
        caption="one thread, one query at a time",
    )
    ways = ways_of(found[0][1])
    for column in ("filter", "match", UNFILTERED, *ways, "bars that are missed"):
        table.add_column(column, justify="left" if column == "filter" else "right")
    for row in filtered.cells(found):
        table.add_row(*row)
    return table
