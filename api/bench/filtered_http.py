"""The filters of `vss bench filter` over HTTP: a real server, one connection, one request at a time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from api.bench.dataset import Dataset, K
from api.bench.filtered import AGAIN, NEW, OWN, Drawn, Efforts
from api.bench.filtered_store import NAME
from api.bench.http_client import request
from api.bench.load import address
from api.demo import process
from vss.errors import Code, VssError
from vss.filters import Condition, Filter, Match, Range, Text

TOGETHER = 8
"""Requests of one way, before the next way's turn."""

_LENGTH = b"\r\ncontent-length:"


@contextmanager
def served(data: Path) -> Iterator[tuple[str, int]]:
    """Host and port of a server of its own on that data directory."""
    with process.Server(data, process.choose_port(0), {"VSS_MODELS": "[]"}, "--no-worker") as server:
        yield address(server.url)


def measure(place: tuple[str, int], data: Dataset, drawn: Drawn, efforts: Efforts) -> dict[str, list[float]]:
    """Microseconds of each request of a shape: without a filter, with a new one, and with that again."""
    times: dict[str, list[float]] = {OWN: [], NEW: [], AGAIN: []}
    with socket.create_connection(place) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data.queries), TOGETHER):
            rows = range(start, min(start + TOGETHER, len(data.queries)))
            plain = [_request(place, data.queries[row], efforts, None) for row in rows]
            filtered = [_request(place, data.queries[row], efforts, drawn.filters[row]) for row in rows]
            for way, messages in ((OWN, plain), (NEW, filtered), (AGAIN, filtered)):
                for message in messages:
                    began = time.perf_counter()
                    _ask(connection, message)
                    times[way].append((time.perf_counter() - began) * 1e6)
    return times


def over(times: dict[str, list[float]]) -> float:
    """The slower of the medians with a filter, new and again, over that without."""
    return max(float(np.median(times[way]) / np.median(times[OWN])) for way in (NEW, AGAIN))


def _request(place: tuple[str, int], query: np.ndarray, efforts: Efforts, where: Condition | None) -> bytes:
    body: dict[str, Any] = {"query": query.tolist(), "limit": K, "params": {"hnsw_ef": efforts.ours}}
    if where is not None:
        body["filter"] = written(where) if isinstance(where, Filter) else {"must": [written(where)]}
    return request("POST", f"/collections/{NAME}/points/query", place[0], msgspec.json.encode(body))


def _ask(connection: socket.socket, message: bytes) -> None:
    """Send one request and read its answer. VssError (UNAVAILABLE) where that is no success."""
    connection.sendall(message)
    read = b""
    while True:
        part = connection.recv(1 << 16)
        if not part:
            raise VssError(Code.UNAVAILABLE, "the server closed the connection", hint="its log says why")
        read += part
        end = read.find(b"\r\n\r\n")
        if end < 0:
            continue
        head = read[:end].lower()
        at = head.find(_LENGTH)
        if at >= 0 and len(read) < end + 4 + int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]):
            continue
        if not read.startswith(b"HTTP/1.1 200 ") or at < 0:
            raise VssError(Code.UNAVAILABLE, f"a query was answered with {read[:300].decode(errors='replace')}")
        return


def written(where: Condition) -> dict[str, Any]:
    """A condition as a request says it; of the kinds that shapes are made of."""
    match where:
        case Filter():
            parts: Sequence[tuple[str, tuple[Condition, ...]]] = (
                ("must", where.must),
                ("should", where.should),
                ("must_not", where.must_not),
            )
            return {name: [written(one) for one in some] for name, some in parts if some}
        case Match(key, values):
            return {"key": key, "match": {"any": list(values)} if len(values) != 1 else {"value": values[0]}}
        case Text(key, text):
            return {"key": key, "match": {"text": text}}
        case Range(key):
            bounds = {name: getattr(where, name) for name in ("gt", "gte", "lt", "lte")}
            return {"key": key, "range": {name: bound for name, bound in bounds.items() if bound is not None}}
    raise ValueError(f"no shape has {where}")
