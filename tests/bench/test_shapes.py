"""The made-up shapes: what their documentation says of them, the same on every run."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from api.bench.shapes import BLOCK, SHAPES, clustered_128, hubs_256
from vss.distance import exact_search
from vss.types import Metric, Vectors

DIMS = {"clustered-128": 128, "hubs-256": 256}


@pytest.fixture(scope="module", params=sorted(SHAPES))
def drawn(request: pytest.FixtureRequest) -> tuple[str, Vectors]:
    name = str(request.param)
    return name, SHAPES[name].draw(4_000, SHAPES[name].seed)


def test_shape_and_type(drawn: tuple[str, Vectors]) -> None:
    name, vectors = drawn
    assert vectors.shape == (4_000, DIMS[name])
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.isfinite(vectors).all()


def test_the_seed_decides(drawn: tuple[str, Vectors]) -> None:
    name, vectors = drawn
    shape = SHAPES[name]

    def digest(rows: Vectors) -> str:
        return hashlib.sha256(np.round(rows.astype(np.float64), 3).tobytes()).hexdigest()

    assert digest(shape.draw(4_000, shape.seed)) == digest(vectors)
    assert digest(shape.draw(4_000, shape.seed + 1)) != digest(vectors)


def test_a_longer_run_begins_with_the_same_blocks() -> None:
    short, long = clustered_128(BLOCK), clustered_128(BLOCK + 10)
    np.testing.assert_array_equal(long[:BLOCK], short)


def test_clusters_are_uneven_and_of_32_dimensions() -> None:
    vectors = clustered_128(20_000).astype(np.float64)
    spread = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2 / len(vectors)
    assert spread[31] > 3 * spread[32], "32 latent dimensions stand out of the noise"
    assert spread[32:].mean() == pytest.approx(0.3**2, rel=0.1)
    # Neighbours are far nearer than strangers, which is what makes it easy for a graph.
    near = -exact_search(clustered_128(20_000)[:50], clustered_128(20_000), 2, Metric.EUCLID).scores[:, 1].mean()
    pairs = np.linalg.norm(vectors[:5_000] - vectors[5_000:10_000], axis=1).mean()
    assert near < 0.6 * pairs


def test_hubs_have_unit_length_and_are_everywhere() -> None:
    vectors = hubs_256(6_000)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    queries, rest = vectors[:1_000], vectors[1_000:]
    rows = exact_search(queries, rest, 10, Metric.COSINE).rows
    counts = np.bincount(rows.ravel(), minlength=len(rest))
    assert counts.max() > 15 * counts.mean(), "some points are a neighbour of very many"
    flat = np.sort(counts)[::-1]
    assert flat[: len(rest) // 10].sum() > 0.4 * counts.sum()
