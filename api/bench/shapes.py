"""Two made-up shapes of data that behave as real ones do, for runs without a data set.

    clustered-128   uneven clusters of 32 latent dimensions, seen in 128: kind to graphs, as most embeddings are
    hubs-256        sums of a few topics, of which some are everywhere: hard for graphs, as word counts are

I.i.d. Gaussian vectors are not data: nothing measured on them carries over. Queries are rows that were held out, never
noisy copies of rows. Both are made in blocks of `BLOCK` rows, so that 1,000,000 rows need little more than themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vss.types import Metric, Vectors

BLOCK = 65_536
"""Rows drawn at a time. The first rows of a long run are those of a short one, in whole blocks."""


class Shape(NamedTuple):
    """A generator: `draw(n, seed)` gives `(n, dim)` float32."""

    draw: Callable[[int, int], Vectors]
    metric: Metric
    n: int
    """Rows of a short run."""
    seed: int


def clustered_128(n: int, seed: int = 7) -> Vectors:
    """`(n, 128)` float32, for Euclid.

    2,000 centres N(0, I) in 32 latent dimensions, each with its own spread U(0.5, 1) for each of them and a weight from
    gamma(1); a fixed map N(0, 1) / sqrt(32) leads to 128 dimensions, where N(0, 0.3²) is added.
    """
    centres, latent, dim = 2_000, 32, 128
    random = np.random.default_rng(seed)
    centre = random.normal(size=(centres, latent))
    spread = random.uniform(0.5, 1.0, size=(centres, latent))
    weight = random.gamma(1.0, size=centres)
    weight /= weight.sum()
    to_space = random.normal(size=(latent, dim)) / np.sqrt(latent)
    out = np.empty((n, dim), np.float32)
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        chosen = random.choice(centres, size=rows, p=weight)
        points = (centre[chosen] + spread[chosen] * random.normal(size=(rows, latent))) @ to_space
        out[start : start + rows] = points + 0.3 * random.normal(size=(rows, dim))
    return out


def hubs_256(n: int, seed: int = 1) -> Vectors:
    """`(n, 256)` float32 of unit length, for Cosine.

    2,000 unit topics, drawn with a probability of 1/rank; a point is the sum of 8 draws weighted 0.1 + Pareto(1.2),
    normalised, plus 0.35 / sqrt(256) * N(0, I) * lognormal(0, 1) of the point, normalised again.
    """
    topics, draws, dim = 2_000, 8, 256
    random = np.random.default_rng(seed)
    topic = _unit(random.normal(size=(topics, dim)))
    chance = 1.0 / np.arange(1, topics + 1)
    chance /= chance.sum()
    out = np.empty((n, dim), np.float32)
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        chosen = random.choice(topics, size=(rows, draws), p=chance)
        weight = 0.1 + random.pareto(1.2, size=(rows, draws))
        points = np.zeros((rows, dim))
        for draw in range(draws):
            points += weight[:, draw, None] * topic[chosen[:, draw]]
        noise = random.normal(size=(rows, dim)) * random.lognormal(0.0, 1.0, size=(rows, 1))
        out[start : start + rows] = _unit(_unit(points) + 0.35 / np.sqrt(dim) * noise)
    return out


SHAPES = {
    "clustered-128": Shape(clustered_128, Metric.EUCLID, 200_000, 7),
    "hubs-256": Shape(hubs_256, Metric.COSINE, 100_000, 1),
}


def _unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))
