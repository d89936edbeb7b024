"""The log of one collection: every write as a row, and the pointer to the current generation, in one SQLite file.

SQLite through apsw, WAL mode, synchronous=FULL: `append` returns after the rows are on disk, and SQLite's own recovery
is the crash recovery. Sequence numbers come from AUTOINCREMENT, so none is ever used twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import apsw
import msgspec
import numpy as np

from vss.errors import Code, VssError
from vss.storage.manifest import FORMAT
from vss.types import Vectors

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    key BLOB NOT NULL,
    vectors BLOB NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS pointer (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    manifest TEXT NOT NULL,
    covered_seq INTEGER NOT NULL
);
"""


BUSY_MILLISECONDS = 10_000
"""How long one process waits for another that writes."""


class Kind(IntEnum):
    """What an operation does to its point. All but the first do nothing to a point that is not there.

    UPSERT          writes it whole: `vectors` and `payload`
    DELETE          removes it
    PATCH_PAYLOAD   `payload` is a `vss.patches.PayloadPatch`
    UPDATE_VECTORS  `vectors` replace those of the same names
    DELETE_VECTORS  `payload` is a JSON list of names
    """

    UPSERT = 1
    DELETE = 2
    PATCH_PAYLOAD = 3
    UPDATE_VECTORS = 4
    DELETE_VECTORS = 5


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the log. `vectors` is what `pack_vectors` made; `seq` is 0 until it is written. See `Kind`."""

    kind: Kind
    key: bytes
    vectors: bytes = b""
    payload: bytes = b"{}"
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Pointer:
    """The current generation (0: none yet), its manifest's sha256, and the last operation that it covers."""

    generation: int
    manifest: str
    covered_seq: int


def pack_vectors(vectors: Mapping[str, Vectors]) -> bytes:
    """Named `(dim,)` float32 vectors as msgpack of little-endian bytes."""
    return msgspec.msgpack.encode({name: vector.astype("<f4").tobytes() for name, vector in vectors.items()})


def unpack_vectors(data: bytes) -> dict[str, Vectors]:
    """What `pack_vectors` was given."""
    raw = msgspec.msgpack.decode(data, type=dict[str, bytes])
    return {name: np.frombuffer(value, dtype="<f4") for name, value in raw.items()}


class Log:
    """One collection's log. Reading is safe from any thread; only the holder of the writer lock appends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        with storage_errors():
            self._writer = connect(path)
            # Readers open logs too, beside a writer: only a new log is written to.
            if not self._writer.execute("SELECT 1 FROM sqlite_schema WHERE name = 'pointer'").get:
                with transaction(self._writer):
                    self._writer.execute(_SCHEMA)
                    self._writer.execute("INSERT OR IGNORE INTO pointer VALUES (1, ?, 0, '', 0)", (FORMAT,))
            self._reader = connect(path)
            ((found,),) = self._reader.execute("SELECT format FROM pointer")
        if found > FORMAT:
            raise VssError(
                Code.UNSUPPORTED,
                f"the log has format {found}, this program reads up to {FORMAT}",
                hint="start a newer version of vss",
            )

    def append(self, operations: Sequence[Operation]) -> int:
        """Write the operations in one durable transaction; all or nothing. Returns the last one's seq."""
        with self._write_lock, storage_errors(), transaction(self._writer):
            self._writer.executemany(
                "INSERT INTO operations (kind, key, vectors, payload) VALUES (?, ?, ?, ?)",
                ((int(op.kind), op.key, op.vectors, op.payload) for op in operations),
            )
            last = self._writer.last_insert_rowid()
        return last

    def publish(self, expected: int, write: Callable[[], Pointer]) -> None:
        """Move the pointer from generation `expected` to what `write` returns.

        `write` makes the manifest durable; it is called only when the pointer may move, so that no job ever replaces
        the manifest of a published generation. VssError (CONFLICT) when another generation than `expected` is current.
        """
        with self._write_lock, storage_errors(), transaction(self._writer):
            ((current,),) = self._writer.execute("SELECT generation FROM pointer")
            if current != expected:
                raise VssError(
                    Code.CONFLICT,
                    f"generation {current} is current, the job was built on {expected}",
                    hint="run the job again",
                )
            pointer = write()
            self._writer.execute(
                "UPDATE pointer SET generation = ?, manifest = ?, covered_seq = ?",
                (pointer.generation, pointer.manifest, pointer.covered_seq),
            )

    def data_version(self) -> int:
        """A number that changes when any connection but the reader's has committed (SQLite's `data_version`)."""
        with self._read_lock, storage_errors():
            return int(self._reader.pragma("data_version"))

    def read(self, generation: int, after: int) -> tuple[Pointer, list[Operation]]:
        """The pointer, and the operations that it leaves uncovered, at one moment.

        When `generation` is still the current one only operations with `seq > after` are read.
        """
        with self._read_lock, storage_errors(), self._reader:
            ((current, manifest, covered),) = self._reader.execute(
                "SELECT generation, manifest, covered_seq FROM pointer"
            )
            start = after if current == generation else covered
            rows = self._reader.execute(
                "SELECT kind, key, vectors, payload, seq FROM operations WHERE seq > ? ORDER BY seq", (start,)
            )
            operations = [
                Operation(Kind(kind), key, vectors, payload, seq) for kind, key, vectors, payload, seq in rows
            ]
        return Pointer(current, manifest, covered), operations

    def pointer(self) -> Pointer:
        """The current generation."""
        with self._read_lock, storage_errors():
            ((generation, manifest, covered),) = self._reader.execute(
                "SELECT generation, manifest, covered_seq FROM pointer"
            )
        return Pointer(generation, manifest, covered)

    def keys_after(self, seq: int) -> set[bytes]:
        """The keys that operations after `seq` wrote or deleted, covered or not."""
        with self._read_lock, storage_errors():
            return {key for (key,) in self._reader.execute("SELECT DISTINCT key FROM operations WHERE seq > ?", (seq,))}

    def last_seq(self) -> int:
        """The highest sequence number that was ever given; 0 for none."""
        with self._read_lock, storage_errors():
            for (seq,) in self._reader.execute("SELECT seq FROM sqlite_sequence WHERE name = 'operations'"):
                return int(seq)
            return 0

    def close(self) -> None:
        """Close the connections once nobody is using them; what comes after raises VssError (NOT_FOUND)."""
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()


def connect(path: Path) -> apsw.Connection:
    """A connection with the settings that durability rests on."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    _use_wal(connection)
    connection.pragma("synchronous", "full")
    return connection


def _use_wal(connection: apsw.Connection) -> None:
    # SQLite does not wait (as the busy timeout says) when two processes turn a new file to WAL at once.
    until = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.pragma("journal_mode", "wal")
            return
        except apsw.BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(0.001)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """One write transaction, all or nothing.

    It takes the lock at its start: one that reads first and writes then fails at once, without waiting, when another
    process commits in between. Not by apsw's `with connection`, which holds the GIL while it waits for the lock.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some failures have rolled it back already
            connection.execute("ROLLBACK")
        raise


class storage_errors:
    """Turns SQLite's failures (disk full, I/O error, corruption) into `VssError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            raise VssError(Code.CORRUPT, "the log is damaged", hint="restore the collection from a snapshot") from error
        if isinstance(error, apsw.ConnectionClosedError):
            raise VssError(Code.NOT_FOUND, "the collection was deleted meanwhile", field="collection") from error
        if isinstance(error, apsw.Error):
            raise VssError(
                Code.STORAGE,
                f"the write-ahead log failed: {error}",
                hint="check the disk; nothing of this request was applied",
            ) from error
