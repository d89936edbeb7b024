"""`catalog.db`: the names of collections, and which folder and schema each stands for.

Each change counts up and leaves a checksum over all rows; `catalog.json` is a copy of the last change, by which a
catalog that lost something is found out and `vss doctor --repair` writes it anew (`storage.catalog_copy`).
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from vss.errors import Code, VssError, invalid
from vss.schema import Schema, check_schema
from vss.storage.artifacts import fsync_folder
from vss.storage.catalog_copy import Copied, checksum, read_copy, write_copy
from vss.storage.datadir import DataDir
from vss.storage.proof import damaged
from vss.storage.sqlite import Committer, connect, storage_errors, transaction

_TABLES = """
CREATE TABLE IF NOT EXISTS collections (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    schema BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS aliases (
    name TEXT PRIMARY KEY,
    collection TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS changes (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    sum TEXT NOT NULL
);
"""

Rows = tuple[list[tuple[str, str, bytes]], list[tuple[str, str]]]
"""(name, id, schema) of each collection and (name, collection) of each alias, by name."""

_NAME = re.compile(r"[\w.\-]+(?: [\w.\-]+)*", re.UNICODE)
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """One collection: its name, the random id that names its folder, its schema."""

    name: str
    id: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class CreateAlias:
    """Let `alias` stand for a collection; it may stand for another one already."""

    alias: str
    collection: str


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    """Forget an alias."""

    alias: str


@dataclass(frozen=True, slots=True)
class RenameAlias:
    """Let another name stand for what `old` stands for."""

    old: str
    new: str


AliasAction = CreateAlias | DeleteAlias | RenameAlias


class Catalog:
    """The collections and aliases of one data directory. Safe from any thread; only the writer's process changes it.

    It can be made over a damaged catalog: what asks it for something raises VssError (CORRUPT) then.
    """

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._committer = Committer(data.catalog, self._prove)
        self._reader: apsw.Connection | None = None
        self._version = -1
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}

    def entries(self) -> dict[str, Entry]:
        """All collections by name, as they are now (changes of other processes included)."""
        self._refresh()
        return self._entries

    def aliases(self) -> dict[str, str]:
        """Alias -> the collection that it stands for, as they are now."""
        self._refresh()
        return self._aliases

    @property
    def refusing(self) -> VssError | None:
        """Why this process cannot change the catalog at the moment, or None."""
        return self._committer.failure

    def _refresh(self) -> None:
        with self._lock, storage_errors(self._data.catalog):
            reader = self._reader = self._reader or self._open()
            version = int(reader.pragma("data_version"))
            if version == self._version:
                return
            with reader:  # one moment for all tables
                rows, number = self._rows(reader)
            if self._version < 0:
                self._compare(number)
            self._entries = {
                name: Entry(name, id_, msgspec.json.decode(schema, type=Schema)) for name, id_, schema in rows[0]
            }
            self._aliases = dict(rows[1])
            self._version = version

    def _open(self) -> apsw.Connection:
        path = self._data.catalog
        new = not path.exists()
        if new and self._was_written():
            raise damaged(path.name, "it is missing")
        reader = connect(path)
        try:
            if not reader.execute("SELECT 1 FROM sqlite_schema WHERE name = 'collections'").get:
                if self._was_written():
                    raise damaged(path.name, "it has lost its tables")
                with self._committer.transaction() as connection:
                    connection.execute(_TABLES)
        except BaseException:
            reader.close()
            raise
        return reader

    def _was_written(self) -> bool:
        return read_copy(self._data.catalog_copy) is not None or any((self._data.path / "collections").iterdir())

    def _rows(self, connection: apsw.Connection) -> tuple[Rows, int]:
        """Everything, checked, and the number of the last change. VssError (CORRUPT)."""
        rows, number = _all_rows(connection), 0
        # A catalog of before has no such table, or none of its changes stands there yet.
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'changes'").get:
            for number, sum_ in connection.execute("SELECT number, sum FROM changes"):
                if checksum(Copied(number, *rows)) != sum_:
                    raise damaged(self._data.catalog.name, "its rows are not those that were written")
        return rows, number

    def _prove(self, connection: apsw.Connection) -> None:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'collections'").get:
            self._compare(self._rows(connection)[1])

    def _compare(self, number: int) -> None:
        copied = read_copy(self._data.catalog_copy)
        if copied is not None and copied.number > number:
            raise damaged(self._data.catalog.name, f"it ends at change {number}, and {copied.number} were acknowledged")

    @contextmanager
    def _changing(self) -> Iterator[apsw.Connection]:
        with self._lock:
            with self._committer.transaction() as connection:
                _, number = self._rows(connection)
                yield connection
                connection.execute(_TABLES)
                connection.execute("INSERT OR REPLACE INTO changes VALUES (1, ?, '')", (number + 1,))
                copied = Copied(number + 1, *_all_rows(connection))
                connection.execute("UPDATE changes SET sum = ?", (checksum(copied),))
            write_copy(self._data.catalog_copy, copied)

    def get(self, name: str) -> Entry:
        """One collection, by its name or an alias. VssError (NOT_FOUND) when there is none of that name."""
        entries = self.entries()
        entry = entries.get(name) or entries.get(self._aliases.get(name, ""))
        if entry is None:
            raise VssError(
                Code.NOT_FOUND,
                f"got collection {name!r}, which does not exist",
                field="collection",
                hint="GET /collections lists those that do",
            )
        return entry

    def create(self, name: str, schema: Schema) -> Entry:
        """Add a collection. VssError: INVALID name or schema, ALREADY_EXISTS."""
        check_name(name)
        check_schema(schema)
        if name in self.aliases():
            raise VssError(
                Code.ALREADY_EXISTS,
                f"{name!r} is an alias of collection {self._aliases[name]!r}",
                field="collection",
                hint="delete the alias first, or choose another name",
            )
        entry = Entry(name, secrets.token_hex(8), schema)
        # Nobody reads a collection before its row in the catalog exists, so the folder comes first.
        folder = self._data.collection(entry.id)
        with storage_errors(folder):
            folder.mkdir(parents=True)
        try:
            # The row must not survive a power cut that the folder does not.
            with storage_errors(folder):
                fsync_folder(folder.parent)
                fsync_folder(self._data.path)
            with self._changing() as connection:
                connection.execute(
                    "INSERT INTO collections VALUES (?, ?, ?)", (name, entry.id, msgspec.json.encode(schema))
                )
        except VssError as error:
            folder.rmdir()
            if isinstance(error.__cause__, apsw.ConstraintError):
                raise VssError(
                    Code.ALREADY_EXISTS,
                    f"collection {name!r} already exists",
                    field="collection",
                    hint="delete it first, or choose another name",
                ) from error
            raise
        return entry

    def delete(self, name: str) -> Entry | None:
        """Forget a collection and its aliases, and return what it was; None when there was none of that name."""
        entry = self.entries().get(name)
        if entry is not None:
            with self._changing() as connection:
                connection.execute("DELETE FROM collections WHERE name = ?", (name,))
                connection.execute("DELETE FROM aliases WHERE collection = ?", (name,))
        return entry

    def change_schema(self, name: str, schema: Schema) -> None:
        """Replace a collection's schema. VssError (INVALID)."""
        check_schema(schema)
        with self._changing() as connection:
            data = msgspec.json.encode(schema)
            connection.execute("UPDATE collections SET schema = ? WHERE name = ?", (data, name))

    def change_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Carry out actions in order, all of them or none, at one moment for every reader.

        VssError: NOT_FOUND for an unknown collection or alias, ALREADY_EXISTS where a collection has the alias's name.
        """
        entries, aliases = self.entries(), dict(self.aliases())
        for action in actions:
            match action:
                case CreateAlias(alias, collection):
                    _check_alias(alias, entries)
                    if collection not in entries:
                        raise VssError(
                            Code.NOT_FOUND,
                            f"got collection {collection!r}, which does not exist",
                            field="collection_name",
                        )
                    aliases[alias] = collection
                case DeleteAlias(alias):
                    _known(alias, aliases)
                    del aliases[alias]
                case RenameAlias(old, new):
                    _check_alias(new, entries)
                    _known(old, aliases)
                    aliases[new] = aliases.pop(old)
        with self._changing() as connection:
            connection.execute("DELETE FROM aliases")
            connection.executemany("INSERT INTO aliases VALUES (?, ?)", aliases.items())

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._committer.close()
            if self._reader is not None:
                self._reader.close()


def _all_rows(connection: apsw.Connection) -> Rows:
    return (
        list(connection.execute("SELECT name, id, schema FROM collections ORDER BY name")),
        list(connection.execute("SELECT name, collection FROM aliases ORDER BY name")),
    )


def restore(path: Path, copied: Copied) -> None:
    """Write a catalog anew from a copy, into a file of its own."""
    path.unlink(missing_ok=True)
    with storage_errors(path):
        connection = connect(path)
        try:
            with transaction(connection):
                connection.execute(_TABLES)
                connection.executemany("INSERT INTO collections VALUES (?, ?, ?)", copied.collections)
                connection.executemany("INSERT INTO aliases VALUES (?, ?)", copied.aliases)
                connection.execute("INSERT INTO changes VALUES (1, ?, ?)", (copied.number, checksum(copied)))
        finally:
            connection.close()


def check_name(name: str) -> str:
    """A collection's name: letters, digits, `_`, `-`, `.` and inner spaces. It never becomes a path of ours, but it
    stands in URLs, where clients take `.` and `..` for steps."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or name in (".", ".."):
        raise invalid(
            f"got collection name {name[:80]!r}, wanted letters, digits, '_', '-', '.' and inner spaces, "
            f"at most {MAX_NAME} characters",
            field="collection",
        )
    return name


def _check_alias(alias: str, entries: Mapping[str, Entry]) -> None:
    check_name(alias)
    if alias in entries:
        raise VssError(
            Code.ALREADY_EXISTS,
            f"got alias {alias!r}, which is the name of a collection",
            field="alias_name",
            hint="choose another name",
        )


def _known(alias: str, aliases: Mapping[str, str]) -> None:
    if alias not in aliases:
        raise VssError(Code.NOT_FOUND, f"got alias {alias!r}, which does not exist", field="alias_name")
