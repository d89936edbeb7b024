"""`vss bench load`: HTTP load, closed and open loop, against servers that it starts or one that runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from api.bench import dataset, load_material, load_report
from api.bench.load import Bounds, Own, Running, address, choose_cores, measure, parse_rate
from api.bench.load_cpu import cpu_seconds
from api.bench.load_workloads import OPERATIONS, parse_mix, workload
from api.bench.registry import check_drawing, draw_latencies
from api.bench.report import Report
from api.cli.client import Client
from vss.errors import invalid
from vss.types import Metric

WIDTH = 120
"""Columns of the table where there is no terminal to ask."""


def load(
    url: Annotated[str | None, typer.Option(help="A server that runs; without it servers are started.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Of that server.")] = None,
    pid: Annotated[int | None, typer.Option(help="Process of that server, if it runs here: its CPU is read.")] = None,
    workers: Annotated[str, typer.Option(metavar="N,N", help="Readers of the servers that are started.")] = "1",
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of the disk to measure; a scratch folder in it comes and goes.  [default: TMPDIR]"),
    ] = None,
    npy: Annotated[
        Path | None, typer.Option(help="Vectors to store and to ask for; with --url only to ask for.")
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Metric for the vectors of --npy.")] = Metric.COSINE,
    shape: Annotated[str, typer.Option(help="Vectors to make without --npy.")] = "clustered-128",
    points: Annotated[int, typer.Option(min=1_000, help="How many to make.")] = 20_000,
    texts: Annotated[
        Path | None, typer.Option(help="Texts of the operation text: one a line, or .jsonl with a field text.")
    ] = None,
    model: Annotated[str, typer.Option(help="Embedder of the texts, for servers that are started.")] = "hashing",
    condition: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Filter of the operation filter, with --url.")
    ] = None,
    operation: Annotated[
        list[str] | None, typer.Option("--operation", "-o", help=f"{', '.join(OPERATIONS)}; repeat it for several.")
    ] = None,
    mix: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PART,...", help="A load of several, like query=0.9,upsert=0.1.")
    ] = None,
    queries: Annotated[
        int, typer.Option(min=20, help="Rows that are held out: half to ask for, half to write.")
    ] = 2_000,
    connections: Annotated[int, typer.Option(min=1, max=1_000, help="That ask at the same time.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.1, max=3_600, help="Length of one loop.")] = 5.0,
    requests: Annotated[int, typer.Option(min=1, help="Requests of one loop at most.")] = 200_000,
    rate: Annotated[
        str, typer.Option(help="Requests/s of the open loop; with x a part of what the closed one reached.")
    ] = "0.7x",
    repetitions: Annotated[int, typer.Option(min=1, help="Rounds; in each every load has its turn.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of made-up vectors and texts, and of who asks what.")] = 7,
    server_cores: Annotated[
        str | None, typer.Option(metavar="N,N", help="[default: the first ones, one a worker]")
    ] = None,
    client_core: Annotated[int | None, typer.Option(help="[default: the last one]")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the lines.  [default: stdout]")] = None,
    png: Annotated[Path | None, typer.Option(help="Picture of the latencies, by percentile.")] = None,
) -> None:
    """Ask a server over HTTP as fast as it answers, then at a set rate.

    The second counts latency from when a request was due, whether or not a connection was free: a stall of the server
    hurts all requests of that time, and shows. Recall stands beside speed, client's and server's CPU too.

    \b
    Examples:
      vss bench load --npy vectors.npy --workers 1,2
      vss bench load -o query -o filter --mix query=0.9,upsert=0.1 --rate 500 --png latency.png
      vss bench load --url http://127.0.0.1:6333 --collection docs --pid 4711
    """
    if png is not None:
        check_drawing()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    bounds = Bounds(
        connections=connections,
        seconds=seconds,
        most=requests,
        rate=parse_rate(rate),
        repetitions=repetitions,
        seed=seed,
    )
    weights = [parse_mix(f"{one}=1") for one in operation or ([] if mix else ["query"])]
    weights += [parse_mix(one) for one in mix or ()]
    pins = {
        count: choose_cores(
            sorted(os.sched_getaffinity(0)), count, _numbers(server_cores, "--server-cores"), client_core
        )
        for count in _numbers(workers, "--workers") or (1,)
    }
    known = load_material.read_texts(texts) if texts else []
    given = dataset.from_npy(npy, metric, None, queries, seed) if npy else None
    with (
        Report("load", seed=seed, out=out) as report,
        tempfile.TemporaryDirectory(prefix="vss-bench-", dir=data) as folder,
    ):
        place: Own | Running
        if url is not None:
            if collection is None:
                raise invalid("got --url without --collection", field="--collection", hint="name one of that server")
            address(url)
            if pid is not None:
                cpu_seconds(pid)
            with Client(url, Path()) as client:
                material = load_material.served(
                    client, collection, None if given is None else given.queries, known, _filter(condition)
                )
            place = Running(url, pid, pins[min(pins)].client)
            shown: dict[str, Any] = {"data": collection}
        else:
            if collection is not None or pid is not None or condition is not None:
                raise invalid("got --collection, --pid or --filter without --url", hint="they are of a running server")
            drawn = given or dataset.drawn(shape, points, queries, seed)
            at = Path(folder) / "data"
            material = load_material.store(at, drawn.vectors, drawn.queries, drawn.metric)
            models = []
            if any("text" in one for one in weights):
                material = load_material.store_texts(at, known or load_material.made_texts(seed), model, seed, material)
                models = [model]
            place = Own(at, models, pins)
            shown = {"data": drawn.name, "points": len(drawn.vectors)}
        shown |= {"dim": material.queries.shape[1], "metric": material.metric.value}
        shown |= {"queries": "held out" if material.held_out else "stored"}
        shown |= {"connections": connections, "loop_seconds": seconds}
        for remark in place.remarks():
            console.print(remark, markup=False)
        works = [workload(one, material) for one in weights]
        found = measure(place, works, material, bounds, lambda said: console.print(said, markup=False))
        for line in load_report.lines(found):
            report.write(**line, **shown, **place.sides(line["workers"]))
    if not console.is_terminal:
        console.width = WIDTH
    console.print(load_report.table(found))
    if png is not None:
        draw_latencies(png, found)


def _numbers(given: str | None, option: str) -> list[int] | None:
    """`1,2` as a list."""
    if given is None:
        return None
    try:
        return [int(one) for one in given.split(",")]
    except ValueError:
        raise invalid(f"got {given!r}, wanted numbers with commas", field=option, hint="like 0,1") from None


def _filter(given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    try:
        return msgspec.json.decode(given, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise invalid(f"got {given!r}, which is no JSON object: {error}", field="--filter") from error
