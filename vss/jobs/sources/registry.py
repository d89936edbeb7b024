"""Which formats exist, by the end of a file's name. Loads only the reader that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import fsspec

from vss.errors import Code, VssError, invalid
from vss.jobs.gate import Fields
from vss.jobs.sources.files import COMPRESSIONS, Files, Stored, find
from vss.jobs.sources.row import Source


@contextmanager
def open_source(uri: str, fields: Fields) -> Iterator[Files]:
    """The rows behind a local path or a URI that fsspec opens (`file://`, `s3://` with its extra).

    A glob is all files that match, a directory all of known endings right in it; both by name.
    VssError: NOT_FOUND when there is no such file; INVALID for an unknown format; STORAGE when it cannot be read.
    """
    if len(set(fields.rename.values())) < len(fields.rename):
        raise invalid("got one new name for two fields", field="rename")
    system, found = find(uri)
    if fields.ids and [file.ending for file in found] != [".npy"]:
        raise invalid(f"got a file of ids for {uri}, wanted one .npy file", field="ids")

    @contextmanager
    def opened(file: Stored, before: int) -> Iterator[Source]:
        try:
            with _opened(system, file, fields, before) as source:
                yield source
        except VssError as error:
            raise VssError(error.code, f"{file.name}: {error.message}", field=error.field, hint=error.hint) from error
        except OSError as error:
            raise VssError(Code.STORAGE, f"cannot read {file.name}: {error}", field="uri") from error

    # A typing mistake in the name of a field is told before a model is loaded.
    with opened(found[0], 0):
        pass
    yield Files(found, opened, fields.rename)


@contextmanager
def _opened(system: Any, stored: Stored, fields: Fields, before: int) -> Iterator[Source]:
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
            if fields.ids:
                beside = stack.enter_context(_ids_file(fields.ids))
                ids = Blocks(beside, fields.ids) if fields.ids.lower().endswith(".npy") else text_ids(beside)
            yield Arrays(Blocks(file, stored.name), ids, point_id, vector)
        elif ending == ".csv":
            from vss.jobs.sources.csv_rows import Csv

            yield Csv(data, stored.size, vector, file.tell)
        else:
            from vss.jobs.sources.jsonl import JsonLines

            yield JsonLines(data, stored.size, file.tell if compressed else None)


def _ids_file(uri: str) -> Any:
    try:
        return fsspec.open(uri, "rb").open()
    except FileNotFoundError as error:
        raise VssError(Code.NOT_FOUND, f"there is no file {uri}", field="ids") from error
    except (OSError, ValueError, ImportError) as error:
        raise VssError(Code.STORAGE, f"cannot open {uri}: {error}", field="ids") from error
