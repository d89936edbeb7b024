"""Every operation of the HTTP face. The hottest come first: the router tries them in this order."""

from __future__ import annotations

from api.operations import Operation
from api.routes import (
    aliases,
    collections,
    embeddings,
    fields,
    generations,
    health,
    internal,
    points,
    query,
    recommend,
    writes,
)
from api.routes.documentation import documented

OPERATIONS: tuple[Operation, ...] = documented(
    (
        *query.OPERATIONS,
        *recommend.OPERATIONS,
        *writes.OPERATIONS,
        *points.OPERATIONS,
        *aliases.OPERATIONS,
        *fields.OPERATIONS,
        *generations.OPERATIONS,
        *collections.OPERATIONS,
        *embeddings.OPERATIONS,
        *health.OPERATIONS,
        *internal.OPERATIONS,
    )
)
