"""What writing costs those who search, and what is left of an index when all of it was replaced many times.

searched_while_written  queries/s of a closed loop while points are upserted at a part of what upserts alone reach, and
                        without; a reader, the writer and the worker are processes of one real server
replaced                every point written again with another vector, many times: recall and disk beside a fresh import
"""

from __future__ import annotations

import itertools
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from api.bench.dataset import Dataset, K
from api.bench.durable import BATCH, PAYLOAD
from api.bench.http_client import request
from api.bench.importing import import_vectors
from api.bench.load_client import run_apart
from api.bench.load_figures import figures, latencies, percentiles
from api.bench.load_loops import Operation, Outcome, Plan
from api.bench.report import Report, ratios, rounds, spread
from api.demo.process import Server, choose_port
from indexers.registry import INDEXERS
from vss.cores import usable_cores
from vss.defaults import KEEP, MAX_UNINDEXED
from vss.distance import exact_search
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs.collect import collect
from vss.jobs.remote import JobWriter
from vss.recall import recall_by_score
from vss.search.retrieve import search
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.storage.manifest import Manifest, artifacts_of
from vss.storage.merge import due, live_rows, survey
from vss.storage.publish import until_published
from vss.storage.staging import live_folders
from vss.types import Metric, Progress, Scores, Vectors

NAME = "points"

SHARE = 0.2
"""Part of the solo maximum at which points are upserted while others search. The maximum is that of as many seconds:
what comes first costs less than what goes on beside sealing and folding."""

WRITING = 2
"""Connections that upsert."""

CHECK_SECONDS = 0.05
"""Between two queries whose answers are compared with the truth."""

EFFORTS = (16, 32, 64, 128)

ATTEMPTS = 20

AT_ONCE = MAX_UNINDEXED // 4 // BATCH
"""Requests that replace points before it is asked again whether too many wait for an index."""

WAIT_SECONDS = 600.0
"""How long the worker may take for what is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """connections: of the queries; seconds: of each loop; repetitions: rounds of both loops."""

    connections: int = 16
    seconds: float = 20.0
    repetitions: int = 3


def searched_while_written(
    report: Report, data: Dataset, scratch: Path, load: Load, seed: int, progress: Progress
) -> None:
    """Points are replaced by points of the same vector, so that the true neighbours stay known all the time."""
    folder, kind = scratch / "churn", "auto"
    np.save(scratch / "churn.npy", data.vectors)
    import_vectors(DataDir(folder), NAME, scratch / "churn.npy", data.metric, kind, usable_cores())
    truth = exact_search(data.queries, data.vectors, K, data.metric).scores
    outcomes: dict[str, list[tuple[Plan, Outcome]]] = {"static": [], "written": []}
    recalls: dict[str, list[float]] = {"static": [], "written": []}
    writes: list[dict[str, Any]] = []
    with _served(folder) as server:
        host = server.url.removeprefix("http://")
        bodies = [request("PUT", f"/collections/{NAME}/points?wait=true", host, one) for one in _bodies(data.vectors)]
        asked = [
            request("POST", f"/collections/{NAME}/points/query", host, msgspec.json.encode(_question(one)))
            for one in data.queries
        ]

        def plan(requests: Sequence[bytes], connections: int, seconds: float, rate: float | None = None) -> Plan:
            name, port = host.split(":")
            return Plan(
                host=name,
                port=int(port),
                operations=[Operation(name="all", requests=list(requests))],
                connections=connections,
                seconds=seconds,
                most=1 << 30,
                seed=seed,
                rate=rate,
                warmup=min(1.0, seconds / 4) if rate is None else 0.0,
                server=server.pid,
            )

        # A client is given no more than it will send: reading all would take from those who are measured meanwhile.
        turns = itertools.cycle(bodies)
        writing = plan(bodies, WRITING, load.seconds)
        solo = figures(writing, run_apart(writing))["per_second"]
        progress(1)

        def one(written: bool) -> float:
            _fold(folder)
            case = "written" if written else "static"
            reading = plan(asked, load.connections, load.seconds)
            with ThreadPoolExecutor(2) as pool, _checking(server, data, truth) as found:
                if written:
                    seconds = load.seconds + reading.warmup
                    some = list(itertools.islice(turns, math.ceil(SHARE * solo * seconds)))
                    upserting = plan(some, WRITING, seconds, SHARE * solo)
                    other = pool.submit(run_apart, upserting)
                outcome = pool.submit(run_apart, reading).result()
                if written:
                    writes.append(figures(upserting, other.result()))
            outcomes[case].append((reading, outcome))
            recalls[case].append(recall_by_score(np.concatenate(found), truth[np.arange(len(found)) % len(truth)]))
            return float(figures(reading, outcome)["per_second"])

        rates = rounds({"static": lambda: one(False), "written": lambda: one(True)}, load.repetitions, progress)
        generation = _fold(folder).generation
    p99 = {case: [percentiles(latencies(outcome))["p99_ms"] for _, outcome in made] for case, made in outcomes.items()}
    report.write(
        "searched_while_written",
        data=data.name,
        n=len(data.vectors),
        dim=data.vectors.shape[1],
        metric=data.metric.value,
        connections=load.connections,
        seconds=load.seconds,
        repetitions=load.repetitions,
        solo_upserts_per_s=round(solo * BATCH, 1),
        upserts_per_s=spread([one["per_second"] * BATCH for one in writes]),
        upserts_p99_ms=spread([one["p99_ms"] for one in writes]),
        upserts_failed=[one["failures"] for one in writes],
        static_per_s=spread(rates["static"]),
        written_per_s=spread(rates["written"]),
        ratio=ratios(rates["written"], rates["static"]),
        static_p99_ms=spread(p99["static"]),
        written_p99_ms=spread(p99["written"]),
        p99_ratio=ratios(p99["written"], p99["static"]),
        static_recall=spread(recalls["static"]),
        written_recall=spread(recalls["written"]),
        server_cpu_s_by_role={
            case: {role: round(seconds, 2) for role, seconds in made[-1][1].server_cpu.items()}
            for case, made in outcomes.items()
        },
        generations=generation,
    )
    shutil.rmtree(folder)


def replaced(
    report: Report, states: Sequence[Vectors], data: Dataset, scratch: Path, seed: int, progress: Progress
) -> None:
    """states: `(n, dim)` vectors of the same points, one after the other; the last of them are `data.vectors`.

    bytes: of the fresh import's collection; of the files that the current generation names; of the collection when
    garbage was collected, with one generation kept (as the import has) and with the default number.
    """
    folder, fresh = scratch / "replaced", scratch / "fresh"
    np.save(scratch / "replaced.npy", data.vectors)
    began = time.perf_counter()
    import_vectors(DataDir(fresh), NAME, scratch / "replaced.npy", data.metric, "auto", usable_cores())
    import_seconds = time.perf_counter() - began
    progress(1)
    began = time.perf_counter()
    with _served(folder) as server:
        host = server.url.removeprefix("http://")
        made = {"vectors": {"size": data.vectors.shape[1], "distance": data.metric.value}}
        httpx.put(f"{server.url}/collections/{NAME}", json=made, trust_env=False).raise_for_status()
        random = np.random.default_rng(seed)
        for state in states:
            order = random.permutation(len(state))
            bodies = [
                request("PUT", f"/collections/{NAME}/points?wait=true", host, one)
                for one in _bodies(state, order, payload=False)
            ]
            name, port = host.split(":")
            for start in range(0, len(bodies), AT_ONCE):
                some = bodies[start : start + AT_ONCE]
                plan = Plan(
                    host=name,
                    port=int(port),
                    operations=[Operation(name="upsert", requests=some)],
                    connections=WRITING,
                    seconds=WAIT_SECONDS,
                    most=len(some),
                    seed=seed,
                )
                _wait_while(lambda: _backlog(folder) > MAX_UNINDEXED // 2, time.monotonic() + WAIT_SECONDS)
                outcome = figures(plan, run_apart(plan))
                if outcome["failures"]:
                    raise VssError(Code.UNAVAILABLE, f"upserts were refused: {outcome['failures']}")
            progress(1)
        seconds = time.perf_counter() - began
        until = time.monotonic() + WAIT_SECONDS
        _wait_while(lambda: _due(folder), until)
        manifest = _fold(folder)
        target = DataDir(folder)
        # A fold of the worker that this one was faster than holds on to what it reads until it notices.
        _wait_while(lambda: _held(target, manifest.collection), until)
        collect(target, manifest.collection, JobWriter(target), keep=KEEP)
        kept = _disk(target.collection(manifest.collection))
        collect(target, manifest.collection, JobWriter(target), keep=1)
    alone = _disk(target.collection(manifest.collection))
    named = sum(one.bytes for one in artifacts_of(manifest))
    truth = exact_search(data.queries, data.vectors, K, data.metric).scores
    churned, built = _recalls(folder, data, truth), _recalls(fresh, data, truth)
    whole = _disk(fresh / "collections")
    report.write(
        "replaced",
        data=data.name,
        n=len(data.vectors),
        dim=data.vectors.shape[1],
        metric=data.metric.value,
        times=len(states) - 1,
        upserts_per_s=round(sum(map(len, states)) / seconds, 1),
        import_seconds=round(import_seconds, 2),
        index=sorted({one.index.kind for segment in manifest.segments for one in segment.vectors.values()}),
        segments=[{"points": live_rows(one), "deleted": one.deleted} for one in manifest.segments],
        generations=manifest.generation,
        recall=churned,
        fresh_recall=built,
        recall_difference={effort: round(churned[effort] - built[effort], 4) for effort in churned},
        fresh_bytes=whole,
        bytes={"current_generation": named, "kept_1": alone, f"kept_{KEEP}": kept},
        bytes_ratio={
            "current_generation": round(named / whole, 4),
            "kept_1": round(alone / whole, 4),
            f"kept_{KEEP}": round(kept / whole, 4),
        },
    )
    shutil.rmtree(folder)
    shutil.rmtree(fresh)


def _question(query: Vectors) -> dict[str, Any]:
    return {"query": query.tolist(), "limit": K}


def _bodies(vectors: Vectors, order: np.ndarray | None = None, *, payload: bool = True) -> Iterator[bytes]:
    """Upserts of `BATCH` points each; the ids are row numbers."""
    order = np.arange(len(vectors)) if order is None else order
    more = {"payload": msgspec.Raw(PAYLOAD)} if payload else {}
    for start in range(0, len(vectors), BATCH):
        rows = order[start : start + BATCH]
        points = zip(rows.tolist(), vectors[rows].tolist(), strict=True)
        yield msgspec.json.encode({"points": [{"id": row, "vector": vector} | more for row, vector in points]})


@contextmanager
def _served(folder: Path) -> Iterator[Server]:
    """A writer, a reader and the worker."""
    folder.mkdir(exist_ok=True)
    settings = {"VSS_MODELS": "[]", "VSS_DRAIN_SECONDS": "0"}
    with Server(folder, choose_port(0), settings, "--workers", "2") as server:
        yield server


@contextmanager
def _checking(server: Server, data: Dataset, truth: Scores) -> Iterator[list[Scores]]:
    """Asks the queries in turn, slowly, as long as the `with` statement lasts: `(1, K)` scores of each answer."""
    found: list[Scores] = []
    stop = threading.Event()
    sign = -1 if data.metric in (Metric.EUCLID, Metric.MANHATTAN) else 1

    def ask() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
            while not stop.wait(CHECK_SECONDS) or not found:
                query = data.queries[len(found) % len(data.queries)]
                answer = client.post(f"/collections/{NAME}/points/query", json=_question(query)).raise_for_status()
                points = answer.json()["result"]["points"]
                if len({one["id"] for one in points}) != len(points):
                    raise VssError(Code.CORRUPT, "an answer holds the same point twice")
                scores = np.full((1, K), -np.inf, np.float32)
                scores[0, : len(points)] = [sign * one["score"] for one in points]
                found.append(scores)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield found
        finally:
            stop.set()
        asking.result()


@contextmanager
def _opened(folder: Path) -> Iterator[Collection]:
    """The collection as another process sees it."""
    with closing(LocalEngine(DataDir(folder), INDEXERS, writable=False)) as engine:
        yield engine.collection(NAME)


def _fold(folder: Path) -> Manifest:
    """Seal and fold what there is, beside the worker; the generation that is current then."""
    writer = JobWriter(DataDir(folder))
    with _opened(folder) as collection:
        return until_published(lambda: fold(collection, writer, INDEXERS, threads=usable_cores()), ATTEMPTS)


def _wait_while(condition: Callable[[], bool], until: float) -> None:
    """Until other processes have done what ends it, or that moment (`time.monotonic`) has come."""
    while condition() and time.monotonic() < until:
        time.sleep(0.2)


def _due(folder: Path) -> bool:
    with _opened(folder) as collection:
        manifest = collection.current()
        return manifest is not None and due(survey(manifest, collection.schema, INDEXERS)) is not None


def _backlog(folder: Path) -> int:
    with _opened(folder) as collection:
        collection.view()
        return collection.backlog()


def _held(data: DataDir, collection: str) -> bool:
    """Whether a job holds files of a collection."""
    return any(live_folders(folder / "staging") for folder in (data.collection(collection), data.path))


def _recalls(folder: Path, data: Dataset, truth: Scores) -> dict[str, float]:
    """recall@K of the queries at each of `EFFORTS`, one asked alone as it is served."""
    engine = LocalEngine(DataDir(folder), INDEXERS, writable=False)
    try:
        view = engine.collection(NAME).view()
        if view.points != len(data.vectors):
            raise VssError(Code.CORRUPT, f"got {view.points} points, wanted {len(data.vectors)}")
        recalls = {}
        for effort in EFFORTS:
            scores = np.full((len(data.queries), K), -np.inf, np.float32)
            for row in range(len(data.queries)):
                (found,) = search(view, data.queries[row : row + 1], using="", k=K, effort=effort)
                scores[row, : len(found)] = found.scores
            recalls[str(effort)] = round(recall_by_score(scores, truth), 4)
        return recalls
    finally:
        engine.close()


def _disk(folder: Path) -> int:
    """Bytes of all files below a folder; one of several names counts once."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())
