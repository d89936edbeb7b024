"""Which formats exist, by the end of a file's name. Loads only the reader that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import fsspec

from vss.errors import Code, VssError, invalid
from vss.jobs.sources.row import Source

FORMATS = (".jsonl", ".ndjson", ".parquet")


@contextmanager
def open_source(uri: str, *, vector_field: str | None = None) -> Iterator[Source]:
    """The rows behind a local path or a URI that fsspec opens (`file://`, `s3://` with its extra).

    VssError: NOT_FOUND when there is no such file; INVALID for an unknown format; STORAGE when it cannot be read.
    """
    ending = PurePosixPath(urlsplit(uri).path if "://" in uri else uri).suffix.lower()
    if ending not in FORMATS:
        raise invalid(f"got {uri!r}, wanted a name that ends in {', '.join(FORMATS)}", field="uri")
    try:
        handle = fsspec.open(uri, "rb").open()
    except FileNotFoundError as error:
        raise VssError(Code.NOT_FOUND, f"there is no file {uri}", field="uri") from error
    except (OSError, ValueError, ImportError) as error:
        raise VssError(Code.STORAGE, f"cannot open {uri}: {error}", field="uri") from error
    with handle as file:
        if ending == ".parquet":
            from vss.jobs.sources.parquet import Parquet

            yield Parquet(file, vector_field)
        else:
            from vss.jobs.sources.jsonl import JsonLines

            file.seek(0, 2)
            total = file.tell()
            file.seek(0)
            yield JsonLines(file, total)
