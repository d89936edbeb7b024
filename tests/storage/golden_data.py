"""The data behind the golden files: how they were made, and what a data directory of any format has to answer.

    python -m tests.storage.golden_data tests/storage/golden/v1.tar.gz

makes one of the format that the program writes now. Those of older formats are never made again.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from indexers.registry import INDEXERS
from vss.changes import PatchPayload
from vss.engines.local import LocalEngine
from vss.filters import Filter, HasId, Match, Range
from vss.patches import PayloadPatch
from vss.points import Point
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage.catalog import CreateAlias
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.types import Metric

DIM = 8
ROWS = 160
KINDS = ("flat", "faiss_hnsw", "faiss_ivf", "native")
METRICS = {"flat": Metric.DOT, "faiss_hnsw": Metric.COSINE, "faiss_ivf": Metric.EUCLID, "native": Metric.EUCLID}
WORDS = ("ash", "birch", "cedar", "elm", "Fichte", "ginkgo")


def vectors() -> np.ndarray[Any, np.dtype[np.float32]]:
    """`(ROWS, DIM)`: small whole numbers, so that no machine rounds them in its own way."""
    return np.random.default_rng(2026).integers(-9, 10, (ROWS, DIM)).astype(np.float32)


def payload(row: int) -> dict[str, Any]:
    """What the point of a row holds."""
    return {
        "word": WORDS[row % len(WORDS)],
        "n": row,
        "at": f"2026-01-{row % 28 + 1:02d}T00:00:00Z",
        "odd": row % 2 == 1,
    }


def build(data: DataDir, kinds: Sequence[str] = KINDS) -> LocalEngine:
    """One collection for each kind: a folded segment, a flat one, tombstones, and a live part with a patch."""
    engine = LocalEngine(data, INDEXERS, writable=True)
    rows = vectors()
    for kind in kinds:
        schema = Schema(
            vectors={"": VectorSchema(dim=DIM, metric=METRICS[kind])}, index=IndexSettings(kind=kind, params={})
        )
        engine.create(kind, schema)
        for first, end in ((0, 120), (120, 140), (140, 160)):
            points = [
                Point(
                    id=row if row % 3 else f"s{row}", vectors={"": rows[row]}, payload=msgspec.json.encode(payload(row))
                )
                for row in range(first, end)
            ]
            engine.upsert(kind, points).result()
            if first == 0:
                fold(engine.collection(kind), engine, INDEXERS, threads=1)
            elif first == 120:
                engine.remove(kind, [1, "s3", 121]).result()
                engine._drop_leftovers(kind)  # a seal
        engine.remove(kind, [2, "s150"]).result()
        patch = PayloadPatch(set={"word": "patched"})
        engine.write(kind, [PatchPayload((4,), patch)]).result()
    engine.change_aliases([CreateAlias("alias", kinds[-1])])
    return engine


def answers(engine: LocalEngine, name: str) -> dict[str, Any]:
    """Everything that a collection says, as JSON holds it."""
    view = engine.collection(name).view()
    page, _ = view.scroll(None, None, 1_000)
    points = [part.point(row) for part, row in page]
    said: dict[str, Any] = {
        "points": [[one.id, msgspec.json.decode(one.payload), one.vectors[""].tolist()] for one in points],
        "count": {
            "word": view.count(Match("word", ("elm",))),
            "n": view.count(Range("n", gte=50, lt=130)),
            "both": view.count(Filter(must=(Match("odd", (True,)), Range("n", gt=90)))),
            "ids": view.count(HasId((4, 5, "s6", "s3"))),
        },
    }
    for exact in (True, False):
        found = search(view, vectors()[::20], using="", k=5, exact=exact)
        said["exact" if exact else "approximate"] = [
            [
                [view.parts[part].point(int(row)).id, round(float(score), 3)]
                for part, row, score in zip(one.parts, one.rows, one.scores, strict=True)
            ]
            for one in found
        ]
    return said


def pack(folder: Path, target: Path) -> None:
    """A data directory as a tar file, its log as a killed process leaves it. Locks and shared memory stay out."""
    with tarfile.open(target, "w:gz", compresslevel=9) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith(("-shm", ".lock", "verified.json")):
                info = tar.gettarinfo(path, str(path.relative_to(folder)))
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                with open(path, "rb") as file:
                    tar.addfile(info, file)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        made = build(DataDir(Path(place) / "data"))
        out.with_suffix("").with_suffix(".json").write_bytes(
            msgspec.json.encode({kind: answers(made, kind) for kind in KINDS}) + b"\n"
        )
        pack(Path(place) / "data", out)
        made.close()
