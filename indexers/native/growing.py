"""Codes in memory of rows that go on coming: what is written is scanned as fast as what is built."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.choose import CODED_FROM
from indexers.flat import Flat, FlatGrowing
from indexers.native import _kernel
from indexers.native.coded import Coded, CodedBuilder
from indexers.native.codes import searcher_of
from indexers.native.quantise import Quantiser, choose, codes_as_well, some, still_serves, stride_of
from indexers.native.sketches import LEAST_ROWS, moments_of, sketch_bytes
from vss.types import Metric, Vectors


class CodedGrowing:
    """`vss.protocols.Growing`: rows are coded as they come, and all anew when the codes serve the later ones badly."""

    def __init__(self, metric: Metric, dim: int) -> None:
        self._spec = CodedBuilder().spec(metric, dim, {})
        self._few = FlatGrowing(metric, dim)
        self._quantiser: Quantiser | None = None
        self._fitted = 0
        self._coded = 0
        self._codes: NDArray[Any] = np.empty((0, 0), np.uint8)
        self._extra = np.empty(0, np.float32)
        self._moments: NDArray[np.float32] | None = None
        self._sketched = 0
        self._sketches = np.empty((0, sketch_bytes(dim)), np.uint8)

    def index(self, vectors: Vectors) -> Flat | Coded:
        """As `vss.protocols.Growing.index`."""
        count = len(vectors)
        if count < CODED_FROM:
            return self._few.index(vectors)
        if self._quantiser is None or count >= 2 * self._fitted:
            self._quantiser = self._fit(vectors)
        self._reserve(count, self._quantiser)
        if self._coded < count:
            new = slice(self._coded, count)
            self._codes[new], self._extra[new] = self._quantiser.encode(vectors[new])
            self._coded = count
        arrays: dict[str, NDArray[Any]] = {
            "codes": self._codes[:count],
            "scales": np.array([self._quantiser.scale], np.float64),
        }
        if self._quantiser.centre is not None:
            arrays["centre"] = self._quantiser.centre
        if self._quantiser.extra:
            arrays["extra"] = self._extra[:count]
        if self._quantiser.form == "u8" and count >= LEAST_ROWS:
            arrays |= self._sketch(count)
        return Coded(self._spec, searcher_of(self._spec.metric, arrays, vectors), count)

    def anew(self) -> CodedGrowing:
        """As `vss.protocols.Growing.anew`: with the same quantiser for as long as it serves."""
        other = CodedGrowing(self._spec.metric, self._spec.dim)
        other._quantiser = self._quantiser
        return other

    def _fit(self, vectors: Vectors) -> Quantiser:
        """The quantiser so far where it serves these too, else another one, by which all are coded anew."""
        known, metric, fitted = self._quantiser, self._spec.metric, self._fitted
        self._fitted = len(vectors)
        self._moments = None
        if known is not None:
            new = some(vectors[fitted:])
            if codes_as_well(known, new):
                return known
            old = some(vectors[:fitted])
            if still_serves(known, len(old), np.concatenate((old, new)), metric):
                return known
        self._coded = 0
        return choose(some(vectors), metric)

    def _reserve(self, count: int, quantiser: Quantiser) -> None:
        """Room for so many rows. Always new arrays: an index that was given reads the old ones."""
        form = np.uint8 if quantiser.form == "u8" else np.float16
        if self._coded and count <= len(self._codes):
            return
        room = max(CODED_FROM, len(self._codes))
        while room < count:
            room *= 2
        codes = np.zeros((room, stride_of(self._spec.dim)), form)
        extra = np.zeros(room, np.float32)
        if self._coded:
            codes[: self._coded] = self._codes[: self._coded]
            extra[: self._coded] = self._extra[: self._coded]
        self._codes, self._extra = codes, extra

    def _sketch(self, count: int) -> dict[str, NDArray[Any]]:
        """The sketches of so many rows, which are coded."""
        blocks = -(-len(self._codes) // int(_kernel.BLOCK))
        if self._moments is None or blocks > len(self._sketches):
            # As above: always a new array.
            self._moments = moments_of(self._codes[:count], self._spec.dim)
            self._sketches = np.zeros((blocks, sketch_bytes(self._spec.dim)), np.uint8)
            self._sketched = 0
        if count > self._sketched:
            rows = count - self._sketched
            _kernel.sketch(self._codes, self._sketched, rows, self._moments, self._sketches)
            self._sketched = count
        return {"sketches": self._sketches[: -(-count // int(_kernel.BLOCK))], "moments": self._moments}
