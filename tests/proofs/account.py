"""An account of what was sent and acknowledged, by which a store is judged after a kill or a power cut.

Each owner writes points of its own, one request after the other, so the order of its writes is known. At any moment
its points are those of its acknowledged requests; the one request that is under way may be in as a whole, or not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from indexers.registry import native_compiled
from vss.changes import Change, Delete, PatchPayload, UpdateVectors, Upsert
from vss.filters import Filter, Match
from vss.patches import PayloadPatch
from vss.points import Point

DIM = 8
TAGS = 4

GRAPH = "native" if native_compiled() else "faiss_hnsw"
"""The index; named, so that few points get one too."""

Stored = tuple[list[float], dict[str, Any]]
"""The vector and the payload of a point."""

Points = dict[int, Stored]


@dataclass(frozen=True, slots=True)
class Request:
    """One write. kind: upsert, vectors, delete, delete_tag, patch or patch_tag.

    points: of upsert and vectors (those have payloads that nobody uses); ids: of delete and patch; tag: which points of
    the owner a filter takes; set: what a patch sets
    """

    kind: str
    owner: str
    points: tuple[tuple[int, Stored], ...] = ()
    ids: tuple[int, ...] = ()
    tag: int = -1
    set: tuple[tuple[str, int], ...] = ()

    def after(self, before: Points) -> Points:
        """What is there once it is carried out."""
        match self.kind:
            case "upsert":
                return before | dict(self.points)
            case "vectors":
                return before | {one: (new[0], before[one][1]) for one, new in self.points if one in before}
        chosen = {one for one in self.ids if one in before}
        if self.tag >= 0:
            chosen = {one for one, (_, payload) in before.items() if payload["tag"] == self.tag}
        if self.kind.startswith("delete"):
            return {one: stored for one, stored in before.items() if one not in chosen}
        return before | {one: (before[one][0], before[one][1] | dict(self.set)) for one in chosen}

    def over_http(self) -> tuple[str, str, dict[str, Any]]:
        """The method, the path below the collection and the body of the request."""
        where: dict[str, Any] = {"points": list(self.ids)}
        if self.tag >= 0:
            conditions = (("owner", self.owner), ("tag", self.tag))
            where = {"filter": {"must": [{"key": key, "match": {"value": value}} for key, value in conditions]}}
        match self.kind:
            case "upsert":
                points = [{"id": one, "vector": vector, "payload": load} for one, (vector, load) in self.points]
                return "PUT", "points", {"points": points}
            case "vectors":
                points = [{"id": one, "vector": vector} for one, (vector, _) in self.points]
                return "PUT", "points/vectors", {"points": points}
            case "delete" | "delete_tag":
                return "POST", "points/delete", where
        return "POST", "points/payload", where | {"payload": dict(self.set)}

    def change(self) -> Change:
        """The same for the storage itself."""
        points = [
            Point(id=one, vectors={"": np.asarray(vector, np.float32)}, payload=msgspec.json.encode(payload))
            for one, (vector, payload) in self.points
        ]
        select: tuple[int, ...] | Filter = self.ids
        if self.tag >= 0:
            select = Filter(must=(Match("owner", (self.owner,)), Match("tag", (self.tag,))))
        match self.kind:
            case "upsert":
                return Upsert(points)
            case "vectors":
                return UpdateVectors(points)
            case "delete" | "delete_tag":
                return Delete(select)
        return PatchPayload(select, PayloadPatch(set=dict(self.set)))


class Owner:
    """Whose points have the ids from `first` on, and how they should be. batch: points in an upsert, at most.

    there: what the acknowledged requests have left; pending: the request that is under way
    """

    def __init__(self, name: str, first: int, ids: int, batch: int, rng: random.Random) -> None:
        self.name = name
        self.there: Points = {}
        self.pending: Request | None = None
        self.requests = 0
        self._ids = range(first, first + ids)
        self._batch = batch
        self._rng = rng

    def begin(self) -> Request:
        """The next request, from now on under way."""
        rng = self._rng
        self.requests += 1
        kinds = ("upsert", "vectors", "delete", "delete_tag", "patch", "patch_tag")
        (kind,) = rng.choices(kinds, (10, 2, 3, 1, 2, 2))
        few = tuple(rng.sample(self._ids, rng.randint(1, min(self._batch, len(self._ids)))))
        change = (("changed", self.requests),)
        match kind:
            case "upsert" | "vectors":
                request = Request(kind, self.name, points=tuple((one, self._point()) for one in few))
            case "delete":
                request = Request(kind, self.name, ids=few[: 1 + len(few) // 2])
            case "patch":
                request = Request(kind, self.name, ids=few, set=change)
            case _:
                request = Request(kind, self.name, tag=rng.randrange(TAGS), set=change)
        self.pending = request
        return request

    def _point(self) -> Stored:
        vector = [float(self._rng.randint(-99, 99)) for _ in range(DIM)]
        return vector, {"owner": self.name, "tag": self._rng.randrange(TAGS), "written": self.requests}

    def acknowledged(self) -> None:
        """The request under way was answered."""
        assert self.pending is not None
        self.there = self.pending.after(self.there)
        self.pending = None

    def settle(self, found: Mapping[int, Stored]) -> bool:
        """Judge what was found after a kill; what was under way is known from then on: whether it is in.

        AssertionError when what was found is neither.
        """
        mine = {one: stored for one, stored in found.items() if one in self._ids}
        carried_out = self.pending is not None and mine == self.pending.after(self.there)
        if carried_out:
            self.acknowledged()
        self.pending = None
        assert mine == self.there, f"owner {self.name}: {difference(mine, self.there)}"
        return carried_out


def difference(found: Points, wanted: Points) -> str:
    """What is wrong, in a line."""
    lost, phantom = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    stale = [one for one in found.keys() & wanted.keys() if found[one] != wanted[one]]
    shown = {one: (found[one], wanted[one]) for one in stale[:2]}
    return f"lost {lost[:9]} of {len(lost)}, phantom {phantom[:9]} of {len(phantom)}, other {len(stale)}: {shown}"
