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
from api.bench.dataset import Dataset
from api.bench.filtered import BITMAP, CASES, KNOWN, NEW, UNFILTERED, Case, Measured
from api.bench.pinning import pin_threads
from api.bench.registry import check_drawing, draw_filters
from api.bench.report import Report
from api.bench.shapes import SHAPES
from api.cli import bars, registry
from api.cli.options import DEFAULT_DATA
from indexers.raw.library import RawFiltered
from indexers.raw.registry import library
from vss.schema import DEFAULT_VECTOR
from vss.search.plan import Method
from vss.storage.collection import Collection
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
      vss bench filter --data vss-data -c docs
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
    indexers = registry.indexers()
    with ExitStack() as stack:
        stack.callback(reporter.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vss-bench-")))
        seeded = seed if seed is not None else SHAPES[source].seed if source in SHAPES else 7
        report = stack.enter_context(Report("filter", seed=seeded, out=out))
        reporter.phase("read", 1, "")
        found = _read(source, data, collection, vector, metric, n, queries, seeded)
        found = dataset.with_truth(replace(found, name=name or found.name), counting(reporter))
        payloads = filtered.payloads_for(found, seeded)
        reporter.phase(f"build {_RAW}", len(found.vectors), "vectors")
        raw_library = library(_RAW)
        (folder / "raw").mkdir()
        raw_library.build(
            found.vectors, found.metric, folder / "raw", threads=build_threads, progress=counting(reporter)
        )
        raw = raw_library.open(folder / "raw", found.metric, found.vectors.shape[1])
        assert isinstance(raw, RawFiltered)
        reporter.phase(f"build {kind}", len(found.vectors), "vectors")
        (folder / "collection").mkdir()
        filled = Collection(folder / "collection", filtered.schema_of(found, kind), indexers)
        stack.callback(filled.close)
        view = filtered.filled(filled, found, payloads, kind, build_threads, counting(reporter))
        efforts = filtered.settled(view, raw, found, target)
        taken: list[tuple[Case, Measured]] = []
        reporter.phase("filters", len(cases), "shapes")
        for number, case in enumerate(cases, start=1):
            measured = filtered.measure(view, found, payloads, raw, efforts, case, seeded)
            filtered.write(report, found, case, measured, efforts)
            taken.append((case, measured))
            reporter.update(number, number)
        if png is not None:
            shape = f"{len(found.vectors):,} x {found.vectors.shape[1]}"
            draw_filters(png, f"{found.name}: {shape}, {len(found.queries)} queries, one thread", taken)
        reporter.close()
    console.print(_table(taken))


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
    for column in ("filter", "match", UNFILTERED, NEW, KNOWN, *(f"{one.value} alone" for one in Method), BITMAP):
        table.add_column(column, justify="left" if column == "filter" else "right")
    for row in filtered.cells(found):
        table.add_row(*row)
    return table
