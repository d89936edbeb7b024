"""A data directory and the parts of a job, with the real index backends and the hashing embedder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from embedders.registry import open_embedder
from indexers.registry import INDEXERS
from vss.jobs.gate import Fields
from vss.jobs.importer import Imported, Tools, run_import
from vss.jobs.living import LivingCollection
from vss.jobs.progress import Silent
from vss.jobs.remote import LocalWriter, Writer
from vss.jobs.request import Import
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode
from vss.storage.manifest import Manifest

Write = Callable[[Iterable[Any]], Path]
Run = Callable[..., Imported[Manifest]]


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


@pytest.fixture
def tools(data: DataDir) -> Tools:
    folder = data.path / "dead-letters"
    return Tools(indexers=INDEXERS, embedders=open_embedder, reporter=Silent(), threads=1, dead_letters=folder)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as JSON Lines; bytes and strings as they are."""

    def write_rows(rows: Iterable[Any]) -> Path:
        path = tmp_path / f"rows-{len(list(tmp_path.iterdir()))}.jsonl"
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        path.write_text("".join(line + "\n" for line in lines))
        return path

    return write_rows


@pytest.fixture
def run(data: DataDir, tools: Tools) -> Run:
    """Import a file into collection "c": of texts with `text=`, else of vectors in the field `vector`."""

    def run_it(
        uri: object,
        *,
        text: str | None = None,
        fields: Fields | None = None,
        collection: str = "c",
        mode: Mode = Mode.UPSERT,
        writer: Writer | None = None,
        **options: Any,
    ) -> Imported[Manifest]:
        fields = fields or Fields(text=text, vector=None if text else "vector")
        writer = writer or LocalWriter(data)
        with LivingCollection(data, collection, indexers=tools.indexers, writer=writer, mode=mode) as destination:
            return run_import(Import(uri=str(uri), fields=fields, **options), destination, tools)

    return run_it
