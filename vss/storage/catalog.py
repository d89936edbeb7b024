"""`catalog.db`: the names of collections, and which folder and schema each stands for."""

from __future__ import annotations

import re
import secrets
import threading
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
"""

_NAME = re.compile(r"[\w.\-]+(?: [\w.\-]+)*", re.UNICODE)
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """One collection: its name, the random id that names its folder, its schema."""

    name: str
    id: str
    schema: Schema


class Catalog:
    """The collections of one data directory. Safe from any thread; only the writer's process changes it."""

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

    def entries(self) -> dict[str, Entry]:
        """All collections by name, as they are now (changes of other processes included)."""
        with self._lock, storage_errors():
            version = int(self._reader.pragma("data_version"))
            if version != self._version:
                rows = self._reader.execute("SELECT name, id, schema FROM collections ORDER BY name")
                self._entries = {
                    name: Entry(name, id_, msgspec.json.decode(schema, type=Schema)) for name, id_, schema in rows
                }
                self._version = version
            return self._entries

    def get(self, name: str) -> Entry:
        """One collection. VssError (NOT_FOUND) when there is none of that name."""
        entry = self.entries().get(name)
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
        """Forget a collection and return what it was; None when there was none of that name."""
        entry = self.entries().get(name)
        if entry is not None:
            with self._lock, storage_errors(), transaction(self._connection):
                self._connection.execute("DELETE FROM collections WHERE name = ?", (name,))
        return entry

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
        self._reader.close()


def check_name(name: str) -> str:
    """A collection's name: letters, digits, `_`, `-`, `.` and inner spaces. It never becomes a path."""
    if not name or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise invalid(
            f"got collection name {name[:80]!r}, wanted letters, digits, '_', '-', '.' and inner spaces, "
            f"at most {MAX_NAME} characters",
            field="collection",
        )
    return name
