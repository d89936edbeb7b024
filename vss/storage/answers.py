"""What writes that carried an idempotency key were answered, in the log's own file.

An answer is written in the transaction of the rows that it tells of: after any crash both are there, or neither. It is
remembered for `MAX_AGE_SECONDS`, and among the last `MAX_ANSWERS` of the collection.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import apsw
import msgspec

MAX_ANSWERS = 10_000
"""Keyed writes of one collection that are remembered."""

MAX_AGE_SECONDS = 24 * 3600
"""How long they are."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    seq INTEGER NOT NULL,
    done INTEGER NOT NULL,
    whole INTEGER NOT NULL,
    report BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_at ON answers (at);
"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one write.

    digest: of the request: the same key with another one is a mistake of the client
    seq:    of its last operation; while it is written, counted from the first row of the transaction
    done:   how many of its changes are carried out; fewer than `whole` when a batch was cut off
    report: what else the answer says, as JSON
    """

    key: str
    digest: bytes
    seq: int = 0
    done: int = 0
    whole: int = 1
    report: bytes = b"{}"


def keep(connection: apsw.Connection, answers: Sequence[Answer], base: int) -> None:
    """Write answers, whose seq counts from `base`, and forget what is too old. Called in a transaction."""
    if not answers:
        return
    if not _known(connection):
        connection.execute(_SCHEMA)
    now = int(time.time())
    connection.execute("DELETE FROM answers WHERE at < ?", (now - MAX_AGE_SECONDS,))
    connection.executemany(
        "INSERT OR REPLACE INTO answers (key, digest, seq, done, whole, report, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(one.key, one.digest, base + one.seq, one.done, one.whole, one.report, now) for one in answers],
    )
    connection.execute("DELETE FROM answers WHERE number <= ?", (connection.last_insert_rowid() - MAX_ANSWERS,))


def recall(connection: apsw.Connection, key: str) -> Answer | None:
    """The answer of a key, or None."""
    if not _known(connection):
        return None
    rows = connection.execute(
        "SELECT digest, seq, done, whole, report FROM answers WHERE key = ? AND at >= ?",
        (key, int(time.time()) - MAX_AGE_SECONDS),
    )
    for digest, seq, done, whole, report in rows:
        return Answer(key=key, digest=digest, seq=seq, done=done, whole=whole, report=report)
    return None


def _known(connection: apsw.Connection) -> bool:
    # Logs of before have no such table, and those who only read write none.
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'answers'").get)
