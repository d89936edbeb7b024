"""HTTP queries against one serving process: requests/s and latency beside the same server's empty reply.

    python -m benchmarks.serving --data .demo --collection stdlib

Starts `vss serve` on that data (pinned to the first core, the client to the second), waits for the first correct
answer, then runs bounded closed loops over keep-alive connections, the empty reply and the query in turn, five times.
Prints one JSON line: start-up seconds, resident memory, and medians with their spread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

REPETITIONS = 5
SEED = 7


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next request when the last answer is complete."""

    def __init__(self, requests: list[bytes], offset: int, count: int, latencies: list[float]) -> None:
        self.requests = requests
        self.next = offset
        self.left = count
        self.latencies = latencies
        self.buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.requests[self.next % len(self.requests)])  # type: ignore[attr-defined]
        self.next += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        if len(body) < int(lower[at:].split(b"\r\n", 1)[0]):
            return
        if b" 200 " not in head[:16]:
            self.done.set_exception(RuntimeError(self.buffer[:300].decode()))
            return
        self.latencies.append(time.perf_counter() - self.started)
        self.buffer = b""
        self.left -= 1
        if self.left:
            self.send()
        else:
            self.transport.close()
            self.done.set_result(None)


async def closed_loop(port: int, requests: list[bytes], connections: int, count: int) -> tuple[float, list[float]]:
    """Requests per second and the latency of each, over `connections` connections of `count` requests."""
    loop, latencies = asyncio.get_running_loop(), []
    started = time.perf_counter()
    made = [
        (
            await loop.create_connection(
                lambda n=n: Connection(requests, n * count, count, latencies), "127.0.0.1", port
            )
        )[1]
        for n in range(connections)
    ]
    await asyncio.gather(*(one.done for one in made))
    return connections * count / (time.perf_counter() - started), latencies


def post(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def spread(values: list[float], digits: int = 3) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=500, help="for each connection and repetition")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    port = free_port()
    base = f"http://127.0.0.1:{port}/collections/{options.collection}"
    os.sched_setaffinity(0, {cores[0]})
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", "--data", str(options.data), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.sched_setaffinity(0, {cores[-1]})
    try:
        with httpx.Client(timeout=30) as http:
            while True:
                try:
                    page = http.post(f"{base}/points/scroll", json={"limit": 2000, "with_vector": True})
                    page.raise_for_status()
                    break
                except httpx.HTTPError:
                    if server.poll() is not None or time.perf_counter() - started > 60:
                        raise
                    time.sleep(0.01)
            points = page.json()["result"]["points"]
            queries = [one["vector"] for one in points]
            answer = http.post(f"{base}/points/query", json={"query": queries[0], "limit": 1}).json()
            first_answer = time.perf_counter() - started
            while http.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
                time.sleep(0.1)  # models load in threads of the same process, which would count as queries' time
            assert answer["result"]["points"][0]["id"] == points[0]["id"], answer
            found = true = 0
            for query in queries[::10]:
                body = {"query": query, "limit": 10}
                near, exact = (
                    {
                        one["id"]
                        for one in http.post(f"{base}/points/query", json=body | more).json()["result"]["points"]
                    }
                    for more in ({}, {"params": {"exact": True}})
                )
                found, true = found + len(near & exact), true + len(exact)
        order = np.random.default_rng(SEED).permutation(len(queries))
        path = f"/collections/{options.collection}/points/query"
        searches = [post(path, {"query": queries[row], "limit": 10, "with_payload": True}) for row in order]
        empty = [b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]
        rates: dict[str, list[float]] = {"empty": [], "query": []}
        cpu: list[float] = []
        latencies: dict[str, list[list[float]]] = {"empty": [], "query": []}
        process = psutil.Process(server.pid)
        for _ in range(REPETITIONS):
            for name, requests in (("empty", empty), ("query", searches)):
                before = process.cpu_times()
                rate, times = asyncio.run(closed_loop(port, requests, options.connections, options.requests))
                after = process.cpu_times()
                rates[name].append(rate)
                latencies[name].append([float(np.percentile(times, p)) * 1000 for p in (50, 99)])
                if name == "query":
                    cpu.append((after.user + after.system - before.user - before.system) / len(times) * 1e6)
        result = {
            "benchmark": "serving",
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "seed": SEED,
            "connections": options.connections,
            "points_sampled": len(queries),
            "recall@10": round(found / true, 4),
            "first_correct_answer_s": round(first_answer, 2),
            "resident_mib": round(process.memory_info().rss / 2**20),
            "shared_mib": round(process.memory_info().shared / 2**20),
            "server_cpu_us_per_query": spread(cpu, 0),
        }
        for name in rates:
            result[f"{name}_per_s"] = spread(rates[name], 0)
            result[f"{name}_p50_ms"] = spread([pair[0] for pair in latencies[name]])
            result[f"{name}_p99_ms"] = spread([pair[1] for pair in latencies[name]])
        result["query_of_empty"] = spread([q / e for q, e in zip(rates["query"], rates["empty"], strict=True)])
        print(json.dumps(result))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


if __name__ == "__main__":
    main()
