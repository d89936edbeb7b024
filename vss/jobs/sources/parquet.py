"""Parquet, read in record batches: of each row group only the pages at hand are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from vss.jobs.sources.batches import BATCH_ROWS, broken, check_column, fields_of
from vss.jobs.sources.row import Row

BUFFER_BYTES = 1 << 20


class Parquet:
    """A Parquet file.

    total: rows of the file
    VssError (INVALID) when it is not Parquet, or has no such column.
    """

    def __init__(self, file: BinaryIO, vector_field: str | None) -> None:
        self._vector_field = vector_field
        try:
            self._file = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise broken("Parquet", error) from error
        check_column(self._file.schema_arrow, vector_field)
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
                rows = fields_of(batch, self._vector_field)
            except (pa.ArrowException, OSError) as error:
                raise broken("Parquet", error) from error
            size = batch.nbytes // max(1, batch.num_rows)
            for fields in rows:
                line += 1
                yield Row(line=line, fields=fields, size=size, end=line)
