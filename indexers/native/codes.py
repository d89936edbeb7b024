"""Codes as files, each a plain `.npy`: what `quantise` makes of vectors, and all that is needed to read it again.

codes.npy      (n, stride) uint8 or float16
scales.npy     (4,) float64: codes per unit, the part clipped, the squared error, the sample's recall
centre.npy     (dim,) float32, where one is taken off
extra.npy      (n,) float32, where a row's score needs more than its code

Beside them may stand sketches of the codes (`sketches`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.quantise import BLOCK_ROWS, Quantiser, extra_of, stride_of
from indexers.native.sketches import FILES as SKETCHES
from indexers.native.sketches import sketch
from indexers.params import corrupt
from vss.protocols import IndexSpec
from vss.storage.npy import NpyWriter, map_npy, save_npy
from vss.types import Metric, Rows, Vectors

MEASURES = {Metric.COSINE: "dot", Metric.DOT: "dot", Metric.EUCLID: "euclid"}
"""What the kernel calls the metrics that it knows."""

FILES = ("codes", "scales")
MAYBE = ("centre", "extra", *SKETCHES)


def write_codes(
    blocks: Iterable[tuple[NDArray[Any], NDArray[np.float32]]], quantiser: Quantiser, dim: int, out: Path
) -> NDArray[Any]:
    """Write all that comes of a quantiser (`Quantiser.blocks`); the codes, mapped."""
    measured = (quantiser.scale, quantiser.clipped, quantiser.error, quantiser.recall)
    save_npy(out / "scales.npy", np.array(measured, np.float64))
    if quantiser.centre is not None:
        save_npy(out / "centre.npy", quantiser.centre)
    dtype = np.uint8 if quantiser.form == "u8" else np.float16
    writer = NpyWriter(out / "codes.npy", dtype, (stride_of(dim),))
    extras = [np.empty(0, np.float32)]
    for codes, extra in blocks:
        writer.append(codes)
        extras.append(extra)
    writer.close()
    if quantiser.extra:
        save_npy(out / "extra.npy", np.concatenate(extras))
    return map_npy(out / "codes.npy")


def kept_blocks(arrays: Mapping[str, NDArray[Any]], kept: Rows) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """As `Quantiser.blocks`, of rows that have their codes."""
    extra = arrays.get("extra")
    for start in range(0, len(kept), BLOCK_ROWS):
        rows = kept[start : start + BLOCK_ROWS]
        yield arrays["codes"][rows], np.zeros(len(rows), np.float32) if extra is None else extra[rows]


def read_arrays(
    files: Mapping[str, Path], needed: Sequence[str], maybe: Sequence[str], dim: int
) -> dict[str, NDArray[Any]]:
    """The arrays of an index by name, mapped. VssError (CORRUPT); the engine checks what stands in them."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in (*needed, *maybe):
        path = files.get(f"{name}.npy")
        if path is not None:
            try:
                arrays[name] = map_npy(path)
            except (ValueError, OSError) as error:
                raise corrupt(f"{name}.npy cannot be read") from error
        elif name in needed:
            raise corrupt(f"got the files {sorted(files)}, wanted {name}.npy")
    codes, scales = arrays["codes"], arrays["scales"]
    if scales.shape != (4,) or scales.dtype != np.float64:
        raise corrupt("scales.npy is not four float64")
    if codes.ndim != 2 or codes.shape[1] != stride_of(dim):
        raise corrupt(f"got codes of shape {codes.shape}, wanted rows of {stride_of(dim)}")
    return arrays


def quantiser_of(arrays: Mapping[str, NDArray[Any]], spec: IndexSpec) -> Quantiser:
    """What made the codes of an index that nobody opened. VssError (CORRUPT)."""
    codes, centre, extra = arrays["codes"], arrays.get("centre"), arrays.get("extra")
    if codes.dtype not in (np.uint8, np.float16) or not np.isfinite(arrays["scales"]).all():
        raise corrupt(f"got codes of {codes.dtype} and the scales {arrays['scales'].tolist()}")
    needed = extra_of(spec.metric, centre)
    for name, array, shape in (("centre", centre, (spec.dim,)), ("extra", extra, (len(codes),))):
        if array is not None and (array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all()):
            raise corrupt(f"{name}.npy is not finite float32 of shape {shape}")
    if (extra is not None) != bool(needed):
        raise corrupt(f"got the arrays {sorted(arrays)}, wanted {'one' if needed else 'none'} of extra.npy")
    scale, clipped, error, recall = arrays["scales"].tolist()
    if not 1e-18 <= scale <= 1e18:
        raise corrupt(f"got the scale {scale}, wanted one from 1e-18 to 1e18")
    return Quantiser("u8" if codes.dtype == np.uint8 else "f16", scale, centre, needed, clipped, error, recall)


def searcher_of(
    metric: Metric, arrays: Mapping[str, NDArray[Any]], vectors: Vectors, graph: NDArray[np.int32] | None = None
) -> _kernel.Searcher:
    """The engine over `(n, dim)` vectors and their arrays. graph: None for one that only scans.

    VssError (CORRUPT) when they do not fit each other.
    """
    if len(arrays["codes"]) != len(vectors):
        raise corrupt(f"got codes of {len(arrays['codes'])} rows, wanted {len(vectors)}")
    try:
        searcher = _kernel.Searcher(
            MEASURES[metric],
            arrays["codes"],
            float(arrays["scales"][0]),
            arrays.get("centre"),
            arrays.get("extra"),
            np.empty((len(vectors), 0), np.int32) if graph is None else graph,
            np.zeros(1, np.int32)[: len(vectors)] if graph is None else arrays["entries"],
            vectors,
        )
    except (ValueError, TypeError) as error:
        raise corrupt(f"the engine refuses the index: {error}") from error
    sketch(searcher, arrays)
    return searcher
