"""An embedder without a model: signed feature hashing of words and their character trigrams.

Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009). Texts that share words,
or parts of words, are near; meaning is out of its reach. It needs no weights, is the same on every machine, and
is the baseline that a model must beat.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vss.errors import invalid
from vss.protocols import EmbedderInfo, TokenVectors
from vss.types import Role, Vectors

DEFAULT_DIM = 256
MAX_TOKENS = 512
"""Words read of a text; the rest is cut off."""

TRIGRAM_WEIGHT = 0.3
"""A trigram's weight beside its word's 1: spelling variants become near, while whole words decide."""

_WORD = re.compile(r"\w+")
_NO_WORDS = "\x00"


class HashingEmbedder:
    """`vss.protocols.Embedder` and `TokenEmbedder`. Both roles embed alike."""

    def __init__(self, dim: int = DEFAULT_DIM) -> None:
        if not 8 <= dim <= 65_536:
            raise invalid(f"got hashing-{dim}, wanted a size from 8 to 65536", hint="hashing-256 is usual")
        recipe = f"hashing 1: words and trigrams, blake2b, log tf, {TRIGRAM_WEIGHT}, {MAX_TOKENS}, {dim}"
        self.info = EmbedderInfo(
            name=f"hashing-{dim}",
            fingerprint=hashlib.sha256(recipe.encode()).hexdigest(),
            dim=dim,
            max_tokens=MAX_TOKENS,
        )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Words of each text that are read, at least 1."""
        return [len(_words(text)) for text in texts]

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """`(len(texts), dim)` float32 of unit length."""
        out = np.zeros((len(texts), self.info.dim), dtype=np.float32)
        for row, text in zip(out, texts, strict=True):
            row[:] = self._sentence(_words(text))
        return out

    def embed_tokens(self, texts: Sequence[str], role: Role) -> list[TokenVectors]:
        """A token is a word; its vector is that of the word alone."""
        split = [_words(text) for text in texts]
        return [
            TokenVectors(np.stack([self._sentence([word]) for word in words]), self._sentence(words)) for words in split
        ]

    def close(self) -> None:
        """Nothing to free."""

    def _sentence(self, words: Sequence[str]) -> Vectors:
        """`(dim,)` float32 of unit length. float64 inside, so that the sum's order cannot be seen."""
        total = np.zeros(self.info.dim)
        for word, count in Counter(words).items():
            places, values = _features(word, self.info.dim)
            np.add.at(total, places, values * (1 + math.log(count)))
        length = float(np.linalg.norm(total))
        if length < 1e-9:  # features of opposite sign met and cancelled: any fixed direction will do
            total[0] = length = 1.0
        return (total / length).astype(np.float32)


def _words(text: str) -> list[str]:
    return [match.group() for match in _WORD.finditer(text.lower())][:MAX_TOKENS] or [_NO_WORDS]


@lru_cache(maxsize=50_000)
def _features(word: str, dim: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where a word and its trigrams fall, and with which signed weight."""
    edged = f"<{word[:100]}>"
    names = [("w" + word, 1.0)]
    names += [("t" + edged[i : i + 3], TRIGRAM_WEIGHT) for i in range(len(edged) - 2)]
    places, values = [], []
    for name, weight in names:
        digest = int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest(), "little")
        places.append((digest >> 1) % dim)
        values.append(weight if digest & 1 else -weight)
    return np.asarray(places), np.asarray(values)
