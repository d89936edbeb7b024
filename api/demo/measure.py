"""Step 4: the recall, latency and throughput that a client gets, through HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np

from api.cli.client import Client
from vss.errors import Code, VssError
from vss.recall import recall_by_score
from vss.types import Scores

K = 10
QUERIES = 256
CONNECTIONS = 8
REQUESTS = 6_000
SECONDS = 8.0
"""The load ends at whichever comes first."""

_BATCH = 64


def embed(client: Client, model: str, texts: Sequence[str]) -> list[list[float]]:
    """One vector for each text, as queries."""
    vectors: list[list[float]] = []
    for start in range(0, len(texts), _BATCH):
        body = {"model": model, "input": list(texts[start : start + _BATCH])}
        vectors += [row["embedding"] for row in client.send("POST", "/v1/embeddings", body)["data"]]
    return vectors


def recall(client: Client, collection: str, vectors: Sequence[Sequence[float]]) -> float:
    """recall@10 of the served answers against exact search of the same server.

    A point that scores as high as the tenth true one counts, as several documents share one text.
    """
    found, true = (_scores(client, collection, vectors, exact) for exact in (False, True))
    return recall_by_score(found, true)


def _scores(client: Client, collection: str, vectors: Sequence[Sequence[float]], exact: bool) -> Scores:
    lines = []
    for start in range(0, len(vectors), _BATCH):
        searches = [
            {"query": vector, "limit": K, "params": {"exact": exact}} for vector in vectors[start : start + _BATCH]
        ]
        answer = client.send("POST", f"/collections/{collection}/points/query/batch", {"searches": searches})
        for one in answer["result"]:
            scores = [point["score"] for point in one["points"]]
            lines.append(scores + [-np.inf] * (K - len(scores)))
    return np.asarray(lines, np.float32)


@dataclass(frozen=True, slots=True)
class Load:
    """What the load gave: milliseconds at the median and at 99%, and requests per second."""

    requests: int
    p50_ms: float
    p99_ms: float
    per_second: float


def load(url: str, collection: str, vectors: Sequence[Sequence[float]]) -> Load:
    """Send single vector queries over `CONNECTIONS` connections, each waiting for its answer before it asks again."""
    requests = [_request(url, collection, vector) for vector in vectors]
    return asyncio.run(_load(url, requests))


def _request(url: str, collection: str, vector: Sequence[float]) -> bytes:
    body: Any = msgspec.json.encode({"query": vector, "limit": K})
    head = (
        f"POST /collections/{collection}/points/query HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + bytes(body)


async def _load(url: str, requests: Sequence[bytes]) -> Load:
    latencies: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_connection(url, requests, number, began, latencies) for number in range(CONNECTIONS)))
    spent = time.perf_counter() - began
    p50, p99 = np.percentile(latencies, (50, 99)) * 1e3
    return Load(len(latencies), float(p50), float(p99), len(latencies) / spent)


async def _connection(url: str, requests: Sequence[bytes], number: int, began: float, latencies: list[float]) -> None:
    # A plain HTTP/1.1 client: a full one would cost more than the server that is measured.
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        while len(latencies) < REQUESTS and time.perf_counter() - began < SECONDS:
            start = time.perf_counter()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if b" 200 " not in head[:20]:
                raise VssError(
                    Code.UNAVAILABLE, f"the server answered {head[:20].decode(errors='replace')!r} to a query"
                )
            latencies.append(time.perf_counter() - start)
            number += CONNECTIONS
    except (asyncio.IncompleteReadError, OSError) as error:
        raise VssError(Code.UNAVAILABLE, f"the server closed a connection: {error}") from error
    finally:
        writer.close()
