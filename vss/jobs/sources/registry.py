"""Which formats exist, by the end of a file's name. Loads only the reader that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from vss.errors import VssError, invalid
from vss.jobs.gate import Fields
from vss.jobs.sources.files import COMPRESSIONS, Files, Stored, find, stamp
from vss.jobs.sources.row import Source
from vss.jobs.sources.systems import answering, file_system, same_place, shown


@contextmanager
def open_source(uri: str, fields: Fields) -> Iterator[Files]:
    """The rows behind a local path or a URI that fsspec opens (`file://`, `s3://` with its extra).

    A glob is all files that match, a directory all of known endings right in it; both by name.
    VssError: NOT_FOUND when there is no such file; INVALID for an unknown format; STORAGE when it cannot be read.
    """
    if len(set(fields.rename.values())) < len(fields.rename):
        raise invalid("got one new name for two fields", field="rename")
    with ExitStack() as stack:
        system, path = stack.enter_context(file_system(uri))
        found = find(system, path, uri)
        if fields.ids and [file.ending for file in found] != [".npy"]:
            raise invalid(f"got a file of ids for {shown(uri)}, wanted one .npy file", field="ids")
        ids: _Ids | None = None
        if fields.ids:
            beside, ids_path = stack.enter_context(file_system(fields.ids))
            with answering(fields.ids):
                ids = _Ids(beside, ids_path, shown(fields.ids), stamp(beside.info(ids_path)))

        @contextmanager
        def opened(file: Stored, before: int) -> Iterator[Source]:
            try:
                with answering(file.name), _opened(system, file, fields, before, ids) as source:
                    yield source
            except VssError as error:
                said = error.message if file.name in error.message else f"{file.name}: {error.message}"
                raise VssError(error.code, said, field=error.field, hint=error.hint) from error

        # A typing mistake in the name of a field is told before a model is loaded.
        with opened(found[0], 0):
            pass
        files = Files(found, opened, fields.rename)
        if ids is not None:
            files.stamps.append((same_place(ids.name), ids.stamp))
        yield files


@dataclass(frozen=True, slots=True)
class _Ids:
    """The file of ids beside a `.npy`."""

    system: Any
    path: str
    name: str
    stamp: str


@contextmanager
def _opened(system: Any, stored: Stored, fields: Fields, before: int, beside: _Ids | None) -> Iterator[Source]:
    """One file. before: rows of the files before it, which are the first row number of a `.npy`."""
    old = {new: old for old, new in fields.rename.items()}
    vector = old.get(fields.vector, fields.vector) if fields.vector else None
    point_id = old.get(fields.id, fields.id)
    with ExitStack() as stack:
        file = stack.enter_context(system.open(stored.path, "rb"))
        compressed = next((one for one in COMPRESSIONS if stored.ending.endswith(one)), None)
        ending, data = stored.ending.removesuffix(compressed or ""), file
        if compressed:
            from vss.jobs.sources.compressed import Decompressed

            data = Decompressed(file, compressed)
        if ending == ".parquet":
            from vss.jobs.sources.parquet import Parquet

            yield Parquet(file, vector)
        elif ending in (".arrow", ".feather", ".arrows"):
            from vss.jobs.sources.arrow import ArrowIpc

            local = stored.path if "file" in system.protocol else None
            yield ArrowIpc(file, stored.size, vector, local)
        elif ending in (".npy", ".npz"):
            from vss.jobs.sources.arrays import Arrays, Blocks, open_npz, text_ids

            if ending == ".npz":
                yield open_npz(file, before, point_id, vector)
                return
            ids: Any = before
            if beside is not None:
                opened = stack.enter_context(beside.system.open(beside.path, "rb"))
                ids = Blocks(opened, beside.name) if beside.path.lower().endswith(".npy") else text_ids(opened)
            yield Arrays(Blocks(file, stored.name), ids, point_id, vector)
        elif ending == ".csv":
            from vss.jobs.sources.csv_rows import Csv

            yield Csv(data, stored.size, vector, file.tell)
        else:
            from vss.jobs.sources.jsonl import JsonLines

            yield JsonLines(data, stored.size, file.tell if compressed else None)
