"""Sketches: two bits a component, by which a scan rules out most rows before it reads their codes.

sketches.npy  (b, bytes) uint8, blocks of `_kernel.BLOCK` rows (see kernel/sketches.hpp)
moments.npy   (2, dim) float32, mean and spread of each component of the codes

Only of codes that are bytes: what needs half floats has components that four levels cannot tell apart. And only where
all rows are scanned: beside a graph they would take a tenth of its memory, for the few filters that most rows pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.quantise import LEVELS, places
from indexers.params import corrupt
from vss.storage.npy import NpyWriter, save_npy

FILES = ("sketches", "moments")

LEAST_ROWS = 512
"""An index of fewer rows has none: its codes are read in the time of the first estimates."""

BLOCKS = 512
"""That are written at a time."""


def sketch_bytes(dim: int) -> int:
    """Bytes of a block."""
    return int(_kernel.BLOCK) * (-(-dim // 4) + np.dtype(np.float32).itemsize)


def moments_of(codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:
    """`(2, dim)` mean and spread of each component of some of the codes."""
    sample = codes[places(len(codes))][:, :dim].astype(np.float32) - np.float32(LEVELS + 1)
    return np.stack((sample.mean(axis=0), sample.std(axis=0)))


def write_sketches(codes: NDArray[Any], dim: int, out: Path) -> None:
    """Write those of `(n, stride)` codes; nothing where they are few, or not bytes."""
    if len(codes) < LEAST_ROWS or codes.dtype != np.uint8:
        return
    moments = moments_of(codes, dim)
    save_npy(out / "moments.npy", moments)
    with NpyWriter(out / "sketches.npy", np.dtype(np.uint8), (sketch_bytes(dim),)) as writer:
        rows = BLOCKS * int(_kernel.BLOCK)
        for start in range(0, len(codes), rows):
            part = codes[start : start + rows]
            blocks = np.zeros((-(-len(part) // int(_kernel.BLOCK)), sketch_bytes(dim)), np.uint8)
            _kernel.sketch(part, 0, len(part), moments, blocks)
            writer.append(blocks)


def sketch(searcher: _kernel.Searcher, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give an opened index its sketches, where there are any. VssError (CORRUPT)."""
    there = [name for name in FILES if name in arrays]
    if not there:
        return
    if len(there) < len(FILES):
        raise corrupt(f"got {there[0]}.npy, wanted {' and '.join(f'{name}.npy' for name in FILES)} or neither")
    try:
        searcher.sketch(arrays["sketches"], arrays["moments"])
    except (ValueError, TypeError) as error:
        raise corrupt(f"the engine refuses the sketches: {error}") from error
