"""What every embedder must do. A backend's test is a subclass that says how it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest

from vss import canary
from vss.errors import Code, VssError
from vss.protocols import Embedder, TokenEmbedder
from vss.types import Metric, Role, Vectors

NEAR = (
    ("compress a folder into a zip archive", "a zip archive from a folder, compressed", "lions sleep at noon"),
    ("wait for several threads", "wait until several threads finish", "grandmother's apple cake recipe"),
)
"""(text, a text that is like it, one that is not)."""


class EmbedderSuite:
    """Inherit, and implement `open`."""

    same: ClassVar[float] = 0.9995
    """Smallest cosine between a text's vector alone and in company: what padding and precision may cost."""

    @classmethod
    def open(cls) -> Embedder:
        """Load the embedder anew."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def embedder(cls) -> Iterator[Embedder]:
        """One loaded embedder for the whole class: loading may take seconds."""
        opened = cls.open()
        yield opened
        opened.close()

    def test_a_vector_for_each_text_of_the_promised_shape(self, embedder: Embedder) -> None:
        vectors = embedder.embed(["one", "two words", "three short words"], Role.DOCUMENT)
        assert vectors.shape == (3, embedder.info.dim)
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        assert np.isfinite(vectors).all()

    def test_no_texts_make_no_vectors(self, embedder: Embedder) -> None:
        assert embedder.embed([], Role.QUERY).shape == (0, embedder.info.dim)
        assert embedder.lengths([]) == []

    def test_cosine_vectors_have_unit_length(self, embedder: Embedder) -> None:
        assert embedder.info.metric is Metric.COSINE
        lengths = np.linalg.norm(embedder.embed(canary.TEXTS, Role.DOCUMENT).astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1.0, atol=1e-6)

    def test_the_same_call_gives_the_same_bits(self, embedder: Embedder) -> None:
        first = embedder.embed(canary.TEXTS, Role.DOCUMENT)
        np.testing.assert_array_equal(first, embedder.embed(canary.TEXTS, Role.DOCUMENT))

    def test_order_and_company_of_a_text_do_not_matter(self, embedder: Embedder) -> None:
        together = embedder.embed(canary.TEXTS, Role.DOCUMENT)
        reversed_ = embedder.embed(canary.TEXTS[::-1], Role.DOCUMENT)[::-1]
        alone = np.concatenate([embedder.embed([text], Role.DOCUMENT) for text in canary.TEXTS])
        assert _cosines(together, reversed_).min() >= self.same
        assert _cosines(together, alone).min() >= self.same

    @pytest.mark.parametrize("role", list(Role))
    @pytest.mark.parametrize(("text", "like", "unlike"), NEAR)
    def test_what_is_alike_is_near_in_both_roles(
        self, embedder: Embedder, text: str, like: str, unlike: str, role: Role
    ) -> None:
        query = embedder.embed([text], role)[0]
        near, far = embedder.embed([like, unlike], Role.DOCUMENT) @ query
        assert near > far + 0.2

    @pytest.mark.parametrize("empty", ["", " ", "\n\t"])
    def test_an_empty_text_is_a_text(self, embedder: Embedder, empty: str) -> None:
        vectors = embedder.embed([empty, "a text beside it"], Role.DOCUMENT)
        assert np.linalg.norm(vectors[0]) == pytest.approx(1.0, abs=1e-6)
        assert embedder.lengths([empty])[0] >= 1

    def test_a_long_text_is_cut_to_what_the_model_reads(self, embedder: Embedder) -> None:
        long = "harbour morning " * embedder.info.max_tokens
        longer = long + "something else entirely about cooking"
        assert embedder.lengths([long, longer]) == [embedder.info.max_tokens] * 2
        first, second = embedder.embed([long, longer], Role.DOCUMENT)
        assert float(first @ second) >= self.same

    def test_lengths_grow_with_the_text(self, embedder: Embedder) -> None:
        one, three, again = embedder.lengths(["tree", "tree house garden", "tree"])
        assert one == again
        assert three - one == 2

    @pytest.mark.parametrize("text", ["naïve café ☕ 🚀", "我想预订明天", "مرحبا", "\x00\x07", "\u202eabc", "a\ud7ff"])
    def test_any_unicode_is_a_text(self, embedder: Embedder, text: str) -> None:
        assert np.linalg.norm(embedder.embed([text], Role.QUERY)[0]) == pytest.approx(1.0, abs=1e-6)

    def test_the_input_is_left_alone(self, embedder: Embedder) -> None:
        texts = ["b", "a longer one", "c"]
        embedder.embed(texts, Role.DOCUMENT)
        assert texts == ["b", "a longer one", "c"]

    def test_opened_again_it_has_the_fingerprint_and_the_canaries(self, embedder: Embedder) -> None:
        stored = canary.make(embedder)
        again = self.open()
        assert again.info.fingerprint == embedder.info.fingerprint
        assert len(again.info.fingerprint) == 64
        canary.check(again, stored)
        again.close()

    def test_canaries_of_another_model_are_refused(self, embedder: Embedder) -> None:
        stored = canary.make(embedder)
        stored[5] = -stored[5]
        with pytest.raises(VssError) as caught:
            canary.check(embedder, stored)
        assert caught.value.code is Code.FINGERPRINT_MISMATCH
        assert "canary 5" in caught.value.message

    def test_token_vectors_are_of_unit_length_and_go_with_the_sentence(self, embedder: Embedder) -> None:
        if not isinstance(embedder, TokenEmbedder):
            pytest.skip("this embedder gives no token vectors")
        texts = ["tree house garden", "", "tree"]
        made = embedder.embed_tokens(texts, Role.DOCUMENT)
        assert len(made[0].tokens) == 3
        assert len(made[1].tokens) >= 1
        for one in made:
            np.testing.assert_allclose(np.linalg.norm(one.tokens, axis=1), 1.0, atol=1e-5)
        sentences = np.stack([one.sentence for one in made])
        assert _cosines(sentences, embedder.embed(texts, Role.DOCUMENT)).min() >= self.same


def _cosines(left: Vectors, right: Vectors) -> Vectors:
    cosines: Vectors = np.einsum("ij,ij->i", left, right)
    return cosines
