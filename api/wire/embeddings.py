"""`/v1/embeddings` and `/v1/models` as OpenAI's clients expect them."""

from __future__ import annotations

import base64
from typing import Literal

import msgspec
import numpy as np

from api.wire.base import Wire
from vss.errors import Code, VssError, invalid
from vss.types import Role, Vectors

MAX_INPUTS = 2_048
MAX_TEXT_BYTES = 1 << 20
"""Of one text; a model reads far less and cuts the rest off."""


class EmbeddingsWire(Wire):
    """`POST /v1/embeddings`. `input_type` is ours: some models prefix queries and passages differently."""

    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["query", "passage", "document"] = "document"


class EmbeddingReply(msgspec.Struct, kw_only=True):
    """One vector: numbers, or little-endian float32 in base64."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class TokensReply(msgspec.Struct, kw_only=True):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(msgspec.Struct, kw_only=True):
    """The vectors in the order of the texts. `fingerprint` is ours: the model's identity."""

    object: str = "list"
    data: list[EmbeddingReply]
    model: str
    usage: TokensReply
    fingerprint: str


class ModelReply(msgspec.Struct, kw_only=True):
    """One model; what OpenAI's clients read, then what we add."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "vss"
    kind: str
    dim: int | None = None
    max_tokens: int | None = None
    fingerprint: str | None = None
    device: str | None = None
    precision: str | None = None


class ModelsReply(msgspec.Struct, kw_only=True):
    """All models that are served."""

    object: str = "list"
    data: list[ModelReply]


def read_texts(wire: EmbeddingsWire, dim: int) -> tuple[list[str], Role]:
    """The texts and their role. VssError: INVALID, TOO_LARGE."""
    texts = [wire.input] if isinstance(wire.input, str) else wire.input
    if not texts:
        raise invalid("got no text, wanted at least one", field="input")
    if len(texts) > MAX_INPUTS:
        raise VssError(
            Code.TOO_LARGE, f"got {len(texts)} texts, wanted at most {MAX_INPUTS}", field="input", hint="send fewer"
        )
    for place, text in enumerate(texts):
        if len(text) > MAX_TEXT_BYTES:
            raise invalid(
                f"got a text of {len(text)} characters, wanted at most {MAX_TEXT_BYTES}", field=f"input[{place}]"
            )
    if wire.dimensions not in (None, dim):
        raise invalid(f"got {wire.dimensions}, but the model makes {dim}", field="dimensions", hint="leave it out")
    return texts, Role.QUERY if wire.input_type == "query" else Role.DOCUMENT


def show_embedding(vector: Vectors, index: int, encoding: str) -> EmbeddingReply:
    """One `(dim,)` vector as asked for."""
    if encoding == "float":
        return EmbeddingReply(index=index, embedding=vector.tolist())
    data = np.ascontiguousarray(vector, "<f4").tobytes()
    return EmbeddingReply(index=index, embedding=base64.b64encode(data).decode())
