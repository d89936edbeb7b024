"""Step 1: the documentation of Python's standard library as JSON Lines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vss.jobs.stdlib_docs import Document, documents

ALWAYS = frozenset({"shutil.make_archive", "zipfile.ZipFile", "gzip.GzipFile", "threading.Thread.join"})
"""Documents that a sample keeps, since the demo names them."""


def write(path: Path, limit: int | None) -> list[Document]:
    """Write the documents, all or about `limit` spread evenly, and return them."""
    found = list(documents())
    if limit is not None and limit < len(found):
        step = len(found) / limit
        kept = {int(number * step) for number in range(limit)}
        found = [one for number, one in enumerate(found) if number in kept or one["id"] in ALWAYS]
    encoder = msgspec.json.Encoder()
    path.write_bytes(encoder.encode_lines(found))
    return found
