"""Nothing is opened that is not, byte for byte, what was published."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.storage.conftest import DIM
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Indexers
from vss.storage.artifacts import ArtifactStore
from vss.storage.collection import Collection
from vss.storage.fold import fold
from vss.storage.manifest import Manifest, artifacts_of, derived_of


@pytest.fixture
def folded(engine: LocalEngine, indexers: Indexers) -> tuple[Collection, Manifest]:
    vectors = np.random.default_rng(5).normal(size=(300, DIM)).astype(np.float32)
    points = [Point(id=row, vectors={"": vectors[row]}, payload=b'{"n": 1}') for row in range(300)]
    engine.upsert("c", points).result()
    collection = engine.collection("c")
    return collection, fold(collection, engine, indexers, threads=2)


def reopened(collection: Collection, indexers: Indexers) -> Collection:
    return Collection(collection.folder, collection.schema, indexers)


def damage(path: Path, change: bytes | None) -> None:
    os.chmod(path, 0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change is None else data[:-1] + bytes([data[-1] ^ change[0]]))


@pytest.mark.parametrize("change", [b"\x01", b"\xff", None], ids=["one bit", "one byte", "truncated"])
def test_a_damaged_artifact_is_found_at_open(
    folded: tuple[Collection, Manifest], indexers: Indexers, change: bytes | None
) -> None:
    collection, manifest = folded
    whole = collection.view().retrieve(range(300))
    derived = {one.sha256 for one in artifacts_of(derived_of(manifest.segments[0]))}
    for path in sorted(collection.artifacts.path(one) for one in artifacts_of(manifest)):
        original = path.read_bytes()
        damage(path, change)
        again = reopened(collection, indexers)
        if path.name in derived:  # everything is there without it
            assert repr(again.view().retrieve(range(300))) == repr(whole)
            assert path.name[:12] in "".join(again.damage)
        else:
            with pytest.raises(VssError, match=f"artifact {path.name[:12]}") as caught:
                again.view()
            assert caught.value.code is Code.CORRUPT
        again.close()
        path.write_bytes(original)
    healthy = reopened(collection, indexers)
    assert healthy.view().points == 300
    assert healthy.view().generation == manifest.generation
    assert healthy.damage == ()
    healthy.close()


def test_a_missing_artifact_is_named(folded: tuple[Collection, Manifest], indexers: Indexers) -> None:
    collection, manifest = folded
    (collection.folder / "artifacts" / manifest.segments[0].versions.sha256).unlink()
    with pytest.raises(VssError, match="is missing"):
        reopened(collection, indexers).view()


def test_a_changed_manifest_is_found(folded: tuple[Collection, Manifest], indexers: Indexers) -> None:
    collection, _ = folded
    path = collection.manifests / "000002.json"
    path.write_text(path.read_text().replace('"covered_seq": 300', '"covered_seq": 0'))
    with pytest.raises(VssError, match="changed after it was published"):
        reopened(collection, indexers).view()


def test_a_newer_format_is_refused(engine: LocalEngine, indexers: Indexers) -> None:
    collection = engine.collection("c")
    connection = collection.log._committer._trusted()
    connection.execute("UPDATE pointer SET format = 99")
    with pytest.raises(VssError, match="format 99") as caught:
        reopened(collection, indexers)
    assert caught.value.code is Code.UNSUPPORTED


def test_the_manifest_names_every_file_by_its_hash(folded: tuple[Collection, Manifest]) -> None:
    collection, _ = folded
    texts = [(collection.manifests / f"00000{number}.json").read_text() for number in (1, 2)]
    stored = {path.name for path in (collection.folder / "artifacts").iterdir()}
    named = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if set(value) == {"sha256", "bytes"}:
                named.add(value["sha256"])
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    for text in texts:
        walk(json.loads(text))
    assert named == stored


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    names = []
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"same")
        names.append(store.add(tmp_path / name))
    assert names[0] == names[1]
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


def test_building_again_heals_a_damaged_file(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    (tmp_path / "one").write_bytes(b"the bytes")
    artifact = store.add(tmp_path / "one")
    damage(tmp_path / "artifacts" / artifact.sha256, b"\x01")
    with pytest.raises(VssError):
        store.path(artifact)
    (tmp_path / "again").write_bytes(b"the bytes")
    assert store.add(tmp_path / "again") == artifact
    assert store.path(artifact).read_bytes() == b"the bytes"


def test_what_is_written_for_the_first_time_is_no_damage(folded: tuple[Collection, Manifest]) -> None:
    """It was taken for missing, and so every process opened everything anew with each generation."""
    collection, _ = folded
    assert collection.artifacts.damage.findings() == {}
    assert not (collection.folder / "damaged.json").exists()


def test_what_was_found_and_mended_between_two_looks_is_opened_anew(
    folded: tuple[Collection, Manifest], indexers: Indexers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list says what it said before, but the file that lies there now is another one than was opened."""
    monkeypatch.setattr("vss.storage.collection.HEED_SECONDS", 0.0)
    collection, manifest = folded
    reader = reopened(collection, indexers)
    before = reader.view().parts[0].body
    assert reader.view().parts[0].body is before
    (artifact,) = [one for one in artifacts_of(manifest) if one == manifest.segments[0].vectors[""].vectors]
    path = collection.artifacts.path(artifact)
    whole = path.read_bytes()
    damage(path, b"\xff")
    with pytest.raises(VssError, match="does not have the bytes"):
        collection.artifacts.verify(artifact)
    path.unlink()
    path.write_bytes(whole)
    collection.artifacts.path(artifact)
    assert collection.artifacts.damage.findings() == {}
    assert reader.view().parts[0].body is not before
    reader.close()
