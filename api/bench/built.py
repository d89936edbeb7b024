"""Builds what is measured: backends through our own protocol and raw libraries, kept between runs where asked.

A kept index lies in a folder named by its data, kind, parameters, threads and library versions, with a note of how long
the build took and the sha256 of each file, which is compared before a native parser opens it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from api.bench.dataset import Dataset
from indexers.raw.library import RawIndex
from indexers.raw.registry import KINDS as RAW_KINDS
from indexers.raw.registry import library
from indexers.registry import builder
from vss.errors import Code, VssError, invalid
from vss.protocols import Index, IndexSpec
from vss.storage.artifacts import hash_file
from vss.types import Progress, Rows, Vectors

NOTE = "built.json"

_PACKAGES = ("faiss-cpu", "hnswlib", "vss-service")

Params = dict[str, int | float | str]


class Choice(NamedTuple):
    """A backend or raw library to measure, with parameters."""

    kind: str
    params: Params

    @property
    def name(self) -> str:
        """As tables and curves name it: "faiss_hnsw storage=sq8"."""
        return " ".join([self.kind, *(f"{key}={value}" for key, value in self.params.items())])


class Searcher(Protocol):
    """An opened index as `api.bench.recall` asks it, ours or raw."""

    def effort(self, effort: int) -> None:
        """What the searches from now on spend."""

    def rows(self, queries: Vectors, k: int) -> Rows:
        """`(q, k)` rows, best first, on the calling thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One index, open.

    spec_params:   all parameters with their values
    efforts:       rising; (0,) for an exact index
    build_seconds: of building and writing the file
    file_bytes:    of the index files
    vector_bytes:  of the float vectors that it needs beside them; 0 where the files hold them
    kept:          whether an earlier run built it
    """

    choice: Choice
    spec_params: Params
    searcher: Searcher
    efforts: tuple[int, ...]
    build_seconds: float
    file_bytes: int
    vector_bytes: int
    kept: bool


@dataclass(slots=True)
class Workshop:
    """Builds indexes of one dataset into `folder`.

    data_hash: names the data for a cache that outlives the run
    """

    data: Dataset
    data_hash: str
    folder: Path
    threads: int

    def make(self, choice: Choice, progress: Progress) -> Built:
        """Build, or take what an earlier run built, and open. VssError: INVALID, UNAVAILABLE, what backends raise."""
        vectors, metric, dim = self.data.vectors, self.data.metric, self.data.vectors.shape[1]
        if choice.kind in RAW_KINDS:
            if choice.params:
                raise invalid(f"{choice.kind} has no parameters to choose", field="backend")
            raw = library(choice.kind)
            opened, note, kept = self._raw(choice, progress)
            # The grid of the graph that it is the peer of.
            peer = builder("faiss_hnsw")
            efforts = peer.efforts(peer.spec(metric, dim, {})) if raw.params else (0,)
            return self._built(choice, raw.params, _Raw(opened), efforts, note, 0, kept)
        maker = builder(choice.kind)
        spec = maker.spec(metric, dim, choice.params)
        note, kept = self._kept(
            choice,
            spec.params,
            lambda out: maker.build(vectors, spec, out, threads=self.threads, progress=progress),
        )
        index = maker.open({name: note.folder / name for name in note.files}, spec, vectors)
        return self._built(
            choice, spec.params, _Ours(index, spec), maker.efforts(spec) or (0,), note, vectors.nbytes, kept
        )

    def raw(self, kind: str, progress: Progress) -> RawIndex:
        """A raw library's index alone, as `make` gets it."""
        return self._raw(Choice(kind, {}), progress)[0]

    def _raw(self, choice: Choice, progress: Progress) -> tuple[RawIndex, _Note, bool]:
        vectors, metric = self.data.vectors, self.data.metric
        raw = library(choice.kind)
        if metric not in raw.supports:
            raise VssError(Code.UNSUPPORTED, f"{choice.kind} cannot search under {metric}")
        note, kept = self._kept(
            choice,
            raw.params,
            lambda out: raw.build(vectors, metric, out, threads=self.threads, progress=progress),
        )
        return raw.open(note.folder, metric, vectors.shape[1]), note, kept

    def _built(
        self,
        choice: Choice,
        params: Params,
        searcher: Searcher,
        efforts: tuple[int, ...],
        note: _Note,
        vector_bytes: int,
        kept: bool,
    ) -> Built:
        return Built(
            choice=choice,
            spec_params=dict(params),
            searcher=searcher,
            efforts=efforts,
            build_seconds=note.seconds,
            file_bytes=sum((note.folder / name).stat().st_size for name in note.files),
            vector_bytes=vector_bytes,
            kept=kept,
        )

    def _kept(self, choice: Choice, params: Params, build: Callable[[Path], None]) -> tuple[_Note, bool]:
        """The folder of the built index, and whether it was there already."""
        named: dict[str, Any] = {
            "data": self.data_hash,
            "kind": choice.kind,
            "params": params,
            "threads": self.threads,
            "versions": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        }
        key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:24]
        folder = self.folder / f"{choice.kind}-{key}"
        found = _read(folder)
        if found is not None:
            return found, True
        shutil.rmtree(folder, ignore_errors=True)
        staged = self.folder / f"staged-{secrets.token_hex(8)}"
        staged.mkdir(parents=True)
        try:
            began = time.perf_counter()
            build(staged)
            seconds = time.perf_counter() - began
            files = {path.name: hash_file(path) for path in sorted(staged.iterdir())}
            text = json.dumps(named | {"seconds": seconds, "files": files}, indent=1)
            (staged / NOTE).write_text(text, encoding="utf-8")
            os.rename(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return _Note(folder, seconds, files), False


class _Note(NamedTuple):
    folder: Path
    seconds: float
    files: dict[str, str]


def _installed(package: str) -> bool:
    return any(True for _ in metadata.distributions(name=package))


def _read(folder: Path) -> _Note | None:
    """What lies in a kept folder; None when it is not whole, so that it is built anew."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        files = {str(name): str(digest) for name, digest in note["files"].items()}
        whole = all(hash_file(folder / name) == digest for name, digest in files.items())
        return _Note(folder, float(note["seconds"]), files) if whole else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


class _Ours:
    """A backend; the effort goes with each search, as in serving."""

    def __init__(self, index: Index, spec: IndexSpec) -> None:
        self._index = index
        self._effort = 0

    def effort(self, effort: int) -> None:
        self._effort = effort

    def rows(self, queries: Vectors, k: int) -> Rows:
        return self._index.search(queries, k, effort=self._effort).rows


class _Raw:
    """A raw library; its rows stay as it gives them."""

    def __init__(self, index: RawIndex) -> None:
        self.effort = index.effort
        self.rows = index.rows


def parse(given: str) -> Choice:
    """`KIND` or `KIND:KEY=VALUE,KEY=VALUE` of the command line. VssError (INVALID)."""
    kind, _, rest = given.partition(":")
    params: Params = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise invalid(f"got {pair!r}, wanted key=value", field="backend", hint="like faiss_hnsw:storage=sq8")
        params[key] = _number(value)
    if kind not in RAW_KINDS:
        builder(kind)  # or refuse the name now
    return Choice(kind, params)


def _number(value: str) -> int | float | str:
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value
