"""Group commit: writers in flight share one durable transaction.

One thread takes whatever is waiting, writes the operations of each collection in one transaction, and then answers
every writer. While it waits for the disk the next group gathers.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from vss.changes import Change, UpdateVectors, Upsert
from vss.errors import Code, VssError
from vss.storage.collection import Collection
from vss.storage.expand import needs_view, operations_of
from vss.storage.log import Operation

log = logging.getLogger(__name__)

MAX_GROUP = 20_000
"""Operations in one transaction."""


@dataclass(slots=True)
class _Waiting:
    collection: Collection
    changes: Sequence[Change]
    done: Future[int] = field(default_factory=Future)


class CommitThread:
    """The one thread that writes. `after_commit` is called there with each collection that was written."""

    def __init__(self, after_commit: Callable[[Collection], None]) -> None:
        self._after_commit = after_commit
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vss-commit", daemon=True)
        self._thread.start()

    def submit(self, collection: Collection, changes: Sequence[Change]) -> Future[int]:
        """Queue changes, to be carried out in order. The future gives the last operation's seq once they are durable.

        Changes that need no look at what is stored are written in one transaction, all or none. One that does (a
        filter, a patch) comes after everything before it is durable, and is a transaction of its own.
        """
        waiting = _Waiting(collection, changes)
        with self._wake:
            if self._closed:
                raise VssError(Code.UNAVAILABLE, "the writer is stopping", hint="send the write again later")
            self._queue.append(waiting)
            self._wake.notify()
        return waiting.done

    def close(self) -> None:
        """Write what is waiting, then stop."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while (group := self._take()) is not None:
            by_collection: dict[Collection, list[_Waiting]] = {}
            for waiting in group:
                by_collection.setdefault(waiting.collection, []).append(waiting)
            for collection, members in by_collection.items():
                self._commit(collection, members)

    def _take(self) -> list[_Waiting] | None:
        """What waits, up to `MAX_GROUP` operations; None when closed and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            group: list[_Waiting] = []
            size = 0
            while self._queue and (not group or size + _size(self._queue[0]) <= MAX_GROUP):
                waiting = self._queue.popleft()
                # From here on it cannot be cancelled; what was cancelled before is not written.
                if waiting.done.set_running_or_notify_cancel():
                    group.append(waiting)
                    size += _size(waiting)
            return group

    def _commit(self, collection: Collection, members: list[_Waiting]) -> None:
        together: list[_Waiting] = []
        for member in members:
            if any(needs_view(change) for change in member.changes):
                self._together(collection, together)
                together = []
                self._alone(collection, member)
            else:
                together.append(member)
        self._together(collection, together)
        try:
            self._after_commit(collection)
        except Exception:
            # The writes are acknowledged and safe in the log; sealing is tried again after the next commit.
            log.exception("sealing the live part of collection %s failed", collection.folder.name)

    def _together(self, collection: Collection, members: list[_Waiting]) -> None:
        if not members:
            return
        try:
            written = [[op for change in one.changes for op in operations_of(change, None)] for one in members]
            seq = _append(collection, [op for operations in written for op in operations])
        except Exception as error:
            for member in members:
                member.done.set_exception(error)
            return
        for member, operations in zip(reversed(members), reversed(written), strict=True):
            member.done.set_result(seq)
            seq -= len(operations)

    def _alone(self, collection: Collection, member: _Waiting) -> None:
        seq = 0
        for number, change in enumerate(member.changes):
            try:
                seq = _append(collection, operations_of(change, collection.view()))
            except VssError as error:
                if number:
                    error.message += f"; the {number} changes before this one are applied"
                member.done.set_exception(error)
                return
            except Exception as error:
                member.done.set_exception(error)
                return
        member.done.set_result(seq)


def _size(waiting: _Waiting) -> int:
    """About how many operations the changes are; a filter's are not known yet."""
    return sum(len(change.points) if isinstance(change, Upsert | UpdateVectors) else 1 for change in waiting.changes)


def _append(collection: Collection, operations: Sequence[Operation]) -> int:
    return collection.log.append(operations) if operations else collection.log.last_seq()
