"""Any sentence-transformers model from a folder of safetensors: all-MiniLM-L6-v2 as packaged, or a user's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedders.device import choose
from embedders.encoder import Encoder
from embedders.fingerprint import check_pin, contents, fingerprint, refuse_unsafe
from embedders.loading import fetch, load, set_threads
from embedders.notes import Notes
from vss.cores import usable_cores
from vss.errors import Code, VssError
from vss.protocols import EmbedderInfo, TokenVectors
from vss.types import Metric, Role, Vectors
from vss.vectors import normalised

_METRICS = {
    "cosine": Metric.COSINE,
    "dot": Metric.DOT,
    "euclidean": Metric.EUCLID,
    "manhattan": Metric.MANHATTAN,
}
_UNLIMITED = 8192
"""Tokens read of a text by a model that states no limit, so that one text cannot take all memory."""

_log = logging.getLogger(__name__)


class SentenceTransformerEmbedder:
    """`vss.protocols.Embedder` and `TokenEmbedder`."""

    def __init__(
        self,
        name: str,
        source: Path | str,
        *,
        pin: str | None = None,
        precision: str = "auto",
        threads: int | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load `source`, a folder or a hub name; the first start on a machine measures precisions.

        name:      what the model is served as
        pin:       the sha256 that `model.safetensors` must have
        precision: "auto", "float32", "bfloat16" or "float16" (of the transformer; pooling is float32)
        threads:   CPU threads for torch and the tokenizer; None takes the cores this process may use
        cache:     folder for what is found out once: file hashes and the choice of precision

        Raises VssError: INVALID (unsafe or changed files), UNAVAILABLE (hub), MODEL_FAILED.
        """
        set_threads(threads or usable_cores())
        folder = source if isinstance(source, Path) else fetch(source)
        notes = Notes(cache / "embedders.json" if cache else None)
        refuse_unsafe(folder)
        if pin:
            check_pin(folder / "model.safetensors", pin, notes)
        content = contents(folder, notes)

        def open_encoder(device: str, precision: str) -> Encoder:
            model = load(folder, device, precision)
            return Encoder(model, _max_tokens(model))

        self._encoder, choice = choose(open_encoder, precision, content, notes)
        model = self._encoder.model
        metric = _metric(model)
        dim = int(model.get_embedding_dimension())
        max_tokens = self._encoder.max_tokens
        self.info = EmbedderInfo(
            name=name,
            fingerprint=fingerprint(content, max_tokens=max_tokens, dim=dim, normalised=metric is Metric.COSINE),
            dim=dim,
            max_tokens=max_tokens,
            metric=metric,
            device=choice.device,
            precision=choice.precision,
        )
        _log.info("%s runs on %s in %s", name, choice.device, choice.precision)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as a document, with prompt and special tokens, after truncation."""
        return self._encoder.lengths(texts, Role.DOCUMENT)

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """`(len(texts), dim)` float32; unit length for a Cosine model. VssError (MODEL_FAILED) for NaN."""
        if not texts:
            return np.empty((0, self.info.dim), dtype=np.float32)
        vectors = self._encoder.sentences(texts, role)
        if not np.isfinite(vectors).all():
            raise VssError(
                Code.MODEL_FAILED,
                f"{self.info.name} made a vector that is not finite in {self.info.precision}",
                hint="set the precision to float32",
            )
        return normalised(vectors) if self.info.metric is Metric.COSINE else vectors

    def embed_tokens(self, texts: Sequence[str], role: Role) -> list[TokenVectors]:
        """One `TokenVectors` for each text. VssError (UNSUPPORTED) for a model of an unusual build."""
        return self._encoder.tokens(texts, role) if texts else []

    def close(self) -> None:
        """Free the weights."""
        del self._encoder


def _max_tokens(model: Any) -> int:
    """What the model reads of a text: its own limit, else its tokenizer's, else its position table's."""
    config = getattr(model[0], "config", None)
    limits = (
        model.max_seq_length,
        getattr(model.tokenizer, "model_max_length", None),
        getattr(config, "max_position_embeddings", None),
    )
    return next((int(limit) for limit in limits if limit and 0 < limit <= 1_000_000), _UNLIMITED)


def _metric(model: Any) -> Metric:
    """How the model's vectors are compared; Cosine too where it normalises them itself."""
    if any(type(module).__name__ == "Normalize" for module in model):
        return Metric.COSINE
    return _METRICS.get(str(model.similarity_fn_name), Metric.COSINE)
