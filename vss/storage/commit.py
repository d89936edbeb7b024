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

from vss.errors import Code, VssError
from vss.storage.collection import Collection
from vss.storage.log import Operation

log = logging.getLogger(__name__)

MAX_GROUP = 20_000
"""Operations in one transaction."""


@dataclass(slots=True)
class _Waiting:
    collection: Collection
    operations: Sequence[Operation]
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

    def submit(self, collection: Collection, operations: Sequence[Operation]) -> Future[int]:
        """Queue operations; all of them or none are written. The future gives the last one's seq once durable."""
        waiting = _Waiting(collection, operations)
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
            while self._queue and (not group or size + len(self._queue[0].operations) <= MAX_GROUP):
                waiting = self._queue.popleft()
                # From here on it cannot be cancelled; what was cancelled before is not written.
                if waiting.done.set_running_or_notify_cancel():
                    group.append(waiting)
                    size += len(waiting.operations)
            return group

    def _commit(self, collection: Collection, members: list[_Waiting]) -> None:
        try:
            seq = collection.log.append([operation for member in members for operation in member.operations])
        except Exception as error:
            for member in members:
                member.done.set_exception(error)
            return
        for member in reversed(members):
            member.done.set_result(seq)
            seq -= len(member.operations)
        try:
            self._after_commit(collection)
        except Exception:
            # The writes are acknowledged and safe in the log; sealing is tried again after the next commit.
            log.exception("sealing the live part of collection %s failed", collection.folder.name)
