"""Sealing beside the commits: once a live part is half full a thread turns it into a segment, and writers go on.

Only when it is full, because sealing fails or cannot keep up, do writers wait for it, and are refused where it fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from vss.errors import Code, VssError
from vss.storage.collection import Collection
from vss.storage.fold import LIVE_BYTES, LIVE_OPERATIONS

log = logging.getLogger(__name__)

SEAL_AT = 0.5
"""Part of the live part's bounds from which on it is sealed."""

PAUSE_SECONDS = 1.0
"""How long sealing is left alone after it failed."""


class SealThread:
    """The one thread that seals unasked; every seal of a process that commits goes through here, one at a time.

    seal: makes a segment of a collection's live part and publishes it
    """

    def __init__(self, seal: Callable[[Collection], object]) -> None:
        self._seal = seal
        self._alone = threading.Lock()
        self._again: dict[Collection, float] = {}
        self._wake = threading.Condition()
        self._due: dict[Collection, None] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vss-seal", daemon=True)
        self._thread.start()

    def heed(self, collection: Collection) -> None:
        """See to it that a live part that has grown is sealed. Returns at once."""
        if _full(collection, SEAL_AT) and not self._resting(collection):
            with self._wake:
                self._due[collection] = None
                self._wake.notify()

    def bound(self, collection: Collection) -> None:
        """Seal a live part that has grown, before this returns. What sealing raises is raised."""
        with self._alone:
            collection.catch_up()
            if not _full(collection, SEAL_AT):
                return
            try:
                self._seal(collection)
            except BaseException:
                self._again[collection] = time.monotonic() + PAUSE_SECONDS
                raise
            self._again.pop(collection, None)
            collection.catch_up()

    def make_room(self, collection: Collection) -> None:
        """Let the live part not grow beyond its bounds. VssError (STORAGE) when it is full and cannot be sealed."""
        if not _full(collection, 1.0):
            return
        error: Exception | None = None
        if not self._resting(collection):
            try:
                self.bound(collection)
            except Exception as failed:
                error = failed
        collection.catch_up()
        if _full(collection, 1.0):
            raise VssError(
                Code.STORAGE,
                f"{collection.live_size[0]:,} operations wait to be sealed and sealing fails"
                f"{f' ({error})' if error else ''}; nothing was written",
                hint="the log of the server says why: check the disk. It is tried again with the next write",
            )

    def forget(self, collection: Collection) -> None:
        """It was deleted."""
        with self._wake:
            self._due.pop(collection, None)
        self._again.pop(collection, None)

    def close(self) -> None:
        """Finish what is being sealed, and stop."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _resting(self, collection: Collection) -> bool:
        return time.monotonic() < self._again.get(collection, 0.0)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._due or self._closed)
                if self._closed:
                    return
                collection = next(iter(self._due))
                del self._due[collection]
            try:
                self.bound(collection)
            except Exception:
                # The writes are acknowledged and safe in the log; it is tried again after the next commit.
                if collection.folder.exists():
                    log.exception("sealing the live part of collection %s failed", collection.folder.name)


def _full(collection: Collection, part: float) -> bool:
    operations, size = collection.live_size
    return operations >= part * LIVE_OPERATIONS or size >= part * LIVE_BYTES
