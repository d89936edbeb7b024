"""sentence-transformers called directly, as its users call it: what `vss bench embed` measures our embedder against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from embedders.fingerprint import refuse_unsafe
from vss.types import Vectors


class RawSentenceTransformer:
    """`SentenceTransformer.encode` with its defaults: float32, batches of 32."""

    def __init__(self, folder: Path, device: str) -> None:
        """VssError (INVALID) for files that could run code."""
        refuse_unsafe(folder)
        self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """`(len(texts), dim)` float32."""
        return np.asarray(self._model.encode(list(texts), show_progress_bar=False), np.float32)
