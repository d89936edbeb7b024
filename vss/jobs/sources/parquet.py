"""Parquet, read in record batches: of each row group only the pages at hand are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vss.errors import VssError, invalid
from vss.jobs.sources.row import Row

BATCH_ROWS = 1_024
BUFFER_BYTES = 1 << 20


class Parquet:
    """A Parquet file. The column of vectors becomes one array per row without a Python number in between.

    total: rows of the file
    VssError (INVALID) when it is not Parquet, or has no such column.
    """

    def __init__(self, file: BinaryIO, vector_field: str | None) -> None:
        self._vector_field = vector_field
        try:
            self._file = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise _broken(error) from error
        names = self._file.schema_arrow.names
        if vector_field is not None and vector_field not in names:
            raise invalid(f"got no column {vector_field!r}, the file has {', '.join(names)}", field="vector_field")
        self.total = self._file.metadata.num_rows

    def rows(self) -> Iterator[Row]:
        """As `Source.rows`."""
        line = 0
        batches = self._file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                rows = self._rows(batch)
            except (pa.ArrowException, OSError) as error:
                raise _broken(error) from error
            size = batch.nbytes // max(1, batch.num_rows)
            for fields in rows:
                line += 1
                yield Row(line=line, fields=fields, size=size, end=line)

    def _rows(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        name = self._vector_field
        if name is None:
            return list(batch.to_pylist())
        column = batch.column(name)
        rows = list(batch.drop_columns([name]).to_pylist()) or [{} for _ in range(batch.num_rows)]
        for fields, vector in zip(rows, _vectors(column), strict=True):
            fields[name] = vector
        return rows


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


def _broken(error: Exception) -> VssError:
    return invalid(f"the Parquet file cannot be read: {error}", hint="check that it is whole")
