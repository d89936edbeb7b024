"""Vectors become codes: one unsigned byte a component where that ranks them well, else a half float.

    u8   128 + scale * (x - centre), rounded, 1 to 255; the scale is that of the clipping with the least squared error
    f16  scale * (x - centre) as a half float, for what bytes serve badly: one huge component, norms that differ widely

Which of them, and whether a centre is taken off, is decided by what was measured on a sample: how many of its true
nearest ten stand among the best `AMONG` by codes. Where a few wild rows spoil centre and scale for all the others,
these are made for the others (`BULK`), and the wild ones are brought into the range that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from vss.distance import exact_search
from vss.recall import recall_at
from vss.types import Metric, Rows, Scores, Vectors

SAMPLE_ROWS, SAMPLE_QUERIES, NEAREST, AMONG = 8_192, 128, 10, 20

ENOUGH = 0.995
"""Part of the true nearest ten that bytes must have among their best `AMONG` to be taken."""

CLIPPED = (0.0, 1e-5, 1e-4, 1e-3)
"""Parts of the components that a clipping may cut."""

BULK = 0.99
"""Part of the rows, those nearest to the median, that a plan is made for where one for all rows serves badly."""

AS_WELL = 3
"""Times the error of the sample that a quantiser was made for, up to which others are coded as well. (With 30 times
that error all of the nearest ten were among the best 20 by codes, of 8,000 x 128 clustered and 8,000 x 384 text.)"""

LONGEST = 64
"""So many rows with the largest components are always in the sample: under Dot they are what everybody finds."""

FEW_ROWS = 1_024
BLOCK_ROWS = 16_384
LEVELS = 127
LARGEST_HALF = 65_504
LEAST_SCALE, MOST_SCALE = 1e-18, 1e18


@dataclass(frozen=True, slots=True)
class Quantiser:
    """How vectors become codes, and what that was measured to cost.

    form:     "u8" or "f16"
    scale:    codes per unit
    centre:   `(dim,)` float32 that is taken off first, or None
    extra:    what a row's score needs beyond its code: "" nothing, "norm" minus half its squared length after the
              centre was taken off (Cosine with a centre, and Euclid), "centre" its product with the centre (Dot)
    clipped:  the part of the components that the scale cuts
    error:    mean squared error of a code, as a part of the mean squared length
    recall:   part of the true nearest 10 found among the best 20 by codes, on the sample
    """

    form: str
    scale: float
    centre: NDArray[np.float32] | None
    extra: str
    clipped: float = 0.0
    error: float = 0.0
    recall: float = 1.0

    def blocks(self, vectors: Vectors) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
        """(codes `(b, stride)`, extra `(b,)`) of `(n, dim)` vectors, block by block."""
        for start in range(0, len(vectors), BLOCK_ROWS):
            yield self.encode(vectors[start : start + BLOCK_ROWS])

    def encode(self, vectors: Vectors) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """One block; see `blocks`."""
        moved = self._moved(vectors)
        count, dim = moved.shape
        codes: NDArray[Any]
        if self.form == "u8":
            codes = np.full((count, stride_of(dim)), LEVELS + 1, np.uint8)
            np.add(
                np.clip(np.rint(moved * np.float32(self.scale)), -LEVELS, LEVELS),
                LEVELS + 1,
                out=codes[:, :dim],
                casting="unsafe",
            )
        else:
            codes = np.zeros((count, stride_of(dim)), np.float16)
            codes[:, :dim] = np.clip(moved * np.float32(self.scale), -LARGEST_HALF, LARGEST_HALF)
        return codes, self._extra(moved)

    def _extra(self, moved: Vectors) -> NDArray[np.float32]:
        if self.extra == "norm":
            norms: NDArray[np.float32] = np.einsum("nd,nd->n", moved, moved) * np.float32(-0.5)
            return norms
        if self.extra == "centre":
            assert self.centre is not None
            return (moved @ self.centre).astype(np.float32)
        return np.zeros(len(moved), np.float32)

    def squares(self, vectors: Vectors) -> NDArray[np.float32]:
        """`(b,)` squared lengths of vectors as the scores see them, the centre taken off."""
        moved = self._moved(vectors)
        found: NDArray[np.float32] = np.einsum("nd,nd->n", moved, moved)
        return found

    def _moved(self, vectors: Vectors) -> Vectors:
        """The centre taken off. What lies far beyond the range is brought to its rim as a whole: a code that was cut
        component by component would point elsewhere, and beside its true length its own vector would not find it."""
        vectors = np.asarray(vectors)
        moved: Vectors = vectors if self.centre is None else vectors - self.centre
        range_ = (LEVELS if self.form == "u8" else LARGEST_HALF) / self.scale
        sizes = np.maximum(moved.max(axis=1, initial=0), -moved.min(axis=1, initial=0))
        wild = sizes > 2 * range_
        if wild.any():
            moved = moved.copy()
            moved[wild] *= (range_ / sizes[wild, None]).astype(np.float32)
        return moved

    def decode(self, codes: NDArray[Any], dim: int) -> Vectors:
        """`(b, dim)` float32 that the codes stand for, the centre still taken off."""
        values = codes[:, :dim].astype(np.float32)
        return (values - (LEVELS + 1 if self.form == "u8" else 0)) / np.float32(self.scale)


def stride_of(dim: int) -> int:
    """Components of a padded row. Rows of more than half a cache line (64 bytes) begin at one."""
    pad = int(_kernel.PAD) if dim <= _kernel.PAD else 2 * int(_kernel.PAD)
    return -(-dim // pad) * pad


def some(vectors: Vectors) -> Vectors:
    """Rows to choose by where somebody waits for it: up to `FEW_ROWS`, evenly taken."""
    return vectors if len(vectors) <= FEW_ROWS else vectors[places(len(vectors))]


def places(count: int) -> Rows:
    """Up to `FEW_ROWS` row numbers of so many, evenly taken."""
    return np.linspace(0, count - 1, min(FEW_ROWS, count)).astype(np.int64)


def choose(vectors: Vectors, metric: Metric, seed: int = 0) -> Quantiser:
    """The quantiser that serves these `(n, dim)` vectors: the smallest codes that rank a sample well."""
    sample = _sample(vectors, seed)
    if not len(sample):
        return Quantiser("u8", 1.0, None, "norm" if metric is Metric.EUCLID else "")
    return _chosen(sample, metric)


def codes_as_well(made: Quantiser, vectors: Vectors) -> bool:
    """Whether other `(n, dim)` vectors lose hardly more by their codes than those that a quantiser was made for.

    It serves them too then, which is seen far more cheaply than by asking (`still_serves`)."""
    if made.form != "u8" or made.recall < ENOUGH or len(vectors) < 2:
        return False
    moved = vectors if made.centre is None else vectors - made.centre
    off = made.decode(made.encode(vectors)[0], vectors.shape[1]) - moved
    spread = moved - moved.mean(axis=0)
    lost, whole = (float(np.einsum("nd,nd->", one, one, dtype=np.float64)) for one in (off, spread))
    return lost <= AS_WELL * made.error * whole


def still_serves(made: Quantiser, kept: int, vectors: Vectors, metric: Metric, seed: int = 0) -> bool:
    """Whether a quantiser of other vectors serves these `(n, dim)` too, of which it knows the first `kept`.

    Asked on a sample half of which are the others, where there are so many, and these are the queries. Where it finds
    too few, or takes half floats, what `choose` would take now must be of the same form and find no more.
    """
    new = _sample(vectors[kept:], seed)[: SAMPLE_ROWS // 2]
    sample = np.concatenate((new, _sample(vectors[:kept], seed)[: SAMPLE_ROWS - len(new)]))
    recall = _measured(made, *_asked(sample, metric)).recall
    if made.form == "u8" and recall >= ENOUGH:
        return True
    best = _chosen(sample, metric)
    return best.form == made.form and recall >= min(ENOUGH, best.recall)


def extra_of(metric: Metric, centre: NDArray[np.float32] | None) -> str:
    """What the scores of rows need beyond their codes: `Quantiser.extra`."""
    if metric is Metric.EUCLID:
        return "norm"
    if centre is None:
        return ""
    return "norm" if metric is Metric.COSINE else "centre"


def _chosen(sample: Vectors, metric: Metric) -> Quantiser:
    middle = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    asked = _asked(sample, metric)
    best: Quantiser | None = None
    for plan in _plans(sample, middle, metric):
        made = _measured(plan, *asked)
        if made.recall >= ENOUGH:
            return made
        if best is None or made.recall > best.recall:
            best = made
    assert best is not None
    return best


def _plans(sample: Vectors, middle: NDArray[np.float32], metric: Metric) -> Iterator[Quantiser]:
    """What is tried, the cheapest first."""
    if metric is not Metric.EUCLID:
        yield _bytes(None, extra_of(metric, None), sample)
    extra = extra_of(metric, middle)
    yield _bytes(middle, extra, sample)
    away = np.abs(sample - np.median(sample, axis=0)).max(axis=1)
    bulk = sample[away <= np.quantile(away, BULK)]
    middle = bulk.mean(axis=0, dtype=np.float64).astype(np.float32)
    yield _bytes(middle, extra, bulk)
    yield _halves(middle, extra, bulk)


def _asked(sample: Vectors, metric: Metric) -> tuple[Vectors, Vectors, Rows]:
    """(queries, rows, the rows' true nearest to them): the first ones of a sample are asked for among the others."""
    queries = sample[: min(SAMPLE_QUERIES, max(1, len(sample) // 4))]
    rows = sample[len(queries) :] if len(sample) > len(queries) else sample
    return queries, rows, exact_search(queries, rows, min(NEAREST, len(rows)), metric).rows


def _sample(vectors: Vectors, seed: int) -> Vectors:
    count = len(vectors)
    rows = np.random.default_rng(seed).permutation(count)[:SAMPLE_ROWS] if count <= 10 * SAMPLE_ROWS else None
    if rows is None:
        rows = np.unique(np.random.default_rng(seed).integers(0, count, SAMPLE_ROWS))
        np.random.default_rng(seed).shuffle(rows)
    sample = np.ascontiguousarray(vectors[np.sort(rows)])[np.argsort(np.argsort(rows))]
    if count <= SAMPLE_ROWS:
        return sample
    lengths = np.concatenate([np.abs(vectors[at : at + BLOCK_ROWS]).max(axis=1) for at in range(0, count, BLOCK_ROWS)])
    longest = np.setdiff1d(np.argpartition(lengths, -LONGEST)[-LONGEST:], rows)
    return np.concatenate((sample[:SAMPLE_QUERIES], vectors[longest], sample[SAMPLE_QUERIES:]))


def _bytes(centre: NDArray[np.float32] | None, extra: str, sample: Vectors) -> Quantiser:
    moved = sample if centre is None else sample - centre
    sizes = np.abs(moved)
    largest = float(sizes.max(initial=0.0)) or 1.0
    total = float(np.einsum("nd,nd->", moved, moved, dtype=np.float64)) or 1.0
    best: Quantiser | None = None
    for clipped in CLIPPED:
        top = largest if clipped == 0 else float(np.quantile(sizes, 1 - clipped))
        if top <= 0:
            continue
        made = Quantiser("u8", _kept(LEVELS / top), centre, extra, clipped)
        off = np.clip(np.rint(moved * np.float32(made.scale)), -LEVELS, LEVELS) / np.float32(made.scale) - moved
        error = float(np.einsum("nd,nd->", off, off, dtype=np.float64)) / total
        if best is None or error < best.error:
            best = Quantiser("u8", made.scale, centre, extra, clipped, error)
    assert best is not None
    return best


def _halves(centre: NDArray[np.float32], extra: str, sample: Vectors) -> Quantiser:
    """Typical components become 1, far from the halves that have lost bits; the sample's largest stays within range."""
    sizes = np.abs(sample - centre)
    sizes = sizes[sizes > 0]
    scale = min(1 / float(np.median(sizes)), LARGEST_HALF / float(sizes.max())) if len(sizes) else 1.0
    return Quantiser("f16", _kept(scale), centre, extra)


def _kept(scale: float) -> float:
    """Within what the engine takes."""
    return min(max(scale, LEAST_SCALE), MOST_SCALE)


def _measured(made: Quantiser, queries: Vectors, rows: Vectors, truth: Rows) -> Quantiser:
    codes, extra = made.encode(rows)
    moved: Vectors = queries if made.centre is None else queries - made.centre
    if made.form == "u8":
        # As the kernel does: 64 levels on either side.
        largest = np.maximum(np.abs(moved).max(axis=1, keepdims=True), np.float32(1e-30))
        levels = (np.float32(64) / largest).astype(np.float32)
        moved = (np.rint(moved * levels) / levels).astype(np.float32)
    scores: Scores = moved @ made.decode(codes, rows.shape[1]).T
    scores += extra
    among = min(AMONG, scores.shape[1])
    found = np.argpartition(-scores, among - 1, axis=1)[:, :among]
    recall = recall_at(found, truth)
    return Quantiser(made.form, made.scale, made.centre, made.extra, made.clipped, made.error, recall)
