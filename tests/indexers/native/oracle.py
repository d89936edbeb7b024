"""Small indexes for the kernel, and the answers that numpy gives for them.

Components are small whole numbers: sums in any order are then exact in float32, so that rows and scores can be compared
bit by bit, ties included (the smaller row first).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel

Array = NDArray[Any]


@dataclass(frozen=True)
class Small:
    """What a `Searcher` is made of."""

    measure: str
    codes: Array
    scale: float
    centre: Array | None
    extra: Array | None
    graph: Array
    entries: Array
    vectors: Array

    def searcher(self, kernel: str = "", **changed: Any) -> _kernel.Searcher:
        one = replace(self, **changed) if changed else self
        return _kernel.Searcher(
            one.measure, one.codes, one.scale, one.centre, one.extra, one.graph, one.entries, one.vectors, kernel
        )


def encode(vectors: Array, form: str, scale: float) -> Array:
    count, dim = vectors.shape
    stride = -(-dim // _kernel.PAD) * _kernel.PAD
    if form == "u8":
        codes: Array = np.full((count, stride), 128, np.uint8)
        codes[:, :dim] = np.clip(np.rint(vectors * scale), -127, 127) + 128
    else:
        codes = np.zeros((count, stride), np.float16)
        codes[:, :dim] = vectors * scale
    return codes


def everyone(count: int) -> Array:
    """A graph in which each row leads to all others."""
    graph = np.empty((count, max(count - 1, 1)), np.int32)
    for row in range(count):
        graph[row, : count - 1] = np.delete(np.arange(count), row)
    if count == 1:
        graph[:] = -1
    return graph


def whole(count: int, dim: int, seed: int = 0, most: int = 8) -> Array:
    return np.random.default_rng(seed).integers(-most, most + 1, (count, dim)).astype(np.float32)


def small(vectors: Array, measure: str = "dot", form: str = "u8", graph: Array | None = None) -> Small:
    largest = float(np.abs(vectors).max(initial=1.0))
    scale = (100 if form == "u8" else 1) / largest
    extra = None
    if measure == "euclid":
        extra = (-0.5 * np.einsum("nd,nd->n", vectors, vectors)).astype(np.float32)
    count = len(vectors)
    return Small(
        measure=measure,
        codes=encode(vectors, form, scale),
        scale=scale,
        centre=None,
        extra=extra,
        graph=everyone(count) if graph is None else graph,
        entries=np.zeros(min(count, 1), np.int32),
        vectors=vectors,
    )


def scores_of(queries: Array, vectors: Array, measure: str) -> Array:
    """(q, n) float64 scores, higher is better."""
    if measure == "dot":
        return queries.astype(np.float64) @ vectors.astype(np.float64).T
    apart = queries.astype(np.float64)[:, None, :] - vectors.astype(np.float64)[None, :, :]
    return -np.sqrt(np.einsum("qnd,qnd->qn", apart, apart))


def best(queries: Array, vectors: Array, measure: str, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
    """(rows, scores) of the k best among the allowed row numbers, as the kernel gives them."""
    rows = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    among = np.arange(len(vectors)) if allowed is None else np.sort(allowed)
    if len(queries) and len(among):
        of_all = scores_of(queries, vectors[among], measure).astype(np.float32)
        order = np.argsort(-of_all, axis=1, kind="stable")[:, :k]
        rows[:, : order.shape[1]] = among[order]
        scores[:, : order.shape[1]] = np.take_along_axis(of_all, order, axis=1)
    return rows, scores


def clustered(count: int, dim: int, seed: int, centres: int = 40) -> NDArray[np.float32]:
    """`(count, dim)` points around centres."""
    random = np.random.default_rng(seed)
    middles = random.standard_normal((centres, dim))
    points = middles[random.integers(0, centres, count)] + 0.4 * random.standard_normal((count, dim))
    return points.astype(np.float32)
