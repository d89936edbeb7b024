"""SQLite as the store uses it: WAL mode, synchronous=FULL, and a connection for commits that survives failures.

What a failed fsync means (A. Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020): the
kernel may have marked pages clean that never reached the disk, so nothing that was written through that connection, or
before it in the write-ahead log, may be taken for durable. `Committer` therefore closes it, and commits again only
after a new one has moved the whole write-ahead log into the database, synced that, and emptied the log.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from vss.errors import Code, VssError

BUSY_MILLISECONDS = 10_000
"""How long one process waits for another that writes."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""How long nothing is committed after a failure: doubled with each one, up to this. The next write then tries."""

FULL_BYTES = 1 << 20
"""Less free space than this: whatever failed, that was the reason."""

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)


class Committer:
    """The one connection of a process that commits to a database. Its owner lets in one thread at a time.

    prove:   called with each new connection; VssError when the database is not what it was
    failure: why nothing is committed at the moment, or None
    """

    def __init__(self, path: Path, prove: Callable[[apsw.Connection], None]) -> None:
        self.failure: VssError | None = None
        self._path = path
        self._prove = prove
        self._closed = False
        self._connection: apsw.Connection | None = None
        self._failures = 0
        self._again = 0.0

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """One durable transaction, all or nothing.

        VssError: NO_SPACE or STORAGE when the disk does not take it, and for a while after that (`failure`); CORRUPT;
        NOT_FOUND when it is closed.
        """
        with self.connection() as connection:
            with transaction(connection):
                yield connection
            self.failure, self._failures = None, 0

    @contextmanager
    def connection(self) -> Iterator[apsw.Connection]:
        """The connection outside of a transaction. VssError as `transaction`."""
        if self.failure is not None and time.monotonic() < self._again:
            raise VssError(self.failure.code, self.failure.message, hint=self.failure.hint)
        try:
            yield self._trusted()
        except (apsw.Error, OSError, UnicodeDecodeError) as error:
            failed = storage_failure(error, self._path)
            if not isinstance(error, apsw.BusyError | apsw.ConstraintError | apsw.ConnectionClosedError):
                self._distrust(failed)
            raise failed from error

    def _trusted(self) -> apsw.Connection:
        if self._closed:
            raise apsw.ConnectionClosedError("closed")
        if self._connection is None:
            connection = connect(self._path)
            try:
                # What another process wrote before it ended may not be on the disk either: see the head of this file.
                _empty_log(connection)
                self._prove(connection)
            except BaseException:
                _close(connection)
                raise
            self._connection = connection
        return self._connection

    def _distrust(self, failed: VssError) -> None:
        self._drop()
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._again = time.monotonic() + pause
        self.failure = failed

    def _drop(self) -> None:
        if self._connection is not None:
            _close(self._connection)
            self._connection = None

    def close(self) -> None:
        """Close it for good."""
        self._closed = True
        self._drop()


def _empty_log(connection: apsw.Connection) -> None:
    """Move the write-ahead log into the database, sync that, and cut the log to nothing."""
    # SQLite does not wait (as the busy timeout says) while another process does the same.
    until = time.monotonic() + BUSY_MILLISECONDS / 1000
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").get[0]:
        if time.monotonic() > until:
            raise apsw.BusyError("readers held the write-ahead log all the time")
        time.sleep(0.002)


def _close(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        connection.close()


def connect(path: Path) -> apsw.Connection:
    """A connection with the settings that durability rests on."""
    fresh = not path.exists() or path.stat().st_size == 0
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        if fresh:
            connection.pragma("auto_vacuum", "incremental")  # only before the first page is written
        _use_wal(connection)
        connection.pragma("synchronous", "full")
    except BaseException:
        _close(connection)
        raise
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
            with suppress(apsw.Error):  # what failed first is what counts
                connection.execute("ROLLBACK")
        raise


class storage_errors:
    """Turns failures of SQLite and of the operating system (disk full, I/O error, corruption) into `VssError`.

    path: the file that is worked on
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, apsw.Error | OSError | UnicodeDecodeError):
            raise storage_failure(error, self._path) from error


def storage_failure(error: apsw.Error | OSError | UnicodeDecodeError, path: Path) -> VssError:
    """What a failure means: CORRUPT, NOT_FOUND (closed meanwhile), NO_SPACE, or STORAGE."""
    name = path.name
    # The SQL is ours and right: where SQLite cannot make sense of it, it is the schema in the file that is damaged.
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.SQLError | UnicodeDecodeError):
        return VssError(Code.CORRUPT, f"{name} is damaged: {error}", hint="`vss doctor` says what can be repaired")
    if isinstance(error, apsw.ConnectionClosedError):
        return VssError(Code.NOT_FOUND, "the collection was deleted meanwhile", field="collection")
    number, free = getattr(error, "errno", None), free_bytes(path.parent)
    if isinstance(error, apsw.ReadOnlyError) or number == errno.EROFS:
        return VssError(
            Code.STORAGE,
            f"{name} cannot be written: {error}; nothing of this request was applied",
            hint="make the file system writable: searches go on, and writing resumes by itself",
        )
    if isinstance(error, apsw.FullError) or number in FULL_ERRORS or free < FULL_BYTES:
        return VssError(
            Code.NO_SPACE,
            f"got {free:,} free bytes on the disk of {name}, wanted room for this write; nothing of it was applied",
            hint="make room: searches go on, and writing resumes by itself",
        )
    return VssError(
        Code.STORAGE,
        f"the disk of {name} failed: {error}; nothing of this request was applied",
        hint="check the disk: searches go on, and writing is tried again by itself",
    )


def free_bytes(folder: Path) -> int:
    """What the file system has left for us; where it does not tell, a lot."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize
