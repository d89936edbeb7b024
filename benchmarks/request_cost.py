"""What a request costs the server: CPU of one query and of one upsert of 100 points, beside the same call in-process.

    python -m benchmarks.request_cost

A collection of 384-d clustered vectors (Cosine) is served by one process, pinned to the first core, and asked by this
one, pinned to the last, over one keep-alive connection, beside an empty reply. CPU is the server's user and system time
over the requests. The in-process figures are CPU of this process in `search` (and reading the ten hits) and in
`LocalEngine.write` with ready points. Both have one thread of BLAS. Five repetitions, interleaved. Prints one JSON line
for each operation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil

from api.bench.report import spread
from api.demo.process import choose_port
from indexers.registry import INDEXERS
from vss.changes import Upsert
from vss.engines.local import LocalEngine
from vss.points import Point
from vss.schema import Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage.datadir import DataDir
from vss.types import Metric, Vectors
from vss.vectors import as_vectors

DIM, POINTS, QUERIES = 384, 2_000, 200
PER_UPSERT, ROUNDS = 100, 3
REPETITIONS, SEED = 5, 17


def clustered(count: int, rng: np.random.Generator) -> Vectors:
    """`(count, DIM)` float32 around 50 centres."""
    centres = rng.normal(size=(50, DIM))
    return (centres[rng.integers(50, size=count)] + 0.4 * rng.normal(size=(count, DIM))).astype(np.float32)


def payload(row: int) -> dict[str, Any]:
    return {"title": f"item number {row}", "group": row % 7, "price": row / 10}


class Served:
    """A server with the collection, and the CPU seconds that it has used."""

    def __init__(self, data: Path, core: int) -> None:
        port = choose_port(0)
        os.sched_setaffinity(0, {core})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.server"],
            env=os.environ
            | {"VSS_DATA": str(data), "VSS_PORT": str(port), "VSS_MODELS": "[]", "VSS_DRAIN_SECONDS": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
        self.watched = psutil.Process(self.process.pid)
        while True:
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)

    def cpu(self) -> float:
        times = self.watched.cpu_times()
        return float(times.user + times.system)

    def cost_us(self, method: str, path: str, bodies: list[bytes], rounds: int) -> float:
        """Server CPU in microseconds for each request."""
        before = self.cpu()
        for body in bodies * rounds:
            self.http.request(method, path, content=body).raise_for_status()
        return (self.cpu() - before) / (len(bodies) * rounds) * 1e6

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(20)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # Threads of BLAS that wait by spinning count as CPU; they are made when numpy is imported.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "benchmarks.request_cost"],
            os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
    rng = np.random.default_rng(SEED)
    stored, queries = clustered(POINTS, rng), clustered(QUERIES, rng)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder) / "here", Path(folder) / "there"
        engine = LocalEngine(DataDir(here), INDEXERS, writable=True)
        for name in ("read", "written"):
            engine.create(name, Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.COSINE)}))
        ready = as_vectors(stored, DIM, Metric.COSINE)
        points = [
            Point(id=row, vectors={"": ready[row]}, payload=msgspec.json.encode(payload(row))) for row in range(POINTS)
        ]
        engine.write("read", [Upsert(points)]).result()
        server = Served(there, cores[0])
        os.sched_setaffinity(0, {cores[-1]})
        try:
            for name in ("read", "written"):
                body = {"vectors": {"size": DIM, "distance": "Cosine"}}
                server.http.put(f"/collections/{name}", json=body).raise_for_status()
            upserts = [
                json.dumps(
                    {
                        "points": [
                            {"id": row, "vector": stored[row].tolist(), "payload": payload(row)}
                            for row in range(start, start + PER_UPSERT)
                        ]
                    }
                ).encode()
                for start in range(0, POINTS, PER_UPSERT)
            ]
            server.cost_us("PUT", "/collections/read/points?wait=true", upserts, 1)
            bodies = [
                json.dumps({"query": one.tolist(), "limit": 10, "with_payload": True}).encode() for one in queries
            ]
            figures: dict[str, dict[str, list[float]]] = {
                name: {"server_cpu_us": [], "empty_reply_cpu_us": [], "in_process_cpu_us": []}
                for name in ("query", "upsert")
            }
            prepared = as_vectors(queries, DIM, Metric.COSINE)
            process = psutil.Process()
            for _ in range(REPETITIONS):
                for measured in figures.values():
                    measured["empty_reply_cpu_us"].append(server.cost_us("GET", "/livez", [b""], 1000))
                asked = server.cost_us("POST", "/collections/read/points/query", bodies, 5)
                figures["query"]["server_cpu_us"].append(asked)
                view = engine.collection("read").view()
                before = time.process_time()
                for query in prepared:
                    (found,) = search(view, query[None, :], using="", k=10)
                    for part, row in zip(found.parts.tolist(), found.rows.tolist(), strict=True):
                        view.parts[part].point(row, vectors=False)
                figures["query"]["in_process_cpu_us"].append((time.process_time() - before) / QUERIES * 1e6)
                written = server.cost_us("PUT", "/collections/written/points?wait=true", upserts, ROUNDS)
                figures["upsert"]["server_cpu_us"].append(written)
                before = sum(process.cpu_times()[:2])
                for start in range(0, ROUNDS * POINTS, PER_UPSERT):
                    at = start % POINTS
                    engine.write("written", [Upsert(points[at : at + PER_UPSERT])]).result()
                after = sum(process.cpu_times()[:2])
                figures["upsert"]["in_process_cpu_us"].append((after - before) / (ROUNDS * len(upserts)) * 1e6)
            for name, measured in figures.items():
                ratio = [a / b for a, b in zip(measured["server_cpu_us"], measured["in_process_cpu_us"], strict=True)]
                line = {
                    "benchmark": "request_cost",
                    "operation": name if name == "query" else f"upsert of {PER_UPSERT} points",
                    "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                    "python": platform.python_version(),
                    "versions": {one: version(one) for one in ("msgspec", "starlette", "uvicorn", "numpy", "apsw")},
                    "seed": SEED,
                    "dim": DIM,
                    "points": POINTS,
                    "body_bytes": round(statistics.mean(map(len, bodies if name == "query" else upserts))),
                }
                line |= {what: spread(values, 3) for what, values in measured.items()}
                print(json.dumps(line | {"server_of_in_process": spread(ratio, 3)}))
        finally:
            server.close()
            engine.close()


if __name__ == "__main__":
    main()
