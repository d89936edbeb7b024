"""Canaries: 32 fixed texts whose vectors stand in every manifest that was made with a model.

A fingerprint says that two models have the same files; a canary shows that they still make the same vectors,
whatever the device, precision and library version. A loaded embedder must reproduce them.
"""

from __future__ import annotations

import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Embedder, EmbedderInfo
from vss.types import Metric, Role, Vectors
from vss.vectors import normalised

AGREEMENT = 0.99
"""Smallest cosine between a canary's stored vector and the one made now."""

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "?",
    "a",
    "42",
    "3.14159 2.71828 1.41421 1.61803",
    "2024-02-29T23:59:60Z",
    "compress a folder",
    "wait for several threads to finish",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG.",
    "Wind pressure over a slender wing at supersonic speed.",
    "Is it safe to take ibuprofen with coffee?",
    "My card payment was declined although there is money in the account.",
    "Der Zug nach Köln fährt heute von Gleis 7 ab.",
    "Où se trouve la bibliothèque la plus proche, s'il vous plaît ?",
    "El murciélago vuela de noche en busca de insectos.",
    "Съешь же ещё этих мягких французских булок.",
    "我想预订明天晚上两个人的座位。",
    "明日の会議は午後三時に始まります。",
    "هل يمكنك مساعدتي في العثور على الطريق؟",
    "मुझे हिंदी में लिखना पसंद है।",
    "def area(radius: float) -> float:\n    return math.pi * radius ** 2",
    "SELECT name, COUNT(*) FROM orders GROUP BY name HAVING COUNT(*) > 3;",
    'for (int i = 0; i < n; ++i) { sum += a[i]; } printf("%d\\n", sum);',
    '{"id": 7, "tags": ["red", "blue"], "price": 19.99, "stock": null}',
    "https://example.org/path/to/page?query=vector+search&limit=10#results",
    "E = mc², ∑ᵢ xᵢ ≤ ∞, naïve café ☕ 🚀",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "no no no no no no no no no no no no no no no no",
    "An index is built offline from the vectors of a collection, checked against an exact search, and only "
    "then served; queries read it and never change it, so that a build cannot slow a search down. When the "
    "model changes, the vectors change with it, and a new generation is made beside the old one.",
    "It was a cold morning in the harbour. " * 60,
)
"""Empty-ish, short, numbers, questions, six scripts, code, symbols, long, and longer than most models read."""


def make(embedder: Embedder) -> Vectors:
    """`(32, dim)` float32: the canaries as documents; what a manifest stores."""
    return embedder.embed(TEXTS, Role.DOCUMENT)


def check(embedder: Embedder, vectors: Vectors) -> None:
    """Raise VssError (FINGERPRINT_MISMATCH) when the embedder does not make these `(32, dim)` canaries."""
    compare(embedder.info, make(embedder), vectors)


def compare(info: EmbedderInfo, made: Vectors, vectors: Vectors) -> None:
    """Raise VssError (FINGERPRINT_MISMATCH) when any of the `(32, dim)` canaries that an embedder made has a cosine
    below `AGREEMENT` with the stored one."""
    wanted = (len(TEXTS), info.dim)
    if vectors.shape != wanted:
        raise VssError(
            Code.FINGERPRINT_MISMATCH,
            f"got canary vectors of shape {vectors.shape}, wanted {wanted} for {info.name}",
            hint="the collection was made with another model",
        )
    if info.metric is Metric.COSINE:
        cosines = np.einsum("ij,ij->i", made, vectors)
    else:
        cosines = np.einsum("ij,ij->i", normalised(made), normalised(vectors))
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= AGREEMENT:
        raise VssError(
            Code.FINGERPRINT_MISMATCH,
            f"{info.name} ({info.device}, {info.precision}) makes canary {worst} "
            f"with cosine {cosines[worst]:.4f} to the stored one, wanted at least {AGREEMENT}",
            hint="serve the collection with the model it was made with, or set the precision to float32",
        )
