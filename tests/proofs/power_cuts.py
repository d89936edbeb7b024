"""A recorded process (`workload`), and the disks that power cuts at many moments would have left of it.

    python -m tests.proofs.power_cuts --states 5000 --out results.jsonl

Each state is opened as a server opens it: it has everything that was acknowledged before the cut and nothing else, its
files verify, it answers, and it takes writes.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from indexers.registry import INDEXERS
from tests.proofs.account import DIM, Owner, Points
from tests.proofs.disk import Disk, Entry, Mode, read_record
from tests.proofs.outcome import long_run
from tests.proofs.workload import Expected, contents
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.search.retrieve import search
from vss.storage import history
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.manifest import artifacts_of, read_manifest

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where thousands of small data directories are made and removed; None: where temporary files are."""

REQUESTS = 25
"""Of each owner, in a long run."""

MOMENTS = "SFRLUTCDM"
"""Kinds of entries after which the power is cut; between two of them there are only writes, which `Mode` cuts."""


def build(folder: Path) -> Path | None:
    """Compile the recorder; None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library, source = folder / "recorder.so", Path(__file__).with_name("recorder.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-lpthread"], check=True)
    return library


def record(library: Path, folder: Path, seed: int, requests: int, fail: str = "") -> Path:
    """Run the workload, once more when it was killed; its record. fail: what fails (see `recorder.c`)."""
    under, into = folder / "under", folder / "record"
    under.mkdir(exist_ok=True)
    marks = os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(marks, True)
    settings = {"LD_PRELOAD": library, "RECORD_UNDER": under, "RECORD_INTO": into, "RECORD_MARKS": marks}
    environment = os.environ | {name: str(value) for name, value in settings.items()} | {"PYTHONDONTWRITEBYTECODE": "1"}
    if fail:
        environment["RECORD_FAIL"] = fail
    command = [sys.executable, "-m", "tests.proofs.workload", str(under), str(seed), str(requests), str(marks)]
    try:
        ended = subprocess.run(
            command, env=environment, pass_fds=[marks], capture_output=True, text=True, timeout=300, check=False
        )
    finally:
        os.close(marks)
    if fail and ended.returncode == -signal.SIGKILL:
        return record(library, folder, seed, requests)
    assert ended.returncode == 0, ended.stderr[-3_000:]
    return into


class Judge(Expected):
    """Says whether what a cut has left is as it has to be."""

    def check(self, data: Path, rng: random.Random) -> None:
        """Open what a cut left. AssertionError or VssError when something is wrong."""
        engine = LocalEngine(DataDir(data), INDEXERS, writable=True)
        try:
            for name, there in self.collections.items():
                if there is not None:
                    assert (name in {one.name for one in engine.entries()}) == there, f"{name}: wanted {there}"
            if "c" in {one.name for one in engine.entries()}:
                self._check_collection(engine, engine.collection("c"), rng)
            else:
                assert not self.collections.get("c")
        finally:
            engine.close()

    def _check_collection(self, engine: LocalEngine, collection: Collection, rng: random.Random) -> None:
        found = contents(collection)
        for owner in self.owners:
            judge(owner, found)
        assert collection.damage == ()
        if self.generation is not None:
            assert collection.log.pointer().generation == self.generation
        for each in history.retained(collection.log):
            for artifact in artifacts_of(read_manifest(collection.manifests, each.generation, each.manifest)):
                collection.artifacts.verify(artifact)
        query = np.array([[rng.randint(-99, 99) for _ in range(DIM)]], np.float32)
        (hits,) = search(collection.view(), query, using="", k=5, exact=True)
        vectors = np.array([vector for vector, _ in found.values()]).reshape(-1, DIM)
        np.testing.assert_allclose(-hits.scores, np.sort(np.linalg.norm(vectors - query, axis=1))[:5], rtol=1e-5)
        owner = Owner("after", 9_000, 10, 5, rng)
        engine.write("c", [owner.begin().change()]).result()
        owner.acknowledged()
        judge(owner, contents(collection))


def judge(owner: Owner, found: Points) -> None:
    """As `Owner.settle`, for one of many states of the same moment."""
    was = owner.there, owner.pending
    try:
        owner.settle(found)
    finally:
        owner.there, owner.pending = was


def moments(record_: Path) -> int:
    """How many moments there are to cut at."""
    return sum(entry.kind in MOMENTS for entry in read_record(record_))


def replay(record_: Path, seed: int) -> Iterator[tuple[Disk, Judge, Entry]]:
    """The disk and what it has to hold, at each moment."""
    disk, judge_ = Disk(), Judge(seed)
    for entry in read_record(record_):
        if entry.kind == "M":
            judge_.take(json.loads(entry.data))
        elif entry.kind == "S" and entry.inode:
            yield disk, judge_, entry  # just before a sync most is open
        disk.take(entry)
        if entry.kind in MOMENTS:
            yield disk, judge_, entry


def run(library: Path, folder: Path, seed: int, states: int, requests: int, fail: str = "") -> Counter[str]:
    """Record once, and judge so many states, spread over all moments and modes. AssertionError names the state."""
    folder.mkdir(exist_ok=True)
    record_ = record(library, folder, seed, requests, fail)
    rng, done = random.Random(seed), Counter[str]()
    total = sum(1 for _ in replay(record_, seed))
    wanted = Counter(sorted(rng.choices(range(total), k=states)) if states < total else range(total))
    for place, (disk, judge_, entry) in enumerate(replay(record_, seed)):
        for _ in range(wanted[place]):
            mode, one = rng.choice(list(Mode)), rng.random()
            state = folder / "state"
            state.mkdir()
            disk.cut(state, mode, random.Random(one))
            try:
                judge_.check(state / "data", random.Random(one))
            except (AssertionError, VssError, OSError, KeyError) as error:
                kept = folder / f"failed-{place}"
                shutil.rmtree(kept, ignore_errors=True)
                state.rename(kept)
                shown = entry.kind, entry.path, entry.other, judge_.collections, judge_.generation
                raise AssertionError(f"seed {seed}, moment {place} of {total}, {mode}, {shown}: {error!r}") from error
            shutil.rmtree(state)
            done[mode.name] += 1
    done["states"] = sum(wanted.values())
    done["moments"] = total
    done["acknowledged"] = sum(owner.requests - (owner.pending is not None) for owner in judge_.owners)
    done["generations"] = judge_.generation or 0
    shutil.rmtree(folder)
    return done


def run_many(
    library: Path, folder: Path, seed: int, states: int, done: Counter[str], over: Callable[[], bool] = lambda: False
) -> None:
    """`run` with one seed after the other, 250 states each, until there are so many or it is `over`. done: what was.

    Of three one is undisturbed, in one the disk fails three times in a row, and in one the process is killed and
    started again.
    """
    while done["states"] < states and not over():
        call = random.Random(seed).randrange(200, 2_500)
        fail = ("", f"{call} {(errno.EIO, errno.ENOSPC)[seed // 3 % 2]} 3", f"{call} 0")[seed % 3]
        try:
            one = run(library, folder / str(seed), seed, 250, REQUESTS, fail)
        except BaseException as error:
            error.add_note(f"again: python -m tests.proofs.power_cuts --states 1 --seed {seed}")
            raise
        done.update(one)
        done["recordings"] += 1
        done["recordings with failures"] += seed % 3 == 1
        done["recordings with kills"] += seed % 3 == 2
        done["last seed"] = seed
        seed += 1


def main() -> None:
    """The long form."""
    asked = long_run("power_cuts", "states", 5_000, __doc__)
    done = Counter[str]()
    with tempfile.TemporaryDirectory(dir=asked.folder or MEMORY) as folder, asked.told(done):
        library = build(Path(folder))
        assert library is not None, "no C compiler"
        run_many(library, Path(folder), asked.seed, asked.wanted, done, lambda: asked.over)


if __name__ == "__main__":
    main()
