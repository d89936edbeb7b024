"""The gate of an import: every row passes the checks that a REST write passes, or is refused with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from vss.errors import VssError, invalid
from vss.jobs.dead_letters import DeadLetters
from vss.jobs.sources.row import Row, payload_json
from vss.points import check_payload, id_key
from vss.schema import VectorSchema
from vss.types import PointId, Vectors
from vss.vectors import describe_fault, faults, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Which field of a row is what. Either `text` or `vector` is set; everything but id and vector is payload.

    ids:    a file of ids beside a `.npy` of vectors; None when they are row numbers
    rename: new names of fields by old ones, given before anything else looks at a row
    """

    id: str = "id"
    text: str | None = None
    vector: str | None = None
    ids: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Candidate:
    row: Row
    id: PointId
    key: bytes
    payload: bytes
    text: str
    vector: Vectors | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Rows that passed: keys, payloads, and `(n, dim)` vectors as they are stored."""

    keys: list[bytes]
    payloads: list[bytes]
    vectors: Vectors


class Gate:
    """Checks rows; those that fail go to the dead letters."""

    def __init__(self, fields: Fields, rejected: DeadLetters) -> None:
        self._fields = fields
        self._rejected = rejected

    def dimension(self, rows: Sequence[Row]) -> int | None:
        """The most common length of these rows' vectors; None when none has a vector."""
        values = (row.fields.get(self._fields.vector or "") for row in rows if row.fields)
        lengths = Counter(len(value) for value in values if isinstance(value, list | np.ndarray) and len(value))
        return lengths.most_common(1)[0][0] if lengths else None

    def check(
        self, rows: Sequence[Row], vector: VectorSchema, embed: Callable[[Sequence[str]], Vectors] | None
    ) -> Accepted:
        """The rows that may be stored. embed: makes the vectors when the rows hold texts."""
        candidates = []
        refused: list[tuple[Row, str, PointId | None]] = []
        for row in rows:
            point_id: PointId | None = None
            try:
                if row.fields is None:
                    raise invalid(row.fault or "the row cannot be read")
                point_id, key = _id(row.fields, self._fields.id)
                candidates.append(self._candidate(row, point_id, key, row.fields, vector.dim))
            except VssError as error:
                refused.append((row, str(error), point_id))
        if embed is not None or not candidates:
            # Before time is spent on the rows that are good.
            self._refuse(refused)
            refused = []
        if not candidates:
            return Accepted([], [], np.empty((0, vector.dim), np.float32))
        if embed is not None:
            vectors = embed([one.text for one in candidates])
        else:
            vectors = np.stack([one.vector for one in candidates if one.vector is not None])
        bad = faults(vectors, vector.metric)
        place = {id(row): at for at, row in enumerate(rows)} if bad.any() or refused else {}
        for at in np.flatnonzero(bad).tolist():
            reason = str(describe_fault(vectors[at], self._fields.vector or "vector"))
            refused.append((candidates[at].row, reason, candidates[at].id))
        self._refuse(sorted(refused, key=lambda one: place[id(one[0])]))
        if bad.any():
            candidates = [one for one, refused in zip(candidates, bad.tolist(), strict=True) if not refused]
            vectors = vectors[~bad]
        return Accepted(
            [one.key for one in candidates],
            [one.payload for one in candidates],
            normalised(vectors) if vector.metric is vector.metric.COSINE else vectors,
        )

    def _refuse(self, refused: Iterable[tuple[Row, str, PointId | None]]) -> None:
        for row, reason, point_id in refused:
            self._rejected.add(row, reason, point_id)

    def _candidate(self, row: Row, point_id: PointId, key: bytes, fields: dict[str, Any], dim: int) -> _Candidate:
        names = self._fields
        text, vector = "", None
        if names.vector is not None:
            vector = _vector(fields.get(names.vector), dim, names.vector)
        else:
            text = _text(fields.get(names.text or ""), names.text or "")
        payload = {name: value for name, value in fields.items() if name not in (names.id, names.vector)}
        return _Candidate(row, point_id, key, check_payload(payload_json(payload)), text, vector)


def _id(fields: dict[str, Any], name: str) -> tuple[PointId, bytes]:
    value = fields.get(name)
    if value is None:
        raise invalid("got no id, wanted a string or an integer", field=name)
    return value, id_key(value)


def _text(value: Any, name: str) -> str:
    if value is None:
        raise invalid("got no text, wanted a string", field=name)
    if not isinstance(value, str):
        raise invalid(f"got {type(value).__name__}, wanted a text", field=name)
    if not value.strip():
        raise invalid("got an empty text, wanted some words", field=name)
    return value


def _vector(value: Any, dim: int, name: str) -> Vectors:
    """`(dim,)` float32, not yet checked for size or finiteness."""
    if value is None:
        raise invalid(f"got no vector, wanted {dim or 'a list of'} numbers", field=name)
    if isinstance(value, np.ndarray):
        numbers: Any = value
    else:
        try:
            # Strict where NumPy is not: no "1.5", no true, no null.
            numbers = msgspec.convert(value, list[float])
        except msgspec.ValidationError as error:
            raise invalid(f"got a vector that is not a list of numbers: {error}", field=name) from error
    # The error of `as_vectors`, without its cost for each row.
    if len(numbers) != dim:
        raise invalid(f"got a vector of {len(numbers)} numbers, wanted {dim}", field=name)
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float32)
