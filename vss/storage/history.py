"""Which generations a log still knows, and how far back its operations reach. All but the reading is the writer's.

    retained  the generations that can be promoted
    promote   one of them becomes current; the operations that it does not cover apply to it again
    retire    all but the last few are forgotten
    prune     operations that every retained generation covers go, in small batches
    erase     as `prune`, and nothing of what went stays in the file

The order holds through a kill at any point: first a generation is forgotten, then its operations go, and only then
its files (`vss.jobs.collect`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from vss.errors import Code, VssError
from vss.schema import Schema
from vss.storage.log import Log, Pointer, move_pointer, newest_generation
from vss.storage.sqlite import connect

BATCH = 1_000
"""Operations that are deleted at a time; writes wait meanwhile."""

Held = Callable[[], int | None]
"""Says which operations a job needs: those after the number that it returns (see `storage.staging.held_seq`)."""

CHECKPOINT_SECONDS = 30.0
"""How long `erase` waits for readers that are in the middle of a read."""


@dataclass(frozen=True, slots=True)
class Retained:
    """A generation that can be promoted. manifest: its sha256; turn: rises each time that any becomes current."""

    generation: int
    manifest: str
    covered_seq: int
    turn: int
    current: bool


@dataclass(frozen=True, slots=True)
class Retired:
    """The generations that a retirement has forgotten, and how many operations it deleted."""

    generations: tuple[int, ...]
    operations: int


def retained(log: Log) -> list[Retained]:
    """The generations that can be promoted, oldest first."""
    with log.reading() as connection:
        return _retained(connection)


def known_numbers(log: Log) -> tuple[list[Retained], int]:
    """The retained generations, and the highest number that was ever given, at one moment."""
    with log.reading() as connection:
        return _retained(connection), newest_generation(connection)


def _retained(connection: apsw.Connection) -> list[Retained]:
    rows = connection.execute(
        "SELECT generation, manifest, covered_seq, turn, "
        "generation = (SELECT generation FROM pointer) FROM generations ORDER BY generation"
    )
    return [
        Retained(generation, manifest, covered, turn, bool(current))
        for generation, manifest, covered, turn, current in rows
    ]


def find(log: Log, generation: int) -> Retained:
    """One generation. VssError (NOT_FOUND) names those that are retained."""
    known = retained(log)
    for one in known:
        if one.generation == generation:
            return one
    there = ", ".join(str(one.generation) for one in known) or "none"
    raise VssError(
        Code.NOT_FOUND, f"got generation {generation}, retained are {there}", field="generation", hint="promote one"
    )


def vectors_after(log: Log, seq: int) -> set[str]:
    """The names of the vectors that operations after `seq` have written."""
    names: set[str] = set()
    with log.reading() as connection:
        for (vectors,) in connection.execute("SELECT vectors FROM operations WHERE seq > ?", (seq,)):
            if vectors:
                names |= msgspec.msgpack.decode(vectors, type=dict[str, msgspec.Raw]).keys()
    return names


def promote(log: Log, chosen: Retained, schema: Schema | None) -> None:
    """Make a retained generation current. schema: kept beside the pointer until the catalog has it too.

    VssError (NOT_FOUND) when it was retired meanwhile.
    """
    with log.writing() as connection:
        if not any(one.generation == chosen.generation for one in _retained(connection)):
            raise VssError(Code.NOT_FOUND, f"generation {chosen.generation} was retired meanwhile", field="generation")
        move_pointer(connection, Pointer(chosen.generation, chosen.manifest, chosen.covered_seq))
        kept = None if schema is None else msgspec.json.encode(schema)
        connection.execute("UPDATE history SET schema = ?", (kept,))


def pending_schema(log: Log) -> Schema | None:
    """The schema of a promotion that the catalog may not have yet."""
    with log.reading() as connection:
        ((kept,),) = connection.execute("SELECT schema FROM history")
    return None if kept is None else msgspec.json.decode(kept, type=Schema)


def settle_schema(log: Log) -> None:
    """The catalog has the schema now."""
    with log.writing() as connection:
        connection.execute("UPDATE history SET schema = NULL")


def retire(log: Log, keep: int, held: Held, *, erased: bool = False) -> Retired:
    """Forget all generations but the current one and the `keep - 1` that were current last, then prune or erase."""
    with log.writing() as connection:
        known = sorted(_retained(connection), key=lambda one: (one.current, one.turn), reverse=True)
        gone = tuple(sorted(one.generation for one in known[max(1, keep) :]))
        if gone:
            connection.executemany("DELETE FROM generations WHERE generation = ?", [(one,) for one in gone])
    return Retired(gone, (erase if erased else prune)(log, held))


def prune(log: Log, held: Held) -> int:
    """Delete the operations that every retained generation covers; returns how many there were."""
    deleted = 0
    while True:
        with log.writing() as connection:
            # Asked anew for each batch: what is retained may have changed.
            line = min((one.covered_seq for one in _retained(connection)), default=0)
            needed = held()
            line = line if needed is None else min(line, needed)
            through = 0
            for (through,) in connection.execute(
                "SELECT max(seq) FROM (SELECT seq FROM operations WHERE seq <= ? ORDER BY seq LIMIT ?)", (line, BATCH)
            ):
                through = through or 0
            if through:
                connection.execute("UPDATE history SET pruned_seq = max(pruned_seq, ?)", (through,))
                connection.execute("DELETE FROM operations WHERE seq <= ?", (through,))
                deleted += connection.changes()
        if not through:
            break
    if deleted:
        _shrink(log)
    return deleted


def _shrink(log: Log) -> None:
    """Give freed pages back, a few at a time, in a log that was made for it."""
    while True:
        with log.alone() as path, _connected(path) as connection:
            before = connection.pragma("freelist_count")
            connection.execute(f"PRAGMA incremental_vacuum({BATCH})").fetchall()
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if not connection.pragma("freelist_count") < before:
                return


def erase(log: Log, held: Held) -> int:
    """Prune, and write the file anew, so that it and its WAL have no byte of what went.

    VssError (UNAVAILABLE) when readers were in the way of the last step all the time; it may be called again.
    """
    deleted = prune(log, held)
    with log.alone() as path, _connected(path) as connection:
        connection.pragma("secure_delete", True)
        connection.pragma("auto_vacuum", "incremental")  # for a log that was not made so
        connection.execute("VACUUM")
    until = time.monotonic() + CHECKPOINT_SECONDS
    while not _truncated(log):
        if time.monotonic() > until:
            raise VssError(
                Code.UNAVAILABLE, "readers are in the way of emptying the write-ahead log", hint="run the purge again"
            )
        time.sleep(0.02)
    return deleted


def _truncated(log: Log) -> bool:
    with log.alone() as path, _connected(path) as connection:
        connection.set_busy_timeout(50)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            return False
        return True


@contextmanager
def _connected(path: Path) -> Iterator[apsw.Connection]:
    connection = connect(path)
    try:
        yield connection
    finally:
        connection.close()
