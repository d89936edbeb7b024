"""`catalog.json`: a copy of the catalog, written after each change. It is never ahead of the catalog itself.

With it a catalog that lost changes is found out, and one that cannot be read is written anew. Nobody serves it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vss.storage.artifacts import fsync_folder


@dataclass(frozen=True, slots=True)
class Copied:
    """The catalog after change `number`: (name, id, schema as JSON) of each collection, (name, collection) of each
    alias, both by name."""

    number: int
    collections: list[tuple[str, str, bytes]]
    aliases: list[tuple[str, str]]


class _File(msgspec.Struct):
    sum: str
    number: int
    collections: list[tuple[str, str, msgspec.Raw]]
    aliases: list[tuple[str, str]]


# Made here, where one thread imports: two threads that decode a struct for the first time at once crash msgspec 0.22.
_decode_file = msgspec.json.Decoder(_File).decode


def checksum(copied: Copied) -> str:
    """Of everything in it."""
    return hashlib.sha256(
        repr((copied.number, [tuple(row) for row in copied.collections], copied.aliases)).encode()
    ).hexdigest()


def write_copy(path: Path, copied: Copied) -> None:
    """Write it whole. A failure is none: the copy of before is true as well."""
    collections = [(name, id_, msgspec.Raw(schema)) for name, id_, schema in copied.collections]
    data = msgspec.json.encode(_File(checksum(copied), copied.number, collections, copied.aliases))
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        fsync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def read_copy(path: Path) -> Copied | None:
    """What was written; None when there is none, or it is damaged."""
    try:
        found = _decode_file(path.read_bytes())
    except (OSError, ValueError):
        return None
    copied = Copied(found.number, [(name, id_, bytes(raw)) for name, id_, raw in found.collections], found.aliases)
    return copied if checksum(copied) == found.sum else None
