"""Examples as a query: the mean of what is liked, moved away from the mean of what is disliked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vss.errors import invalid
from vss.schema import VectorSchema
from vss.types import Vectors
from vss.vectors import as_vectors, faults


def average_vector(
    schema: VectorSchema, liked: Sequence[Vectors], disliked: Sequence[Vectors], *, field: str
) -> Vectors:
    """`(1, dim)`: `mean(liked) + mean(liked) - mean(disliked)` of `(dim,)` vectors, as Qdrant's `average_vector`.

    Raises VssError (INVALID) when the two sides cancel each other out, which leaves no direction under Cosine.
    """
    vector = np.mean(liked, axis=0)
    if len(disliked):
        vector = vector + vector - np.mean(disliked, axis=0)
    if faults(vector[None, :], schema.metric).any():
        raise invalid(
            "the liked and disliked items cancel each other out",
            field=field,
            hint="leave out items that stand on both sides",
        )
    return as_vectors(vector, schema.dim, schema.metric)
