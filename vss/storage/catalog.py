"""`catalog.db`: the names of collections, and which folder and schema each stands for."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import apsw
import msgspec

from vss.errors import Code, VssError, invalid
from vss.schema import Schema, check_schema
from vss.storage.datadir import DataDir
from vss.storage.log import connect, storage_errors, transaction

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
"""

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
    """The collections and aliases of one data directory. Safe from any thread; only the writer's process changes it."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._lock = threading.Lock()
        with storage_errors():
            self._connection = connect(data.catalog)
            with transaction(self._connection):
                self._connection.execute(_TABLES)
            self._reader = connect(data.catalog)
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

    def _refresh(self) -> None:
        with self._lock, storage_errors():
            version = int(self._reader.pragma("data_version"))
            if version == self._version:
                return
            with self._reader:  # one moment for both tables
                rows = list(self._reader.execute("SELECT name, id, schema FROM collections ORDER BY name"))
                aliases = list(self._reader.execute("SELECT name, collection FROM aliases ORDER BY name"))
            self._entries = {
                name: Entry(name, id_, msgspec.json.decode(schema, type=Schema)) for name, id_, schema in rows
            }
            self._aliases = {str(name): str(collection) for name, collection in aliases}
            self._version = version

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
        self._data.collection(entry.id).mkdir(parents=True)
        try:
            with self._lock, storage_errors(), transaction(self._connection):
                self._connection.execute(
                    "INSERT INTO collections VALUES (?, ?, ?)", (name, entry.id, msgspec.json.encode(schema))
                )
        except VssError as error:
            self._data.collection(entry.id).rmdir()
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
            with self._lock, storage_errors(), transaction(self._connection):
                self._connection.execute("DELETE FROM collections WHERE name = ?", (name,))
                self._connection.execute("DELETE FROM aliases WHERE collection = ?", (name,))
        return entry

    def change_schema(self, name: str, schema: Schema) -> None:
        """Replace a collection's schema. VssError (INVALID)."""
        check_schema(schema)
        with self._lock, storage_errors(), transaction(self._connection):
            data = msgspec.json.encode(schema)
            self._connection.execute("UPDATE collections SET schema = ? WHERE name = ?", (data, name))

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
        with self._lock, storage_errors(), transaction(self._connection):
            self._connection.execute("DELETE FROM aliases")
            self._connection.executemany("INSERT INTO aliases VALUES (?, ?)", aliases.items())

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
        self._reader.close()


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
