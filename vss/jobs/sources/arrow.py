"""Arrow IPC, the file (`.arrow`, Feather version 2) and the stream; which of them, its first bytes say.

One record batch at a time is in memory, of a file on a local disk only its pages at hand: there it is mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from vss.jobs.sources.batches import broken, check_column, fields_of, slices
from vss.jobs.sources.row import Row

_MAGIC = b"ARROW1"


class ArrowIpc:
    """An Arrow IPC file or stream.

    local: path of the file when it lies on a local disk
    total: bytes of the file
    VssError (INVALID) when it is neither, or has no such column.
    """

    def __init__(self, file: BinaryIO, total: int, vector_field: str | None, local: str | None) -> None:
        self.total = total
        self._vector_field = vector_field
        try:
            indexed = file.read(len(_MAGIC)) == _MAGIC
            file.seek(0)
            self._file = pa.memory_map(local) if local is not None and total else pa.PythonFile(file, mode="r")
            opened = pa.ipc.open_file(self._file) if indexed else pa.ipc.open_stream(self._file)
        except (pa.ArrowException, OSError) as error:
            raise broken("Arrow", error) from error
        self._opened: pa.RecordBatchFileReader | pa.RecordBatchStreamReader = opened
        check_column(opened.schema, vector_field)

    def rows(self) -> Iterator[Row]:
        """As `Source.rows`."""
        line, batches = 0, self._batches()
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                # Offsets that point outside their buffers would be read as they are.
                batch.validate(full=True)
                pieces = slices(batch)
                end, size = min(self._file.tell(), self.total), batch.nbytes // max(1, batch.num_rows)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise broken("Arrow", error) from error
            for piece in pieces:
                for fields in self._fields(piece):
                    line += 1
                    yield Row(line=line, fields=fields, size=size, end=end)

    def _fields(self, piece: pa.RecordBatch) -> list[dict[str, Any]]:
        try:
            return fields_of(piece, self._vector_field)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise broken("Arrow", error) from error

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if isinstance(self._opened, pa.RecordBatchFileReader):
            for number in range(self._opened.num_record_batches):
                yield self._opened.get_batch(number)
        else:
            yield from self._opened
