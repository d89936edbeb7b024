"""The log of one collection: every write as a row, and the pointer to the current generation, in one SQLite file.

SQLite through apsw, WAL mode, synchronous=FULL: `append` returns after the rows are on disk, and SQLite's own recovery
is the crash recovery. Sequence numbers come from AUTOINCREMENT, so none is ever used twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import apsw
import msgspec
import numpy as np

from vss.errors import Code, VssError
from vss.storage.answers import Answer, keep, recall
from vss.storage.manifest import FORMAT
from vss.storage.proof import Row, Witness, damaged, in_order, row_sum
from vss.storage.sqlite import Committer, connect, storage_errors
from vss.types import Vectors

TOGETHER = 32
"""Operations in one statement. Each lets go of the interpreter lock and waits for it again, while others search."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    key BLOB NOT NULL,
    vectors BLOB NOT NULL,
    payload BLOB NOT NULL,
    sum INTEGER
);
CREATE TABLE IF NOT EXISTS sums (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    unsummed INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS pointer (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    manifest TEXT NOT NULL,
    covered_seq INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS generations (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    manifest TEXT NOT NULL,
    covered_seq INTEGER NOT NULL,
    turn INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS history (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    pruned_seq INTEGER NOT NULL,
    schema BLOB
);
INSERT OR IGNORE INTO history VALUES (1, 0, NULL);
"""


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


class Operation(msgspec.Struct, gc=False):
    """One row of the log. `vectors` is what `pack_vectors` made; `seq` is 0 until `append` wrote it. See `Kind`."""

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


_FLOAT = np.dtype("<f4")
_KINDS = {int(kind): kind for kind in Kind}
_pack = msgspec.msgpack.Encoder().encode

vector_bytes = msgspec.msgpack.Decoder(dict[str, bytes]).decode
"""Name -> little-endian float32, of what `pack_vectors` made."""


def pack_vectors(vectors: Mapping[str, Vectors]) -> bytes:
    """Named `(dim,)` float32 vectors as msgpack of little-endian bytes."""
    return _pack({name: vector.astype(_FLOAT, copy=False).tobytes() for name, vector in vectors.items()})


def unpack_vectors(data: bytes) -> dict[str, Vectors]:
    """What `pack_vectors` was given."""
    return {name: np.frombuffer(value, dtype="<f4") for name, value in vector_bytes(data).items()}


class Log:
    """One collection's log. Reading is safe from any thread; only the holder of the writer lock appends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._witness = Witness(path.with_suffix(".seq"))
        self._turn = 0
        self._proved = False
        self._committer = Committer(path, self._prove)
        with storage_errors(path):
            self._reader = self._open()

    def _open(self) -> apsw.Connection:
        # Looked at before the log, which another process may be making: it never says more than there is.
        was_written = self._was_written()
        if was_written and not self._path.exists():
            raise damaged(self._path.name, "it is missing")
        reader = connect(self._path)
        try:
            # Readers open logs too, beside a writer: only a new log is written to, and one of an older format.
            found = 0
            if reader.execute("SELECT 1 FROM sqlite_schema WHERE name = 'pointer'").get:
                ((found,),) = reader.execute("SELECT format FROM pointer")
            elif was_written:
                raise damaged(self._path.name, "it has lost its tables")
            if not isinstance(found, int):
                raise damaged(self._path.name, f"got the format {found!r}")
            if found > FORMAT:
                raise VssError(
                    Code.UNSUPPORTED,
                    f"the log has format {found}, this program reads up to {FORMAT}",
                    hint="start a newer version of vss",
                )
            if found < FORMAT:
                self._upgrade()
        except BaseException:
            reader.close()
            self._committer.close()
            raise
        return reader

    def _was_written(self) -> bool:
        return self._witness.exists() or any((self._path.parent / "manifests").glob("*.json"))

    def _upgrade(self) -> None:
        """Make the tables of a new log, or add what an older format did not have."""
        with self._committer.transaction() as writer:
            old = writer.execute("SELECT 1 FROM sqlite_schema WHERE name = 'pointer'").get
            if old and writer.execute("SELECT format FROM pointer").get >= FORMAT:
                return  # another process was faster
            if old:
                writer.execute("ALTER TABLE operations ADD COLUMN sum INTEGER")
            writer.execute(_SCHEMA)
            writer.execute("INSERT OR IGNORE INTO pointer VALUES (1, ?, 0, '', 0)", (FORMAT,))
            writer.execute("UPDATE pointer SET format = ?", (FORMAT,))
            writer.execute("INSERT INTO sums VALUES (1, ?)", (_last_seq(writer),))
            writer.execute(
                "INSERT OR IGNORE INTO generations "
                "SELECT generation, manifest, covered_seq, 1 FROM pointer WHERE generation > 0"
            )
            noted = _last_seq(writer), _turn(writer)
        self._witness.write(*noted)

    def _prove(self, connection: apsw.Connection) -> None:
        """Whether a connection that has just been opened still has all that was acknowledged. VssError (CORRUPT)."""
        noted = self._witness.read()  # before the rows, as in `read`
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'generations'").get:
            self._turn = _turn(connection)
            self._compare(_last_seq(connection), self._turn, noted)

    def _compare(self, last: int, turn: int, noted: tuple[int, int]) -> None:
        if last < noted[0]:
            raise damaged(self._path.name, f"its operations end at {last}, and {noted[0]} were acknowledged")
        if turn < noted[1]:
            raise damaged(self._path.name, f"it knows {turn} publications, and {noted[1]} were acknowledged")

    @property
    def refusing(self) -> VssError | None:
        """Why this process cannot write to it at the moment, or None."""
        return self._committer.failure

    def append(self, operations: Sequence[Operation], answers: Sequence[Answer] = ()) -> int:
        """Write the operations in one durable transaction; all or nothing. Returns the last one's seq, and sets it in
        each of them.

        answers: kept in the same transaction, for writes that carry a key
        """
        with self._write_lock:
            with self._committer.transaction() as writer:
                first = _last_seq(writer) + 1
                _insert(writer, first, operations)
                last = first + len(operations) - 1
                keep(writer, answers, first - 1)
            self._witness.write(last, self._turn)
        for seq, operation in enumerate(operations, first):
            operation.seq = seq
        return last

    def answered(self, key: str) -> Answer | None:
        """What the write that carried this key was answered, while it is remembered."""
        with self._read_lock, storage_errors(self._path):
            return recall(self._reader, key)

    def publish(self, expected: int, number: int, write: Callable[[], Pointer]) -> None:
        """Move the pointer from generation `expected` to what `write` returns, the new generation `number`.

        `write` makes the manifest durable; it is called only when the pointer may move, so that no job ever replaces
        the manifest of a published generation. VssError (CONFLICT) when another generation than `expected` is current,
        or the number was given before: none is ever used twice, so that no reader takes one for another.
        """
        with self.writing() as writer:
            ((current,),) = writer.execute("SELECT generation FROM pointer")
            if current != expected:
                raise VssError(
                    Code.CONFLICT,
                    f"generation {current} is current, the job was built on {expected}",
                    hint="run the job again",
                )
            newest = newest_generation(writer)
            if number <= newest:
                raise VssError(
                    Code.CONFLICT,
                    f"generation {newest} was published, the job made generation {number}",
                    hint="run the job again",
                )
            move_pointer(writer, write())

    def newest_generation(self) -> int:
        """The highest number that a generation ever had; 0 before the first one."""
        with self._read_lock, storage_errors(self._path):
            return newest_generation(self._reader)

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """A connection at one moment, for `storage.history`. Nothing may be written with it."""
        with self._read_lock, storage_errors(self._path), self._reader:
            yield self._reader

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """A connection in one durable transaction, all or nothing, for `storage.history`. Writes wait meanwhile."""
        with self._write_lock:
            with self._committer.transaction() as writer:
                yield writer
                noted = _last_seq(writer), _turn(writer)
            self._turn = noted[1]
            self._witness.write(*noted)

    @contextmanager
    def alone(self) -> Iterator[Path]:
        """The file, while nothing else of this process is committed to it: for `storage.history`."""
        with self._write_lock, storage_errors(self._path):
            yield self._path

    def data_version(self) -> int:
        """A number that changes when any connection but the reader's has committed (SQLite's `data_version`)."""
        with self._read_lock, storage_errors(self._path):
            return int(self._reader.pragma("data_version"))

    def read(self, generation: int, after: int) -> tuple[Pointer, list[Operation]]:
        """The pointer, and the operations that it leaves uncovered, at one moment.

        When `generation` is still the current one only operations with `seq > after` are read.
        """
        noted = (0, 0) if self._proved else self._witness.read()  # before the rows: it never says more than they do
        with self._read_lock, storage_errors(self._path), self._reader:
            pointer, last = self._pointer(), _last_seq(self._reader)
            if not self._proved:
                self._compare(last, _turn(self._reader), noted)
            start = after if pointer.generation == generation else pointer.covered_seq
            operations = [
                Operation(_KINDS[kind], key, vectors, payload, seq)
                for kind, key, vectors, payload, seq, _ in self._rows(start, last)
            ]
        self._proved = True
        return pointer, operations

    def _rows(self, start: int, last: int) -> Iterator[Row]:
        ((unsummed,),) = self._reader.execute("SELECT unsummed FROM sums")
        rows = self._reader.execute(
            "SELECT kind, key, vectors, payload, seq, sum FROM operations WHERE seq > ? ORDER BY seq", (start,)
        )
        return in_order(rows, start, last, unsummed, self._path.name)

    def _pointer(self) -> Pointer:
        ((generation, manifest, covered),) = self._reader.execute(
            "SELECT generation, manifest, covered_seq FROM pointer"
        )
        if not (isinstance(generation, int) and isinstance(covered, int) and isinstance(manifest, str)):
            raise damaged(self._path.name, "its pointer cannot be read")
        if bool(generation) != bool(manifest) or generation < 0 or covered < 0:
            raise damaged(self._path.name, f"its pointer says generation {generation} of {manifest!r}")
        return Pointer(generation, manifest, covered)

    def pointer(self) -> Pointer:
        """The current generation."""
        with self._read_lock, storage_errors(self._path):
            return self._pointer()

    def keys_after(self, seq: int) -> set[bytes]:
        """The keys that operations after `seq` wrote or deleted, covered or not.

        VssError (STORAGE) when some of these operations are in the log no more: an answer without them would let an
        import bring back what was deleted since it began.
        """
        with self._read_lock, storage_errors(self._path), self._reader:
            ((pruned,),) = self._reader.execute("SELECT pruned_seq FROM history")
            if seq < pruned:
                raise VssError(
                    Code.STORAGE,
                    f"the job began at operation {seq}, the log begins after {pruned}",
                    hint="run the job again",
                )
            keys = {row[1] for row in self._rows(seq, _last_seq(self._reader))}
        return keys

    def last_seq(self) -> int:
        """The highest sequence number that was ever given; 0 for none."""
        with self._read_lock, storage_errors(self._path):
            return _last_seq(self._reader)

    def check(self) -> Iterator[VssError]:
        """What is wrong with it: SQLite's own check of the whole file, and every operation that it has."""
        try:
            with self._read_lock, storage_errors(self._path):
                said = [str(one) for (one,) in self._reader.execute("PRAGMA integrity_check(20)")]
            if said != ["ok"]:
                yield damaged(self._path.name, "; ".join(said))
            with self._read_lock, storage_errors(self._path), self._reader:
                ((pruned,),) = self._reader.execute("SELECT pruned_seq FROM history")
                for _ in self._rows(pruned, _last_seq(self._reader)):
                    pass
        except VssError as error:
            yield error

    def close(self) -> None:
        """Close the connections once nobody is using them; what comes after raises VssError (NOT_FOUND)."""
        with self._write_lock, self._read_lock:
            self._committer.close()
            self._reader.close()


def _last_seq(connection: apsw.Connection) -> int:
    for (seq,) in connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'operations'"):
        return int(seq)
    return 0


def _insert(writer: apsw.Connection, first: int, operations: Sequence[Operation]) -> None:
    for start in range(0, len(operations), TOGETHER):
        some = operations[start : start + TOGETHER]
        values: list[int | bytes] = []
        for seq, op in enumerate(some, first + start):
            kind = int(op.kind)
            values += seq, kind, op.key, op.vectors, op.payload, row_sum(kind, op.key, op.vectors, op.payload)
        rows = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(some))
        writer.execute(f"INSERT INTO operations (seq, kind, key, vectors, payload, sum) VALUES {rows}", values)


def _turn(connection: apsw.Connection) -> int:
    """How often a generation has become current."""
    ((turn,),) = connection.execute("SELECT coalesce(max(turn), 0) FROM generations")
    return int(turn)


def move_pointer(connection: apsw.Connection, pointer: Pointer) -> None:
    """Make a generation current within a transaction. Its turn says how recently it was."""
    values = (pointer.generation, pointer.manifest, pointer.covered_seq)
    connection.execute("UPDATE pointer SET generation = ?, manifest = ?, covered_seq = ?", values)
    connection.execute(
        "INSERT OR REPLACE INTO generations SELECT ?, ?, ?, 1 + coalesce(max(turn), 0) FROM generations", values
    )


def newest_generation(connection: apsw.Connection) -> int:
    """The highest number that a generation ever had; 0 before the first one."""
    for (number,) in connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'generations'"):
        return int(number)
    return 0
