"""Rows in chunks of bounded size: what an import holds in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vss.jobs.sources.row import Row

CHUNK_ROWS = 1_024
CHUNK_BYTES = 16 << 20
"""Rows and bytes of a chunk, whichever is reached first."""


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in chunks of `CHUNK_ROWS` or `CHUNK_BYTES`."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += row.size
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
