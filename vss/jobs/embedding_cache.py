"""Vectors of texts that were embedded before, so that a job that runs again does not embed again.

One SQLite file: sha256 of (fingerprint, text) -> the float32 bytes that the model made, exactly. It is a cache: when it
is damaged or of another format, delete it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

import apsw
import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Embedder
from vss.types import Progress, Role, Vectors, no_progress

SLICE = 256
"""Texts of one call of the model: progress and the cache advance that often."""


class EmbeddingCache:
    """The embeddings of documents, kept in one file. VssError (STORAGE) when it cannot be opened or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.hits = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(10_000)
            # What a power cut takes is embedded again.
            self._connection.pragma("journal_mode", "wal")
            self._connection.pragma("synchronous", "normal")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
            )
        except (apsw.Error, OSError) as error:
            raise self._failed(error) from error

    def get(self, fingerprint: str, texts: Sequence[str], dim: int) -> list[Vectors | None]:
        """The `(dim,)` vector of each text, None where it is not known."""
        found: list[Vectors | None] = []
        try:
            with self._connection:
                for text in texts:
                    key = _key(fingerprint, text)
                    data = self._connection.execute("SELECT vector FROM embeddings WHERE key = ?", (key,)).get
                    whole = isinstance(data, bytes) and len(data) == 4 * dim
                    found.append(np.frombuffer(cast(bytes, data), "<f4") if whole else None)
        except apsw.Error as error:
            raise self._failed(error) from error
        self.hits += sum(vector is not None for vector in found)
        return found

    def put(self, fingerprint: str, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep the `(len(texts), dim)` vectors."""
        rows = [
            (_key(fingerprint, text), row.astype("<f4").tobytes()) for text, row in zip(texts, vectors, strict=True)
        ]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
        except apsw.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> VssError:
        return VssError(
            Code.STORAGE,
            f"the embedding cache {self._path} failed: {error}",
            hint="delete the file, or choose another with --embedding-cache",
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def embed(
    embedder: Embedder, texts: Sequence[str], cache: EmbeddingCache | None, progress: Progress = no_progress
) -> Vectors:
    """`(len(texts), dim)` float32 of documents: from the cache, the rest by the model, longest texts first.

    Sorted by length a batch has little padding; the first one shows whether the memory is enough.
    """
    info = embedder.info
    out = np.empty((len(texts), info.dim), np.float32)
    known = cache.get(info.fingerprint, texts, info.dim) if cache else [None] * len(texts)
    missing = []
    for row, vector in enumerate(known):
        if vector is None:
            missing.append(row)
        else:
            out[row] = vector
    progress(len(texts) - len(missing))
    lengths = embedder.lengths([texts[row] for row in missing]) if missing else []
    order = [missing[at] for at in sorted(range(len(missing)), key=lambda at: -lengths[at])]
    for start in range(0, len(order), SLICE):
        rows = order[start : start + SLICE]
        some = [texts[row] for row in rows]
        out[rows] = embedder.embed(some, Role.DOCUMENT)
        if cache is not None:
            cache.put(info.fingerprint, some, out[rows])
        progress(len(rows))
    return out


def _key(fingerprint: str, text: str) -> bytes:
    return hashlib.sha256(f"{fingerprint}\n{text}".encode()).digest()
