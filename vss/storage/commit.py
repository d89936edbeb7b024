"""Group commit: writers in flight share one durable transaction.

One thread takes whatever is waiting, writes the operations of each collection in one transaction, and then answers
every writer. While it waits for the disk the next group gathers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import msgspec

from vss.changes import Change, UpdateVectors, Upsert
from vss.errors import Code, VssError
from vss.storage.answers import Answer
from vss.storage.collection import Collection
from vss.storage.expand import needs_view, operations_of
from vss.storage.log import Operation

log = logging.getLogger(__name__)

MAX_GROUP = 20_000
"""Operations in one transaction."""

NEXT_SECONDS = 0.002
"""How long a commit waits for the next writer, where there were several lately."""

GATHER_SECONDS = 0.01
"""How long it waits for all of them."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction, as whoever observes the writer is told of it.

    waits:   for each write in it, how many transactions ended from its queueing to its acknowledgement
    seconds: the transaction took
    """

    operations: int
    waits: Sequence[int]
    seconds: float


@dataclass(slots=True)
class _Waiting:
    """A write. `queued` is the number of transactions before it came."""

    collection: Collection
    changes: Sequence[Change]
    once: Answer | None
    queued: int
    done: Future[int] = field(default_factory=Future)


class CommitThread:
    """The one thread that writes.

    before_commit: called there before a collection is written; what it raises is the answer of all its writers
    after_commit:  called there with each collection that was written
    observe:       called there with each transaction
    """

    def __init__(
        self,
        before_commit: Callable[[Collection], None],
        after_commit: Callable[[Collection], None],
        observe: Callable[[Commit], None],
    ) -> None:
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._commits = 0
        self._around = 1
        self._thread = threading.Thread(target=self._run, name="vss-commit", daemon=True)
        self._thread.start()

    def submit(self, collection: Collection, changes: Sequence[Change], once: Answer | None = None) -> Future[int]:
        """Queue changes, to be carried out in order. The future gives the last operation's seq once they are durable.

        Changes that need no look at what is stored are written in one transaction, all or none. One that does (a
        filter, a patch) comes after everything before it is durable, and is a transaction of its own.

        once: carry the write out only when no write of this key is remembered; else the seq is that one's. The future
              raises VssError (CONFLICT) when that one was another request.
        """
        waiting = _Waiting(collection, changes, once, self._commits)
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
            # Those who were answered are likely to come again, as those are who came meanwhile.
            self._around = len(group) + len(self._queue)

    def _take(self) -> list[_Waiting] | None:
        """What waits, up to `MAX_GROUP` operations; None when closed and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closed)
            # A lone writer never waits here. Several come back one by one after a commit has answered them all:
            # without this the first of them would have a commit for itself, and the others wait for the next.
            until = time.monotonic() + GATHER_SECONDS
            while len(self._queue) < self._around and not self._closed and time.monotonic() < until:
                if not self._wake.wait(NEXT_SECONDS):
                    break
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
        try:
            self._before_commit(collection)
        except Exception as error:
            for member in members:
                member.done.set_exception(error)
            return
        together: list[_Waiting] = []
        keys: set[str] = set()
        for member in members:
            alone = any(needs_view(change) for change in member.changes)
            if alone or (member.once is not None and member.once.key in keys):
                self._together(collection, together)
                together, keys = [], set()
            if self._answered(collection, member):
                continue
            if alone:
                self._alone(collection, member)
                continue
            together.append(member)
            if member.once is not None:
                keys.add(member.once.key)
        self._together(collection, together)
        try:
            self._after_commit(collection)
        except Exception:
            # The writes are acknowledged and safe in the log; sealing is tried again after the next commit.
            log.exception("sealing the live part of collection %s failed", collection.folder.name)

    def _answered(self, collection: Collection, member: _Waiting) -> bool:
        """Whether a write of the same key was carried out; the member is answered then."""
        if member.once is None:
            return False
        try:
            known = remembered(collection, member.once.key, member.once.digest)
        except Exception as error:
            member.done.set_exception(error)
            return True
        if known is not None and known.done == known.whole:
            member.done.set_result(known.seq)
            return True
        member.once = msgspec.structs.replace(member.once, done=known.done if known else 0, whole=len(member.changes))
        return False

    def _together(self, collection: Collection, members: list[_Waiting]) -> None:
        if not members:
            return
        try:
            written = [[op for change in one.changes for op in operations_of(change, None)] for one in members]
            answers, count = [], 0
            for member, operations in zip(members, written, strict=True):
                count += len(operations)
                if member.once is not None:
                    answers.append(msgspec.structs.replace(member.once, seq=count, done=member.once.whole))
            seq = self._append(collection, [op for operations in written for op in operations], answers, members)
        except Exception as error:
            for member in members:
                member.done.set_exception(error)
            return
        for member, operations in zip(reversed(members), reversed(written), strict=True):
            member.done.set_result(seq)
            seq -= len(operations)

    def _alone(self, collection: Collection, member: _Waiting) -> None:
        seq, last = 0, len(member.changes) - 1
        before = member.once.done if member.once is not None else 0
        for number, change in enumerate(member.changes):
            if number < before:
                continue  # the same request did these before it was cut off
            try:
                operations, answers = operations_of(change, collection.view()), []
                if member.once is not None:
                    answers = [msgspec.structs.replace(member.once, seq=len(operations), done=number + 1)]
                seq = self._append(collection, operations, answers, [member] if number == last else [])
            except VssError as error:
                if number:
                    error.message += f"; the {number} changes before this one are applied"
                member.done.set_exception(error)
                return
            except Exception as error:
                member.done.set_exception(error)
                return
        member.done.set_result(seq)

    def _append(
        self,
        collection: Collection,
        operations: Sequence[Operation],
        answers: Sequence[Answer],
        members: Sequence[_Waiting],
    ) -> int:
        if not operations and not answers:
            return collection.log.last_seq()
        began = time.perf_counter()
        seq = collection.log.append(operations, answers)
        seconds = time.perf_counter() - began
        self._commits += 1
        try:
            collection.take(operations)
        except Exception:
            # They are on disk: whoever reads next reads them there, or learns what is wrong.
            log.exception("the live part of collection %s could not take a commit", collection.folder.name)
        self._observe(Commit(len(operations), [self._commits - one.queued for one in members], seconds))
        return seq


def remembered(collection: Collection, key: str, digest: bytes) -> Answer | None:
    """What the write of this key was answered. VssError (CONFLICT) when that was another request."""
    known = collection.log.answered(key)
    if known is not None and known.digest != digest:
        raise VssError(
            Code.CONFLICT,
            "this key came with another request before; nothing was written",
            field="Idempotency-Key",
            hint="send another key with another request",
        )
    return known


def _size(waiting: _Waiting) -> int:
    """About how many operations the changes are; a filter's are not known yet."""
    return sum(len(change.points) if isinstance(change, Upsert | UpdateVectors) else 1 for change in waiting.changes)
