"""The gate that every vector passes: shape, dtype, finiteness, size, and unit length under Cosine.

NaN makes FAISS searches hang and graphs corrupt (faiss #5025, #5219); 1e30 ranks on top of every query
(qdrant #9201). So nothing else in the project ever sees such a value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vss.errors import VssError, invalid
from vss.types import Mask, Metric, Vectors

MAX_DIM = 65_536
"""Longest vector accepted, in components (Qdrant's limit)."""

MAX_COMPONENT = 1e15
"""Largest magnitude of a component: 65,536 squares of it still add up to a finite float32."""


def as_vectors(values: ArrayLike, dim: int, metric: Metric, *, field: str = "vector") -> Vectors:
    """`(n, dim)` float32 in C order, ready to store or search: normalised under Cosine, as Qdrant returns them.

    Takes `(dim,)` or `(n, dim)`. Never writes into its input.
    Raises VssError (INVALID) naming the first bad row.
    """
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
            array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(
            "got a vector that is not a rectangle of numbers", field=field, hint=f"send {dim} numbers"
        ) from error
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2:
        raise invalid(f"got an array of {array.ndim} dimensions, wanted vectors of {dim} numbers", field=field)
    if array.shape[1] != dim:
        raise invalid(
            f"got a vector of {array.shape[1]} numbers, wanted {dim}",
            field=field,
            hint="the collection's size is set when it is created",
        )
    bad = faults(array, metric)
    if bad.any():
        row = int(np.argmax(bad))
        where = field if array.shape[0] == 1 else f"{field}[{row}]"
        raise describe_fault(array[row], where)
    return normalised(array) if metric is Metric.COSINE else np.ascontiguousarray(array)


def faults(array: Vectors, metric: Metric) -> Mask:
    """`(n,)` True where a row must be refused: NaN, Inf, a component over MAX_COMPONENT, or zero under Cosine."""
    with np.errstate(invalid="ignore"):
        largest = np.abs(array).max(axis=1, initial=0.0)
    bad: Mask = ~(largest <= MAX_COMPONENT)
    if metric is Metric.COSINE:
        bad |= largest == 0.0
    return bad


def describe_fault(vector: Vectors, field: str) -> VssError:
    """The error for one row `(dim,)` that `faults` marked."""
    finite = np.isfinite(vector)
    if not finite.all():
        at = int(np.argmin(finite))
        return invalid(f"got {vector[at]} at position {at}, wanted a finite number", field=field)
    at = int(np.argmax(np.abs(vector)))
    if abs(vector[at]) > MAX_COMPONENT:
        return invalid(
            f"got {vector[at]:g} at position {at}, wanted at most {MAX_COMPONENT:g} in magnitude", field=field
        )
    return invalid(
        "got a zero vector, which has no direction under Cosine",
        field=field,
        hint="leave the point out, or create the collection with Dot or Euclid",
    )


def normalised(array: Vectors) -> Vectors:
    """A copy whose rows have length 1; float64 inside, so that tiny and huge rows keep their direction."""
    wide = array.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return np.ascontiguousarray(wide, dtype=np.float32)
