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

from api.bench import dataset, filtered
from api.bench.counting import counting
from api.bench.filtered import BITMAP, CASES, KNOWN, NEW, UNFILTERED, Case, Measured
from api.bench.pinning import pin_threads
from api.bench.registry import check_drawing, draw_filters
from api.bench.report import Report
from api.bench.shapes import SHAPES
from api.cli import bars, registry
from indexers.raw.library import RawFiltered
from indexers.raw.registry import library
from vss.search.plan import Method
from vss.storage.collection import Collection
from vss.types import Metric

_RAW = "raw-faiss-hnsw"


def filter_(
    source: Annotated[str, typer.Argument(help=f"A .npy file, or a made-up shape: {', '.join(SHAPES)}.")],
    metric: Annotated[Metric, typer.Option(help="How vectors of a .npy are compared.")] = Metric.COSINE,
    n: Annotated[
        int | None, typer.Option("--n", min=1_000, help="Vectors.  [default: all, or the shape's own]")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Rows held out as queries, each with filters of its own.")] = 500,
    name: Annotated[str | None, typer.Option(help="Name of the data in the figures.  [default: the source's]")] = None,
    kind: Annotated[str, typer.Option("--index", help="The index of the collection.")] = "auto",
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only these shapes of filters; may be repeated.")
    ] = None,
    target: Annotated[float, typer.Option(min=0.01, max=1, help="Unfiltered recall that sets the efforts.")] = 0.95,
    build_threads: Annotated[int, typer.Option(min=1, help="Threads of a build.")] = 2,
    seed: Annotated[int | None, typer.Option(help="Of the data, its payloads and the filters.")] = None,
    out: Annotated[Path | None, typer.Option(help="Append the JSON lines to this file, not to stdout.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw time and recall.")] = None,
) -> None:
    """Recall@10 and time under filters: when a filter is new, when it is known, by each plan alone, and by raw FAISS.

    One thread, one query at a time. Efforts are the least ones with the target recall when nothing is filtered. Times
    stand beside those of raw FAISS HNSW (M=16, efConstruction=200) without a filter.

    \b
    Examples:
      vss bench filter clustered-128 --n 100000 --png filters.png
      vss bench filter vectors.npy --metric Cosine --only 10% --only "full text"
    """
    cases = [case for case in CASES if only is None or case.name in only]
    if not cases:
        raise typer.BadParameter(f"wanted one of {', '.join(case.name for case in CASES)}", param_hint="--only")
    if png is not None:
        check_drawing()
    pin_threads()
    console = Console(stderr=True, highlight=False)
    reporter = bars.reporter(console)
    indexers = registry.indexers()
    with ExitStack() as stack:
        stack.callback(reporter.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vss-bench-")))
        seeded = seed if seed is not None else SHAPES[source].seed if source in SHAPES else 7
        report = stack.enter_context(Report("filter", seed=seeded, out=out))
        reporter.phase("read", 1, "")
        data = (
            dataset.drawn(source, n, queries, seeded)
            if source in SHAPES
            else dataset.from_npy(Path(source), metric, n, queries, seeded)
        )
        data = dataset.with_truth(replace(data, name=name or data.name), counting(reporter))
        payloads = filtered.payloads_for(data, seeded)
        reporter.phase(f"build {_RAW}", len(data.vectors), "vectors")
        raw_library = library(_RAW)
        (folder / "raw").mkdir()
        raw_library.build(data.vectors, data.metric, folder / "raw", threads=build_threads, progress=counting(reporter))
        raw = raw_library.open(folder / "raw", data.metric, data.vectors.shape[1])
        assert isinstance(raw, RawFiltered)
        reporter.phase(f"build {kind}", len(data.vectors), "vectors")
        (folder / "collection").mkdir()
        collection = Collection(folder / "collection", filtered.schema_of(data, kind), indexers)
        stack.callback(collection.close)
        view = filtered.filled(collection, data, payloads, kind, build_threads, counting(reporter))
        efforts = filtered.settled(view, raw, data, target)
        found: list[tuple[Case, Measured]] = []
        reporter.phase("filters", len(cases), "shapes")
        for number, case in enumerate(cases, start=1):
            measured = filtered.measure(view, data, payloads, raw, efforts, case, seeded)
            filtered.write(report, data, case, measured, efforts)
            found.append((case, measured))
            reporter.update(number, number)
        if png is not None:
            shape = f"{len(data.vectors):,} x {data.vectors.shape[1]}"
            draw_filters(png, f"{data.name}: {shape}, {len(data.queries)} queries, one thread", found)
        reporter.close()
    console.print(_table(found))


def _table(found: list[tuple[Case, Measured]]) -> Table:
    """For people."""
    table = Table(
        title="median microseconds (times raw FAISS without a filter), recall@10",
        caption="one thread, one query at a time",
    )
    for column in ("filter", "match", UNFILTERED, NEW, KNOWN, *(f"{one.value} alone" for one in Method), BITMAP):
        table.add_column(column, justify="left" if column == "filter" else "right")
    for row in filtered.cells(found):
        table.add_row(*row)
    return table
