"""HTTP load against a server process: a closed loop as fast as it goes, then an open one at a rate, for each number of
workers and each workload, in several rounds.

The server has cores of its own and the client another one, where there are enough. Each round begins with a fresh
server on a fresh copy of the data, so that no number of workers finds what another has written.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.bench.http_client import request
from api.bench.load_client import run_apart
from api.bench.load_cpu import listeners, resident_bytes
from api.bench.load_figures import figures, latencies
from api.bench.load_loops import Operation, Outcome, Plan
from api.bench.load_workloads import Material, Truth, Workload, remove_fresh
from api.cli.client import Client
from api.demo import process
from vss.errors import Code, VssError, invalid

WARMUP_SECONDS = 0.5
CEILING_SECONDS = 1.0
"""How long the empty reply is asked for: what server, client and loop can do without a search."""

EMPTY = "/livez"

_ASKED = 10
"""Times each worker that all must have said that they are ready: one of N is missed with a chance of e**-10."""

SERVER_PACKAGES = ("msgspec", "starlette", "uvicorn", "uvloop", "httptools", "apsw")


@dataclass(frozen=True, slots=True)
class Rate:
    """Of the open loop: requests/s, or, when `relative`, a part of what the closed loop has just reached."""

    value: float
    relative: bool

    def of(self, reached: float) -> float:
        """Requests/s."""
        return self.value * reached if self.relative else self.value


def parse_rate(given: str) -> Rate:
    """`500` or `0.7x`. VssError (INVALID) for anything else."""
    try:
        value = float(given.removesuffix("x"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise invalid(f"got {given!r}, wanted a number of requests a second or a part", field="--rate", hint="0.7x")
    return Rate(value, given.endswith("x"))


class Cores(NamedTuple):
    """Where the two sides run. server: no core when it is somebody else's."""

    server: tuple[int, ...]
    client: int

    @property
    def apart(self) -> bool:
        """Whether the client has a core of its own."""
        return self.client not in self.server


def choose_cores(
    available: Sequence[int], workers: int, server: Sequence[int] | None = None, client: int | None = None
) -> Cores:
    """What is asked for, else the last core for the client and the first ones, one a worker, for the server.

    Where that would need more cores than there are, the server has them all. VssError (INVALID) for a core not here.
    """
    for core, option in [*((core, "--server-cores") for core in server or ()), (client, "--client-core")]:
        if core is not None and core not in available:
            raise invalid(f"got core {core}, wanted some of {', '.join(map(str, available))}", field=option)
    chosen = available[-1] if client is None else client
    others = [core for core in available if core != chosen]
    if not server:
        server = others[:workers] if workers <= len(others) else available
    return Cores(tuple(server), chosen)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers. pid and workers: None when they are not known; client: the core to ask from."""

    url: str
    pid: int | None
    workers: int | None
    client: int


@dataclass(frozen=True, slots=True)
class Own:
    """Servers that the benchmark starts on copies of a data directory. cores: for each number of workers."""

    data: Path
    models: Sequence[str]
    cores: Mapping[int, Cores]

    @property
    def workers(self) -> list[int | None]:
        """The numbers of workers to measure."""
        return list(self.cores)

    def sides(self, workers: int | None) -> dict[str, Any]:
        """Where both sides run and what the server is made of, as a line says it."""
        cores = self.cores[workers or 1]
        versions = {name: metadata.version(name) for name in SERVER_PACKAGES}
        pins = {"server_cores": cores.server, "client_core": cores.client, "cores_apart": cores.apart}
        return pins | {"server_versions": versions}

    def remarks(self) -> list[str]:
        """What a reader of the figures should know."""
        said = [
            f"with {count} workers the client shares core {cores.client} with the server, which lacks what it uses"
            for count, cores in self.cores.items()
            if not cores.apart
        ]
        if max(self.cores) > 1:
            said.append("the kernel chooses each connection's worker by a hash: few connections may be spread unevenly")
        return said

    @contextmanager
    def serve(self, workers: int | None) -> Iterator[Serving]:
        """A fresh server with so many workers, pinned."""
        count = workers or 1
        cores = self.cores[count]
        copy = self.data.with_name(f"{self.data.name}-{count}")
        settings = {"VSS_MODELS": json.dumps(list(self.models)), "VSS_DRAIN_SECONDS": "0"}
        try:
            shutil.copytree(self.data, copy)
            with ExitStack() as stack:
                with _pinned(cores.server):
                    port = process.choose_port(0)
                    server = process.Server(copy, port, settings, "--workers", str(count), "--no-worker")
                    stack.enter_context(server)
                _await_workers(port, count)
                yield Serving(server.url, server.pid, count, cores.client)
        finally:
            shutil.rmtree(copy, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that somebody else has started, wherever it runs. pid: of its first process, if it runs here."""

    url: str
    pid: int | None
    client: int

    @property
    def workers(self) -> list[int | None]:
        """It has as many as it has."""
        return [None]

    def sides(self, workers: int | None) -> dict[str, Any]:
        """Where the client runs; the server runs where it was put."""
        return {"client_core": self.client}

    def remarks(self) -> list[str]:
        """What a reader of the figures should know."""
        said = ["the server is not pinned: whoever started it decides where it runs"]
        return said if self.pid else [*said, "without --pid the server's CPU is not read"]

    @contextmanager
    def serve(self, workers: int | None) -> Iterator[Serving]:
        """That server."""
        yield Serving(self.url, self.pid, None, self.client)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much is asked. most: requests of one loop, which ends after `seconds` or so many."""

    connections: int
    seconds: float
    most: int
    rate: Rate
    repetitions: int
    seed: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One loop of one round.

    loop:   closed, open, or ceiling (the empty reply)
    values: as `figures` has them, the server's memory, the rate asked for and the recall
    """

    loop: str
    workload: str
    workers: int | None
    values: dict[str, Any]
    latencies: NDArray[np.float64]


def measure(
    place: Own | Running,
    workloads: Sequence[Workload],
    material: Material,
    bounds: Bounds,
    say: Callable[[str], None],
) -> list[Measured]:
    """All loops of all rounds; each round begins with another number of workers than the round before.

    Workloads that write come last, as they change what is searched. VssError (UNAVAILABLE) when nothing is answered.
    """
    found: list[Measured] = []
    ordered = sorted(workloads, key=lambda work: work.writes)
    for number in range(bounds.repetitions):
        turn = number % len(place.workers)
        for count in place.workers[turn:] + place.workers[:turn]:
            with place.serve(count) as serving, Client(serving.url, Path()) as client:
                side = _Side(serving, bounds, number)
                found.append(side.ceiling())
                for work in ordered:
                    try:
                        found += side.load(work, Truth(client, work, material))
                    finally:
                        if work.writes and isinstance(place, Running):
                            remove_fresh(client, material)
                    say(f"round {number + 1} of {bounds.repetitions}: {_shown(*found[-2:])}")
    return found


def _shown(closed: Measured, opened: Measured) -> str:
    reached, asked = closed.values["per_second"], opened.values["rate"]
    by = "" if closed.workers is None else f"{closed.workers} workers, "
    return f"{by}{closed.workload}: {reached:,.0f}/s; p99 {opened.values['p99_ms']:.2f} ms at {asked:,.0f}/s"


class _Side:
    """The client's side of one server in one round."""

    def __init__(self, serving: Serving, bounds: Bounds, number: int) -> None:
        self._serving = serving
        self._bounds = bounds
        self._seed = bounds.seed + number
        self._host, self._port = address(serving.url)
        self._key = os.environ.get("VSS_API_KEY")

    def ceiling(self) -> Measured:
        """What the empty reply reaches."""
        operation = Operation(name="empty", requests=[request("GET", EMPTY, self._host)])
        plan = self._plan([operation], seconds=min(CEILING_SECONDS, self._bounds.seconds))
        return self._measured("ceiling", EMPTY, plan, run_apart(plan))

    def load(self, work: Workload, truth: Truth) -> list[Measured]:
        """The closed loop, then the open one."""
        operations = work.operations(self._host, self._key)
        plan = self._plan(operations, seconds=self._bounds.seconds)
        outcome = run_apart(plan)
        closed = self._measured("closed", work.name, plan, outcome, truth.recall(outcome.samples))
        rate = self._bounds.rate.of(closed.values["per_second"])
        plan = msgspec.structs.replace(plan, rate=rate)
        outcome = run_apart(plan)
        return [closed, self._measured("open", work.name, plan, outcome, truth.recall(outcome.samples))]

    def _plan(self, operations: list[Operation], seconds: float) -> Plan:
        return Plan(
            host=self._host,
            port=self._port,
            operations=operations,
            connections=self._bounds.connections,
            seconds=seconds,
            most=self._bounds.most,
            seed=self._seed,
            warmup=min(WARMUP_SECONDS, seconds / 4),
            core=self._serving.client,
            server=self._serving.pid,
        )

    def _measured(self, loop: str, work: str, plan: Plan, outcome: Outcome, recall: float | None = None) -> Measured:
        values = figures(plan, outcome)
        if not values["requests"]:
            raise VssError(
                Code.UNAVAILABLE,
                f"no request of {work} was answered with success: {values['failures']}",
                hint="the server's log says why",
            )
        if plan.rate is not None:
            values["rate"] = plan.rate
        if plan.server is not None:
            values["server_resident_mib"] = resident_bytes(plan.server) / 2**20
        if recall is not None:
            values["recall@10"] = recall
        return Measured(loop, work, self._serving.workers, values, latencies(outcome))


def address(url: str) -> tuple[str, int]:
    """Host and port of a server. VssError (INVALID) when the raw client cannot speak to it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme != "http" or not host or parts.path not in ("", "/"):
        raise invalid(f"got the URL {url!r}, wanted http://host:port", field="--url", hint="without TLS or a path")
    return host, port or 80


def _await_workers(port: int, count: int) -> None:
    """The first process is ready before the others listen, and would get all connections; so they are waited for.

    Which process answers a connection is the kernel's choice: all are ready when many fresh ones say so in a row.
    """
    until = time.monotonic() + process.READY_SECONDS
    in_a_row = 0
    while in_a_row < _ASKED * count:
        if time.monotonic() > until:
            raise VssError(Code.UNAVAILABLE, f"some of {count} workers are not ready", hint="the server's log says why")
        if listeners(port) < count or not _ready(port):
            in_a_row = 0
            time.sleep(0.05)
        else:
            in_a_row += 1


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """What is started meanwhile has these cores, and makes no threads for others."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
