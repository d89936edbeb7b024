"""What a collection must hold: a dictionary, the operations in their order, and what each generation was made of.

Nothing of `vss.storage` is used here, so that a mistake of its cannot hide in the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vss.patches import PayloadPatch, patched
from vss.types import Metric, PointId

Vector = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A point; version: the operation that wrote it."""

    vector: Vector | None
    payload: dict[str, Any]
    version: int

    def names(self) -> tuple[str, ...]:
        """The vectors that it has."""
        return () if self.vector is None else ("",)


State = dict[PointId, Stored]


@dataclass(frozen=True)
class Written:
    """One operation, of one point: `change` makes of what is there what is there after it."""

    seq: int
    point_id: PointId
    change: Callable[[Stored | None], Stored | None]


@dataclass(frozen=True)
class Generation:
    """The points of its segments, and the last operation that they contain."""

    base: State
    covered: int


@dataclass
class Model:
    """state: what every reader must see now"""

    state: State = field(default_factory=dict)
    operations: list[Written] = field(default_factory=list)
    generations: dict[int, Generation] = field(default_factory=dict)
    current: int = 0

    @property
    def seq(self) -> int:
        """The last operation."""
        return len(self.operations)

    def write(self, changes: Iterable[tuple[PointId, Callable[[Stored | None], Stored | None]]]) -> int:
        """Carry operations out one after the other; the last one's number."""
        for point_id, change in changes:
            one = Written(self.seq + 1, point_id, change)
            self.operations.append(one)
            _apply(self.state, one)
        return self.seq

    def passing(self, passes: Callable[[PointId, Stored], bool]) -> list[PointId]:
        """The ids of the points for which that is so."""
        return [one for one, stored in self.state.items() if passes(one, stored)]

    def sealed(self, numbers: Sequence[int]) -> None:
        """Generations that contain all there is."""
        for number in numbers:
            self.generations[number] = Generation(dict(self.state), self.seq)
            self.current = number

    def adopted(self, number: int, imported: State, started: int, *, replaced: bool) -> None:
        """An import that began after operation `started` became part of the collection."""
        now = self.generations.get(self.current, Generation({}, 0))
        later = {one.point_id for one in self.operations[started:]}
        base = {
            one: stored for one, stored in now.base.items() if not replaced or one in later or stored.version > started
        }
        for one, stored in imported.items():
            if one not in later and (one not in base or base[one].version <= started):
                base[one] = replace(stored, version=started)
        self.generations[number] = Generation(base, now.covered)
        self.promoted(number)

    def promoted(self, number: int) -> None:
        """That generation, and the operations after it."""
        chosen = self.generations[number]
        self.current, self.state = number, dict(chosen.base)
        for one in self.operations[chosen.covered :]:
            _apply(self.state, one)


def _apply(state: State, one: Written) -> None:
    before = state.get(one.point_id)
    if before is not None and before.version >= one.seq:
        return  # an import that began later has this point
    after = one.change(before)
    if after is None:
        state.pop(one.point_id, None)
    else:
        state[one.point_id] = replace(after, version=one.seq)


def upserted(vector: Vector | None, payload: dict[str, Any]) -> Callable[[Stored | None], Stored | None]:
    """The point is this."""
    return lambda before: Stored(vector, payload, 0)


def deleted(before: Stored | None) -> Stored | None:
    """There is no such point."""
    return None


def payload_patched(patch: PayloadPatch) -> Callable[[Stored | None], Stored | None]:
    """Its payload, where it is there, is patched."""
    return lambda before: (
        before and replace(before, payload=json.loads(patched(json.dumps(before.payload).encode(), patch)))
    )


def vector_set(vector: Vector | None) -> Callable[[Stored | None], Stored | None]:
    """Its vector, where it is there, is this, or none."""
    return lambda before: before and replace(before, vector=vector)


def score(metric: Metric, query: Vector, vector: Vector) -> float:
    """As `vss.distance` says: higher is better."""
    if metric is Metric.EUCLID:
        return -float(np.linalg.norm(np.subtract(query, vector)))
    return float(np.dot(query, vector))
