"""Durable writes: what batches reach beside raw SQLite, and how single writes share the syncs of the disk.

upserts         in batches, each on disk before the next is sent: the engine's, over HTTP by one connection and by
                `CONNECTIONS`, and raw SQLite's; and what only reading the JSON of these requests takes
single_upserts  one point each by `WRITERS` at once: syncs for each write, and how many commits one waits
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import apsw
import httpx
import msgspec
import numpy as np

from api.bench.http_client import Connection, request
from api.bench.load_cpu import cpu_seconds
from api.bench.report import Report, ratios, rounds, spread
from api.bench.write import Plan, Processors
from api.demo.process import Server, choose_port
from api.wire.upserts import decode_upsert
from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point, id_key
from vss.schema import DEFAULT_VECTOR, Schema, VectorSchema
from vss.storage.commit import Commit
from vss.storage.datadir import DataDir
from vss.storage.log import pack_vectors
from vss.types import Metric, Progress, Vectors

BATCH = 100
"""Points of an upsert."""

CONNECTIONS = 4

WRITERS = 32

PAYLOAD = b'{"name":"a point of the benchmark","price":12.5,"tags":["new","small"]}'


def upserts(report: Report, vectors: Vectors, metric: Metric, scratch: Path, plan: Plan, progress: Progress) -> None:
    """Points per second in batches of `BATCH`. HTTP: JSON of the same rows, one request at a time on a connection.

    CPU of HTTP is the server's.
    """
    cpu = Processors()
    bodies = _bodies(vectors, BATCH)

    def ours() -> float:
        points = _points(vectors)
        with _engine(vectors, metric, scratch) as engine, cpu.of("engine"):
            began = time.perf_counter()
            for start in range(0, len(points), BATCH):
                engine.upsert("points", points[start : start + BATCH]).result()
            return len(points) / (time.perf_counter() - began)

    def theirs() -> float:
        path = scratch / f"raw-{secrets.token_hex(4)}.db"
        rows = [(id_key(row), pack_vectors({DEFAULT_VECTOR: vector}), PAYLOAD) for row, vector in enumerate(vectors)]
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute(
            "CREATE TABLE operations (seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB, vectors BLOB, payload BLOB)"
        )
        with cpu.of("sqlite"):
            began = time.perf_counter()
            for start in range(0, len(rows), BATCH):
                with connection:
                    connection.executemany(
                        "INSERT INTO operations (key, vectors, payload) VALUES (?, ?, ?)", rows[start : start + BATCH]
                    )
            seconds = time.perf_counter() - began
        connection.close()
        path.unlink()
        return len(rows) / seconds

    with _served(scratch) as server:

        def http(connections: int) -> float:
            before = sum(cpu_seconds(server.pid).values())
            seconds = _sent(server, vectors, metric, BATCH, connections=connections)
            cpu.add(f"http_{connections}", sum(cpu_seconds(server.pid).values()) - before)
            return len(vectors) / seconds

        def json() -> float:
            with cpu.of("json"):
                began = time.perf_counter()
                for body in bodies:
                    decode_upsert(body)
                return len(vectors) / (time.perf_counter() - began)

        runs = {
            "engine": ours,
            "http_1": lambda: http(1),
            f"http_{CONNECTIONS}": lambda: http(CONNECTIONS),
            "json": json,
            "sqlite": theirs,
        }
        rates = rounds(runs, plan.repetitions, progress)
    report.write(
        "upserts",
        n=len(vectors),
        dim=vectors.shape[1],
        metric=metric.value,
        batch=BATCH,
        payload_bytes=len(PAYLOAD),
        repetitions=plan.repetitions,
        body_bytes=len(bodies[0]),
        **{f"{name}_points_per_s": spread(rates[name]) for name in runs},
        ratio=ratios(rates["engine"], rates["sqlite"]),
        **{f"{name}_ratio": ratios(rates[name], rates["sqlite"]) for name in runs if name not in ("engine", "sqlite")},
        sqlite=apsw.sqlite_lib_version(),
        **cpu.fields("engine", "sqlite"),
    )


def single_upserts(report: Report, vectors: Vectors, metric: Metric, scratch: Path, progress: Progress) -> None:
    """How `WRITERS` that write one point after the other share commits: in this process, where SQLite's syncs are
    counted, and over HTTP, where the server tells of its commits."""
    commits: list[Commit] = []
    with _counting() as syncs, _engine(vectors, metric, scratch) as engine, ThreadPoolExecutor(WRITERS) as pool:
        points = _points(vectors)
        engine.upsert("points", points[:1]).result()
        engine.observe = commits.append
        before = syncs.count
        began = time.perf_counter()
        list(pool.map(lambda point: engine.upsert("points", [point]).result(), points))
        seconds = time.perf_counter() - began
        counted = syncs.count - before
    progress(1)
    waits = np.asarray([one for commit in commits for one in commit.waits])
    with _served(scratch) as server:
        http_seconds = _sent(server, vectors, metric, 1, connections=WRITERS)
        said = httpx.get(f"{server.url}/metrics", trust_env=False).text
    progress(1)
    http_commits = re.search(r"^vss_commit_writes_count (\S+)$", said, re.MULTILINE)
    assert http_commits
    within = {
        float(limit): float(count) for limit, count in re.findall(r'_wait_commits_bucket{le="([\d.]+)"} (\S+)', said)
    }
    report.write(
        "single_upserts",
        n=len(vectors),
        dim=vectors.shape[1],
        metric=metric.value,
        writers=WRITERS,
        engine_writes_per_s=round(len(vectors) / seconds, 1),
        engine_syncs_per_write=round(counted / len(vectors), 4),
        engine_commits_per_write=round(len(commits) / len(vectors), 4),
        engine_wait_commits={f"p{percent}": int(np.percentile(waits, percent)) for percent in (50, 99, 100)},
        http_writes_per_s=round(len(vectors) / http_seconds, 1),
        http_commits_per_write=round(float(http_commits[1]) / len(vectors), 4),
        http_share_within_commits={f"{limit:g}": round(count / len(vectors), 4) for limit, count in within.items()},
        sqlite=apsw.sqlite_lib_version(),
    )


def _points(vectors: Vectors) -> list[Point]:
    return [Point(id=row, vectors={DEFAULT_VECTOR: vector}, payload=PAYLOAD) for row, vector in enumerate(vectors)]


@contextmanager
def _engine(vectors: Vectors, metric: Metric, scratch: Path) -> Iterator[LocalEngine]:
    folder = scratch / f"data-{secrets.token_hex(4)}"
    engine = LocalEngine(DataDir(folder), INDEXERS, writable=True)
    try:
        engine.create("points", Schema(vectors={DEFAULT_VECTOR: VectorSchema(dim=vectors.shape[1], metric=metric)}))
        yield engine
    finally:
        engine.close()
        shutil.rmtree(folder)


class _Syncs(apsw.VFS):
    """Counts the syncs of the files that SQLite opens in this process."""

    def __init__(self) -> None:
        self.count = 0
        self.base = apsw.vfs_names()[0]
        super().__init__("vss-bench", self.base, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """SQLite calls it."""
        return _Synced(self, name, flags)


class _Synced(apsw.VFSFile):
    def __init__(self, syncs: _Syncs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(syncs.base, name, flags)
        self._syncs = syncs

    def xSync(self, flags: int) -> None:
        self._syncs.count += 1
        super().xSync(flags)


@contextmanager
def _counting() -> Iterator[_Syncs]:
    syncs = _Syncs()
    try:
        yield syncs
    finally:
        syncs.unregister()


@contextmanager
def _served(scratch: Path) -> Iterator[Server]:
    folder = scratch / f"served-{secrets.token_hex(4)}"
    folder.mkdir()
    with Server(folder, choose_port(0), {"VSS_MODELS": "[]", "VSS_DRAIN_SECONDS": "0"}, "--no-worker") as server:
        yield server
    shutil.rmtree(folder)


def _bodies(vectors: Vectors, batch: int) -> list[bytes]:
    payload = msgspec.Raw(PAYLOAD)
    rows = [{"id": row, "vector": one, "payload": payload} for row, one in enumerate(vectors.tolist())]
    return [msgspec.json.encode({"points": rows[start : start + batch]}) for start in range(0, len(rows), batch)]


def _sent(server: Server, vectors: Vectors, metric: Metric, batch: int, *, connections: int) -> float:
    """Seconds until the vectors are written to a new collection, `batch` to a request. VssError when one is refused."""
    name = f"c-{secrets.token_hex(4)}"
    body = {"vectors": {"size": vectors.shape[1], "distance": metric.value}}
    httpx.put(f"{server.url}/collections/{name}", json=body, trust_env=False).raise_for_status()
    host = server.url.removeprefix("http://")
    bodies = _bodies(vectors, batch)
    seconds = asyncio.run(
        _all_answered(
            host, [request("PUT", f"/collections/{name}/points?wait=true", host, one) for one in bodies], connections
        )
    )
    httpx.delete(f"{server.url}/collections/{name}", trust_env=False).raise_for_status()
    return seconds


async def _all_answered(host: str, requests: Sequence[bytes], connections: int) -> float:
    loop = asyncio.get_running_loop()
    left, done = iter(requests), loop.create_future()
    waiting = len(requests)

    def answered(connection: Connection, status: int, body: bytes) -> None:
        nonlocal waiting
        waiting -= 1
        following = next(left, None)
        if done.done():
            return
        if status != 200:
            done.set_exception(VssError(Code.UNAVAILABLE, f"a write was answered {status}: {body[-300:]!r}"))
        elif following is not None:
            connection.send(following)
        elif not waiting:
            done.set_result(None)

    def lost(_: Connection) -> None:
        if not done.done():
            done.set_exception(VssError(Code.UNAVAILABLE, "the server ended a connection"))

    name, port = host.split(":")
    made = [Connection(answered, lost) for _ in range(min(connections, len(requests)))]
    for one in made:
        await loop.create_connection(lambda one=one: one, name, int(port))  # type: ignore[misc]
    began = time.perf_counter()
    for one in made:
        one.send(next(left))
    await done
    seconds = time.perf_counter() - began
    for one in made:
        one.close()
    return seconds
