"""How long from the exec of `vss serve` to the first correct answer, and whether answers stay what they were.

    python -m benchmarks.cold_start --data DIR            DIR holds a collection "c", or is made: see --rows

1,000,000 x 128 of the shape clustered-128 (Euclid) by default, imported with `vss index`, so with the index that it
chooses. The page cache is warm: the files are read before. No model is served (`VSS_MODELS=[]`), and every other
setting is the default, the worker's process included.

Start: each of the repetitions starts `vss serve`, asks one held-out query over HTTP again and again until it is
answered, and stops it. The answer is correct when its ten hits are those of the run before with scores within 1e-5,
and the first of them is the true nearest. `cpu` is what all processes of the server had used by then, the worker's too.

Same answers: held-out queries, ids and scores (within 1e-5) by exact search before and after a restart and after
`vss fold` of new, replaced and deleted points; and by the default search before and after the restart. Where two hits'
scores are within 1e-5 of each other their order is free. Prints one JSON line for each part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from api.bench.report import machine
from api.bench.shapes import clustered_128
from api.demo.process import choose_port
from vss.types import Vectors

HELD_OUT = 10_000
CHANGED = 22_000
"""Points that are written before the last fold: more than the live part holds."""

QUERY = "/collections/c/points/query"
Answer = list[tuple[int, float]]


def vss(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "api.cli", *arguments]


@contextmanager
def server(data: Path, *options: str) -> Iterator[tuple[httpx.Client, float, psutil.Process]]:
    """A client of `vss serve`, the moment of its exec, and the process."""
    port = choose_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VSS_")} | {
        "VSS_MODELS": "[]"
    }
    with open(data.with_suffix(".log"), "ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            vss("serve", "--data", str(data), "--port", str(port), *options), env=environment, stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=300) as client:
            yield client, began, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def asked(client: httpx.Client, query: Vectors) -> Answer:
    """Its answer, once there is one."""
    while True:
        try:
            answer = client.post(QUERY, json={"query": query.tolist(), "limit": 10})
            if answer.status_code == 200:
                return [(one["id"], one["score"]) for one in answer.json()["result"]["points"]]
        except httpx.TransportError:
            time.sleep(0.002)


def batch(client: httpx.Client, queries: Vectors, *, exact: bool) -> list[Answer]:
    """The answers, asked a hundred at a time."""
    found = []
    for start in range(0, len(queries), 100):
        searches = [
            {"query": query.tolist(), "limit": 10, "params": {"exact": exact}} for query in queries[start : start + 100]
        ]
        answer = client.post(f"{QUERY}/batch", json={"searches": searches})
        answer.raise_for_status()
        found += [[(one["id"], one["score"]) for one in each["points"]] for each in answer.json()["result"]]
    return found


def same(before: Answer, after: Answer) -> bool:
    """Whether scores are within 1e-5 and ids the same, but for the order of those whose scores are as near."""
    if len(before) != len(after):
        return False
    scores, others = (np.array([score for _, score in one]) for one in (before, after))
    if (np.abs(scores - others) > 1e-5).any():
        return False
    last = scores[-1] if len(scores) else 0.0
    clear = [{one for one, score in answer if abs(score - last) > 1e-5} for answer in (before, after)]
    return clear[0] == clear[1]


def make(data: Path, rows: int) -> None:
    """The collection, by `vss index`."""
    file = data.with_name("cold_start.npy")
    np.save(file, clustered_128(rows + HELD_OUT)[:rows])
    subprocess.run(vss("index", str(file), "-c", "c", "--data", str(data), "--metric", "Euclid"), check=True)


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--part", choices=["both", "start", "same"], default="both")
    given = parser.parse_args()
    if not given.data.exists():
        make(given.data, given.rows)
    for path in given.data.rglob("*"):
        if path.is_file() and path.stat().st_size:
            path.read_bytes()
    points = clustered_128(given.rows + HELD_OUT)
    held_out = points[given.rows :]
    common: dict[str, Any] = {
        "benchmark": "cold_start",
        "rows": given.rows,
        "dim": 128,
        "command": " ".join(sys.argv[1:]),
    }
    if given.part != "same":
        print(json.dumps(common | start(given, points, held_out[0]) | {"machine": machine()}), flush=True)
    if given.part != "start":
        print(json.dumps(common | restarted(given, held_out) | {"machine": machine()}), flush=True)


def start(given: argparse.Namespace, points: Vectors, query: Vectors) -> dict[str, Any]:
    """Seconds to the first correct answer."""
    nearest = int(np.argmin(np.linalg.norm(points[: given.rows] - query, axis=1)))
    with server(given.data) as (client, *_):
        wanted = asked(client, query)
    seconds, cpu, loads = [], [], []
    for _ in range(given.repetitions):
        loads.append(round(os.getloadavg()[0], 1))
        with server(given.data) as (client, began, process):
            answer = asked(client, query)
            seconds.append(round(time.perf_counter() - began, 3))
            used = [one.cpu_times() for one in (process, *process.children(recursive=True))]
            cpu.append(round(sum(one.user + one.system for one in used), 2))
        if not same(wanted, answer) or answer[0][0] != nearest:
            raise SystemExit(f"got {answer}, wanted {wanted} with {nearest} first")
    median = statistics.median(seconds)
    return {"figure": "exec to first correct answer", "seconds": median, "all": seconds, "cpu": cpu, "load": loads}


def restarted(given: argparse.Namespace, held_out: Vectors) -> dict[str, Any]:
    """How many answers were other ones after a restart, and after a fold."""
    queries, new = held_out[: given.queries], clustered_128(CHANGED, seed=11)
    answers: dict[str, list[list[Answer]]] = {"exact": [], "default": []}
    with server(given.data, "--no-worker") as (client, *_):
        asked(client, queries[0])
        for first in range(0, CHANGED, 1_000):
            ids = range(given.rows - CHANGED // 2 + first, given.rows - CHANGED // 2 + first + 1_000)
            body = [{"id": one, "vector": row.tolist()} for one, row in zip(ids, new[first:], strict=False)]
            client.put("/collections/c/points", json={"points": body}).raise_for_status()
        client.post("/collections/c/points/delete", json={"points": list(range(0, 5_000, 3))}).raise_for_status()
        for exact in (True, False):
            answers["exact" if exact else "default"].append(batch(client, queries, exact=exact))
    with server(given.data, "--no-worker") as (client, *_):
        asked(client, queries[0])
        for exact in (True, False):
            answers["exact" if exact else "default"].append(batch(client, queries, exact=exact))
    subprocess.run(vss("fold", "c", "--data", str(given.data)), check=True, stdout=sys.stderr)
    with server(given.data, "--no-worker") as (client, *_):
        asked(client, queries[0])
        answers["exact"].append(batch(client, queries, exact=True))

    def other(one: list[Answer], two: list[Answer]) -> int:
        return sum(not same(*both) for both in zip(one, two, strict=True))

    exact, default = answers["exact"], answers["default"]
    return {
        "figure": "answers that changed",
        "queries": len(queries),
        "exact, by a restart": other(exact[0], exact[1]),
        "exact, by a fold": other(exact[1], exact[2]),
        "default search, by a restart": other(default[0], default[1]),
    }


if __name__ == "__main__":
    main()
