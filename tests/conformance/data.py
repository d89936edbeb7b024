"""Vectors shaped like real ones: clusters of uneven size and spread in a few latent dimensions, plus a little noise."""

from __future__ import annotations

import numpy as np

from vss.types import Vectors


def clustered(n: int, dim: int = 128, seed: int = 7, *, centres: int = 2000, latent: int = 32) -> Vectors:
    """`(n, dim)` float32; to hold out queries, make more and split: another n draws other centres' points.

    Centres are N(0, I) in `latent` dimensions, each with its own spread (0.5 to 1 per dimension) and a weight drawn
    from gamma(1); a fixed random map leads to `dim` dimensions, where N(0, 0.3²) is added.
    """
    random = np.random.default_rng(seed)
    centre = random.normal(size=(centres, latent))
    spread = random.uniform(0.5, 1.0, size=(centres, latent))
    weight = random.gamma(1.0, size=centres)
    to_space = random.normal(size=(latent, dim)) / np.sqrt(latent)
    chosen = random.choice(centres, size=n, p=weight / weight.sum())
    points = (centre[chosen] + spread[chosen] * random.normal(size=(n, latent))) @ to_space
    return (points + 0.3 * random.normal(size=(n, dim))).astype(np.float32)
