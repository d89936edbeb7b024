"""gzip and zstd, read as a stream."""

from __future__ import annotations

import zlib
from typing import BinaryIO, cast

import pyarrow as pa

from vss.errors import invalid

CODECS = {".gz": "gzip", ".zst": "zstd"}


class Decompressed:
    """What a compressed file holds; its `read` raises VssError (INVALID) where the file is broken or ends early."""

    def __init__(self, file: BinaryIO, ending: str) -> None:
        self._codec = CODECS[ending]
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), self._codec)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        try:
            return cast(bytes, self._stream.read(size))
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            raise invalid(
                f"the {self._codec} file cannot be read: {error}", hint="check that it is whole", field="uri"
            ) from error
