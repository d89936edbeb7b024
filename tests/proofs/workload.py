"""A process that writes, seals, folds, promotes and collects, and marks what begins and what is acknowledged.

    python -m tests.proofs.workload FOLDER SEED REQUESTS MARKS

The data directory is FOLDER/data; MARKS is the number of an open handle. `recorder.c` records it. A mark is JSON:
{"begins": owner}, {"done": owner}, {"undone": owner}, {"collection": name, "there": true, false or null while it
changes}, or {"generation": number, or null while it changes}. Where the record says that it was killed before, it goes
on: what was under way then turned out to be done or undone, and is so for good once another write is acknowledged.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from indexers.registry import INDEXERS
from tests.proofs.account import DIM, GRAPH, Owner, Points
from tests.proofs.disk import read_record
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs.collect import collect
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage import history
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.publish import CHEAP_ATTEMPTS, until_published
from vss.types import Metric

SCHEMA = Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=IndexSettings(kind=GRAPH))

FAILING = (Code.STORAGE, Code.NO_SPACE)
"""What a failing disk may answer."""

SECONDS = 60.0
"""How long it may."""

NOBODY = 999_999
"""An id that no owner has."""

T = TypeVar("T")


def owners(seed: int) -> list[Owner]:
    """Those of a seed: the process and its judge make the same requests."""
    rng = random.Random(seed)
    return [Owner(f"o{one}", 1_000 * one, 60, 1 + 8 * one, random.Random(rng.random())) for one in range(3)]


class Expected:
    """What the marks have said: what has to be there."""

    def __init__(self, seed: int) -> None:
        self.owners = owners(seed)
        self.collections: dict[str, bool | None] = {}
        self.generation: int | None = 0

    def take(self, mark: dict[str, Any]) -> None:
        """The next mark."""
        if "begins" in mark:
            self.owners[mark["begins"]].begin()
        elif "done" in mark:
            self.owners[mark["done"]].acknowledged()
        elif "undone" in mark:
            self.owners[mark["undone"]].pending = None
        elif "collection" in mark:
            self.collections[mark["collection"]] = mark["there"]
        else:
            self.generation = mark["generation"]


def contents(collection: Collection) -> Points:
    """Every point. AssertionError when one comes twice, or they are counted otherwise."""
    view = collection.view()
    places, following = view.scroll(None, None, 100_000)
    assert following is None
    points = [part.point(row) for part, row in places]
    found = {int(one.id): (one.vectors[""].tolist(), msgspec.json.decode(one.payload)) for one in points}
    assert len(found) == len(points) == view.points
    return found


def main() -> None:
    """Run it."""
    folder, seed, requests, marks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

    def mark(**said: Any) -> None:
        os.write(marks, json.dumps(said).encode())

    def make(engine: LocalEngine, name: str) -> None:
        mark(collection=name, there=None)
        until_done(lambda: engine.create(name, SCHEMA))
        mark(collection=name, there=True)

    def write(owner: Owner, number: int) -> None:
        for _ in range(requests):
            mark(begins=number)
            change = owner.begin().change()  # each may be carried out twice
            until_done(lambda change=change: engine.write("c", [change]).result())
            mark(done=number)
            owner.acknowledged()

    expected = Expected(seed)
    for entry in read_record(Path(os.environ["RECORD_INTO"])):
        if entry.kind == "M":
            expected.take(json.loads(entry.data))
    engine = LocalEngine(DataDir(folder / "data"), INDEXERS, writable=True)
    rng = random.Random(seed + 1)
    try:
        if any(one.name == "c" for one in engine.entries()):
            go_on(engine, expected, mark)
        else:
            make(engine, "c")
        all_ = expected.owners
        threads = [threading.Thread(target=write, args=(owner, number)) for number, owner in enumerate(all_)]
        for thread in threads:
            thread.start()
        publications = 0
        while any(thread.is_alive() for thread in threads) or publications < 12:
            publications += 1
            mark(generation=None)
            with contextlib.suppress(OSError):
                mark(generation=until_done(lambda: publish(engine, engine.collection("c"), rng)))
            if rng.random() < 0.2:
                make(engine, "other")
                mark(collection="other", there=None)
                until_done(lambda: engine.delete("other"))
                mark(collection="other", there=False)
        for thread in threads:
            thread.join()
        if any(owner.pending for owner in all_):
            raise SystemExit("an owner ended early")
    finally:
        engine.close()


def go_on(engine: LocalEngine, expected: Expected, mark: Callable[..., None]) -> None:
    """Find out what was carried out before a kill."""
    found, open_ = contents(engine.collection("c")), {}
    for number, owner in enumerate(expected.owners):
        if owner.pending is not None:
            open_[number] = owner.settle(found)
    engine.remove("c", [NOBODY]).result()
    for number, done in open_.items():
        mark(**{"done" if done else "undone": number})
    if any(one.name == "other" for one in engine.entries()):
        engine.delete("other")
        mark(collection="other", there=False)


def until_done(job: Callable[[], T]) -> T:
    """What it returns; a disk that fails for a while only makes it late."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return job()
        except VssError as error:
            if error.code not in FAILING or time.monotonic() > until:
                raise
        time.sleep(0.02)


def publish(engine: LocalEngine, collection: Collection, rng: random.Random) -> int:
    """Seal, fold, promote or collect; the current generation then."""
    match rng.choice(["seal", "seal", "fold", "promote", "collect"]):
        case "seal":
            return until_published(lambda: seal(collection, engine, INDEXERS), CHEAP_ATTEMPTS).generation
        case "fold":
            return until_published(lambda: fold(collection, engine, INDEXERS, threads=1), CHEAP_ATTEMPTS).generation
        case "promote" if history.retained(collection.log):
            chosen = rng.choice(history.retained(collection.log)).generation
            return engine.promote("c", chosen).generation
        case "collect":
            collect(engine.data, collection.folder.name, engine, keep=2)
    return collection.log.pointer().generation


if __name__ == "__main__":
    main()
