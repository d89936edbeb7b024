"""Clustered vectors, and their exact neighbours by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from vss.types import Vectors


def clustered(count: int, dim: int, *, seed: int, clusters: int = 20) -> Vectors:
    """`(count, dim)` float32 around centres of different weight and spread."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    weights = rng.gamma(1.0, size=clusters)
    chosen = rng.choice(clusters, size=count, p=weights / weights.sum())
    spread = rng.uniform(0.2, 0.6, size=(clusters, dim))
    return (centres[chosen] + spread[chosen] * rng.normal(size=(count, dim))).astype(np.float32)


def scores(query: Vectors, vectors: Vectors, distance: str) -> Any:
    """`(n,)` float64 as Qdrant shows them: similarities under Cosine and Dot, distances under Euclid and Manhattan."""
    wide, one = vectors.astype(np.float64), query.astype(np.float64)
    match distance:
        case "Cosine":
            return wide @ one / (np.linalg.norm(wide, axis=1) * np.linalg.norm(one))
        case "Dot":
            return wide @ one
        case "Euclid":
            return np.linalg.norm(wide - one, axis=1)
        case _:
            return np.abs(wide - one).sum(axis=1)


def nearest(query: Vectors, vectors: Vectors, distance: str) -> list[int]:
    """All rows, best first."""
    found = scores(query, vectors, distance)
    order: list[int] = np.argsort(-found if distance in ("Cosine", "Dot") else found, kind="stable").tolist()
    return order
