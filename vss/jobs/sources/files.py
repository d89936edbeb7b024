"""Which files a URI names: one, those of a glob, or those of a directory; and their rows one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from vss.errors import Code, VssError, invalid
from vss.jobs.sources.row import Row, Source
from vss.jobs.sources.systems import answering, same_place, shown

TEXTS = (".jsonl", ".ndjson", ".csv")
COMPRESSIONS = (".gz", ".zst")
FORMATS = (*TEXTS, ".parquet", ".arrow", ".feather", ".arrows", ".npy", ".npz")
ENDINGS = frozenset((*FORMATS, *(text + compression for text in TEXTS for compression in COMPRESSIONS)))
STAMPS = ("size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "generation", "md5Hash")
KNOWN = f"{', '.join(FORMATS)} (of {', '.join(TEXTS)} also {' and '.join(COMPRESSIONS)})"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file: as it is named to people, its path in the file system, its known ending, its bytes, and its stamp."""

    name: str
    path: str
    ending: str
    size: int
    stamp: str


def ending(name: str) -> str:
    """The known ending of a path or URI, like `.csv` or `.csv.gz`; "" when it has none."""
    suffixes = PurePosixPath(urlsplit(name).path if "://" in name else name).suffixes
    for count in (2, 1):
        joined = "".join(suffixes[-count:]).lower()
        if joined in ENDINGS:
            return joined
    return ""


def stamp(entry: Mapping[str, Any]) -> str:
    """What changes when a file does, as far as its file system tells: size, times, hashes. entry: fsspec's `info`."""
    return " ".join(f"{key}={entry[key]}" for key in STAMPS if entry.get(key) is not None)


def find(files: Any, path: str, uri: str) -> list[Stored]:
    """The files that `uri` names, by name; of a directory those of known endings, none of its folders.

    files, path: what `systems.file_system` makes of the URI
    VssError: NOT_FOUND when there is none; INVALID for an unknown ending; STORAGE when it cannot be looked at.
    """
    with answering(uri):
        if files.isdir(path):
            entries = [entry for entry in files.ls(path, detail=True) if ending(entry["name"])]
            entries = [entry for entry in entries if not PurePosixPath(entry["name"]).name.startswith(".")]
        elif any(sign in path for sign in "*?[") and not files.exists(path):
            entries = list(files.glob(path, detail=True).values())
        else:
            if not ending(path):
                raise _unknown(shown(uri))
            entry = files.info(path)
            return [Stored(shown(uri), path, ending(path), entry["size"] or 0, stamp(entry))]
        if not entries and "://" in uri:
            files.ls(files._parent(path).split("/")[0])  # of a bucket that is not there a listing is empty
    found = []
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        if entry["type"] == "file":
            path = entry["name"]
            name = path if "://" not in uri else files.unstrip_protocol(path)
            if not ending(path):
                raise _unknown(name)
            found.append(Stored(name, path, ending(path), entry["size"] or 0, stamp(entry)))
    if not found:
        raise VssError(Code.NOT_FOUND, f"there is no file {shown(uri)}", field="uri", hint=f"known endings: {KNOWN}")
    return found


class Files:
    """The rows of several files, each opened when the one before is read.

    opened: opens a file; told how many rows came before it
    rename: new names of fields by old ones
    total:  bytes of all files
    stamps: place and stamp of each file that is read, a file of ids too
    """

    def __init__(
        self,
        files: Sequence[Stored],
        opened: Callable[[Stored, int], AbstractContextManager[Source]],
        rename: Mapping[str, str],
    ) -> None:
        self.total = sum(file.size for file in files)
        self.stamps = [(same_place(file.name), file.stamp) for file in files]
        self._files, self._opened, self._rename = files, opened, rename

    def rows(self) -> Iterator[Row]:
        """As `Source.rows`."""
        before = count = 0
        for file in self._files:
            with self._opened(file, count) as source:
                for row in source.rows():
                    count += 1
                    row.file = file.name
                    row.end = before + row.end * file.size // max(1, source.total)
                    yield self._renamed(row) if self._rename else row
            before += file.size

    def _renamed(self, row: Row) -> Row:
        if row.fields is not None:
            fields = {self._rename.get(name, name): value for name, value in row.fields.items()}
            if len(fields) < len(row.fields):
                twice = sorted(set(self._rename.values()) & set(fields))
                row.fault, fields = f"two fields have the name {' or '.join(twice)} after renaming", {}
            row.fields = fields if row.fault is None else None
        return row


def _unknown(name: str) -> VssError:
    return invalid(
        f"got {name!r}, wanted a name that ends in {KNOWN}, a glob, or a directory of such files", field="uri"
    )
