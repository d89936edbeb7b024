"""The gate of a bundle's arrays: what a REST write would refuse is refused here, and so is what does not hold together.

Raises VssError: CORRUPT for files that are not what the manifest says, INVALID for a point that may not be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vss import canary
from vss.errors import VssError, invalid
from vss.jobs.bundles.manifest import corrupt
from vss.points import check_payload, id_key, key_id
from vss.schema import VectorSchema
from vss.storage.ids import Blobs
from vss.types import Metric, PointId, Rows, Vectors
from vss.vectors import describe_fault, faults

CHUNK_BYTES = 16 << 20
"""Bytes of vectors that are checked at a time."""

UNIT_TOLERANCE = 1e-4
"""How far from 1 a vector's length may be under Cosine; float32 rounding of 65,536 components stays below 1e-5."""


def opened(path: Path, uri: str, what: str, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """The array of a `.npy` file, mapped, of exactly this dtype and shape (None: any length)."""
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r").view(np.ndarray)
    except (ValueError, OSError) as error:
        raise corrupt(uri, f"{what} is not a .npy file of numbers: {error}") from error
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits or not array.flags.c_contiguous:
        wanted = tuple("n" if want is None else want for want in shape)
        raise corrupt(uri, f"{what} has {array.dtype} of shape {array.shape}, wanted {np.dtype(dtype)} of {wanted}")
    return array


def opened_blobs(paths: tuple[Path, Path], uri: str, what: str, rows: int) -> Blobs:
    """Byte strings of so many rows, from their offsets and bytes."""
    offsets = opened(paths[0], uri, f"{what}.offsets", np.int64, (rows + 1,))
    data = opened(paths[1], uri, f"{what}.bytes", np.uint8, (None,))
    try:
        return Blobs(offsets, data)
    except ValueError as error:
        raise corrupt(uri, f"{what}: {error}") from error


def checked_keys(ids: Blobs) -> Iterator[tuple[bytes, PointId]]:
    """Each row's key and id."""
    for row in range(len(ids)):
        key = ids[row]
        try:
            point_id = key_id(key)
            sound = id_key(point_id) == key
        except UnicodeDecodeError:
            sound = False
        except VssError as error:
            raise invalid(f"row {row}: {error.message}", field="id") from error
        if not sound:
            raise invalid(f"row {row}: got bytes that are no id, wanted a string or an integer", field="id")
        yield key, point_id


def checked_payload(payload: bytes, row: int, point_id: PointId) -> bytes:
    """The payload of a row, a JSON object within the limits."""
    where = f"payload of row {row}, id {point_id!r}"
    if check_payload(payload, where=where) is not payload:
        raise invalid("got nothing, wanted a JSON object", field=where)
    return payload


def check_vectors(vectors: Vectors, schema: VectorSchema, what: str, progress: Callable[[int], None]) -> None:
    """`(n, dim)` of finite numbers, none too large, of length 1 under Cosine."""
    step = max(1, CHUNK_BYTES // (4 * schema.dim))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step]
        bad = faults(block, schema.metric)
        if bad.any():
            at = int(np.argmax(bad))
            raise describe_fault(block[at], f"{what}[{start + at}]")
        if schema.metric is Metric.COSINE:
            lengths = np.linalg.norm(block.astype(np.float64), axis=1)
            far = np.abs(lengths - 1.0) > UNIT_TOLERANCE
            if far.any():
                at = int(np.argmax(far))
                raise invalid(
                    f"got a vector of length {lengths[at]:.6g}, wanted 1: bundles hold what a collection stores",
                    field=f"{what}[{start + at}]",
                    hint="build it with vss index --out, which normalises",
                )
        progress(len(block))


def check_places(places: Rows, uri: str, what: str, rows: int) -> None:
    """`(m,)` the rows that have a vector: rising, and rows of the segment."""
    if len(places) and (places[0] < 0 or places[-1] >= rows or bool((np.diff(places) <= 0).any())):
        raise corrupt(uri, f"{what}: its rows are not rising numbers below {rows}")


def check_canaries(vectors: Vectors, what: str) -> None:
    """`(32, dim)` of finite numbers; what a model makes of an empty text may be zero."""
    bad = faults(vectors, Metric.DOT)
    if bad.any():
        at = int(np.argmax(bad))
        raise describe_fault(vectors[at], f"{what}[{at}]")


CANARIES = len(canary.TEXTS)
