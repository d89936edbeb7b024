"""Rows of an Arrow record batch; the column of vectors becomes arrays without a Python number in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vss.errors import VssError, invalid

BATCH_ROWS = 1_024


def check_column(schema: pa.Schema, vector_field: str | None) -> None:
    """VssError (INVALID) when there is no such column."""
    if vector_field is not None and vector_field not in schema.names:
        raise invalid(f"got no column {vector_field!r}, the file has {', '.join(schema.names)}", field="vector_field")


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most `BATCH_ROWS` rows."""
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(start, BATCH_ROWS)


def fields_of(batch: pa.RecordBatch, vector_field: str | None) -> list[dict[str, Any]]:
    """Each row by column name; a row's vector is a `(d,)` array, or None where it is null."""
    if vector_field is None:
        return list(batch.to_pylist())
    column = batch.column(vector_field)
    rows = list(batch.drop_columns([vector_field]).to_pylist()) or [{} for _ in range(batch.num_rows)]
    for fields, vector in zip(rows, _vectors(column), strict=True):
        fields[vector_field] = vector
    return rows


def broken(kind: str, error: Exception) -> VssError:
    """The error for a file that is not what its name says."""
    return invalid(f"the {kind} file cannot be read: {error}", hint="check that it is whole")


def _vectors(column: pa.Array) -> Sequence[Any]:
    """The rows of a list column as `(d,)` arrays, None where null; a null inside a row becomes NaN."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return list(column.to_pylist())
    # `flatten` leaves out null rows, so the lengths say where each row starts.
    lengths = np.asarray(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    values = column.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    return [
        values[end - length : end] if there else None
        for end, length, there in zip(ends.tolist(), lengths.tolist(), known.tolist(), strict=True)
    ]
