"""What readers ask of the writer's models: MessagePack one way, raw float32 the other."""

from __future__ import annotations

import msgspec
import numpy as np

from vss.errors import Code, invalid
from vss.protocols import EmbedderInfo
from vss.types import Role, Scores, Vectors

FLOATS = "application/octet-stream"
"""Media type of an answer that is little-endian float32."""


class ServedModel(msgspec.Struct, kw_only=True):
    """One embedder: what it is, or why it cannot be asked."""

    name: str
    info: EmbedderInfo | None = None
    code: Code | None = None
    message: str = ""
    hint: str | None = None


class ModelCatalogue(msgspec.Struct, kw_only=True):
    """All models. `process` names one life of the process that holds them."""

    process: str
    embedders: list[ServedModel]
    rerankers: list[str]


class AskEmbed(msgspec.Struct, kw_only=True):
    """Texts to embed; `process` is where the asker has seen the model. The answer is `(len(texts), dim)`."""

    process: str
    model: str
    texts: list[str]
    role: Role
    milliseconds: float | None


class AskTokens(msgspec.Struct, kw_only=True):
    """Texts whose tokens are to be counted. The answer is a JSON number."""

    process: str
    model: str
    texts: list[str]


class AskRerank(msgspec.Struct, kw_only=True):
    """Candidates to score: `similarity` is `(n,)` float32 beside `n` texts. The answer is `(n,)`."""

    process: str
    reranker: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    texts: tuple[str, ...]
    similarity: bytes
    milliseconds: float | None


def pack_floats(values: Vectors | Scores) -> bytes:
    """The array's numbers, row by row."""
    return values.astype("<f4").tobytes()


def unpack_floats(data: bytes, rows: int) -> Vectors:
    """`(rows, -1)` what `pack_floats` was given. VssError (INVALID)."""
    values = np.frombuffer(data, dtype="<f4") if len(data) % 4 == 0 else np.zeros(0, np.float32)
    if rows == 0 or len(values) % rows or len(values) * 4 != len(data):
        raise invalid(f"got {len(data)} bytes, wanted float32 for {rows} rows")
    return values.reshape(rows, -1)
