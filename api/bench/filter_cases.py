"""What `vss bench filter` filters by: payloads for any vectors, and the shapes of filters over them.

Payloads  numbers, a keyword list, a text, and the cell that a vector lies in; a file of payloads adds what it has
CASES     how a filter of each shape is drawn for one query
drawn     a filter for each query, none of which comes twice
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from api.bench.dataset import Dataset
from vss.distance import exact_search
from vss.errors import Code, VssError, invalid
from vss.filters import Condition, Filter, Match, Range, Text, words
from vss.types import Vectors

CELLS = 64
LISTED = 400
"""Different keywords; those of a point are drawn so that the first ones are the most frequent (Zipf)."""

VOCABULARY = 2_000
BLOCK = 5_000

DRAWS = 100
"""Of a filter that no query had before; then the shape has no more of them."""


@dataclass(frozen=True, slots=True)
class Payloads:
    """What filters are drawn from.

    texts:   one JSON object for each vector: `number`, `a` and `b` from 0 to 1, `tags`, `text`, `cell`, `kind`
    seeds:   `(CELLS, dim)` vectors; a point's cell is the number of the one that is most like it
    tags:    keywords of `tags`, without the three most frequent ones
    phrases: pairs of words of `text`, of which some points have both
    kinds:   a value of `kind` for each vector
    """

    texts: list[bytes]
    seeds: Vectors
    tags: list[str]
    phrases: Callable[[np.random.Generator], str]
    kinds: Sequence[str]


class Case(NamedTuple):
    """A shape of filter: its name, and a draw of one for a query."""

    name: str
    draw: Callable[[np.random.Generator, Vectors, Payloads], Condition]


def payloads_for(data: Dataset, seed: int, file: Path | None = None) -> Payloads:
    """Payloads for all vectors of a data set.

    file: JSON lines, one object for each row that the data set was read from; `tags`, `text` and `section` of it are
    filtered by. VssError: NOT_FOUND, INVALID.
    """
    random = np.random.default_rng(seed)
    count = len(data.vectors)
    seeds = np.array(data.vectors[np.sort(random.choice(count, CELLS, replace=False))])
    cells = np.concatenate(
        [
            exact_search(data.vectors[start : start + BLOCK], seeds, 1, data.metric).rows[:, 0]
            for start in range(0, count, BLOCK)
        ]
    ).tolist()
    columns = {name: np.round(random.random(count), 9).tolist() for name in ("number", "a", "b")}
    tags = np.minimum(random.zipf(1.3, (count, 3)), LISTED).tolist()
    said = np.minimum(random.zipf(1.2, (count, 8)), VOCABULARY).tolist()
    own: list[dict[str, Any]] = []
    if file is None:
        rows = (
            {
                "tags": [f"t{tag}" for tag in sorted(set(tag_row))],
                "text": " ".join(f"w{word}" for word in word_row),
                "kind": f"k{cell}",
            }
            for tag_row, word_row, cell in zip(tags, said, cells, strict=True)
        )
    else:
        own = _read(file, data)
        rows = (
            {"tags": _listed(one.get("tags")), "text": str(one.get("text", "")), "kind": str(one.get("section", ""))}
            for one in own
        )
    texts, kinds = [], []
    frequency: Counter[str] = Counter()
    for row, number, a, b, cell in zip(rows, columns["number"], columns["a"], columns["b"], cells, strict=True):
        texts.append(msgspec.json.encode({"number": number, "a": a, "b": b, "cell": cell, **row}))
        kinds.append(str(row["kind"]))
        frequency.update(row["tags"])
    common = [tag for tag, _ in frequency.most_common(LISTED)][3:]
    return Payloads(texts, seeds, sorted(common), _phrases_of(own) if own else _made_phrase, kinds)


def _read(file: Path, data: Dataset) -> list[dict[str, Any]]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise VssError(Code.NOT_FOUND, f"{file} cannot be read: {error.strerror}", field="payloads") from error
    if data.source is None or len(lines) <= int(data.source.max(initial=-1)):
        raise invalid(f"got {len(lines):,} payloads, wanted one for each row of a .npy", field="payloads")
    try:
        return [msgspec.json.decode(lines[row], type=dict[str, Any]) for row in data.source.tolist()]
    except msgspec.DecodeError as error:
        raise invalid(f"got {file}, wanted a JSON object on each line: {error}", field="payloads") from error


def _listed(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _made_phrase(random: np.random.Generator) -> str:
    return f"w{random.integers(2, 400)} w{random.integers(1, 4)}"


def _phrases_of(own: Sequence[dict[str, Any]]) -> Callable[[np.random.Generator], str]:
    """Two words of the text of one point."""

    def draw(random: np.random.Generator) -> str:
        while True:
            several = sorted(set(words(str(own[int(random.integers(len(own)))].get("text", "")))))
            if len(several) > 1:
                return " ".join(random.choice(several, 2, replace=False).tolist())

    return draw


def _range(key: str, share: float) -> Callable[[np.random.Generator], Range]:
    def draw(random: np.random.Generator) -> Range:
        low = random.random() * (1 - share)
        return Range(key, gte=low, lt=low + share)

    return draw


def _share(share: float) -> Callable[[np.random.Generator, Vectors, Payloads], Condition]:
    draw = _range("number", share)
    return lambda random, query, payloads: draw(random)


def _both(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Filter(must=(_range("a", 0.2)(random), _range("b", 0.2)(random)))


def _any_of(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Match("tags", tuple(random.choice(payloads.tags, min(8, len(payloads.tags)), replace=False).tolist()))


def _must_not(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Filter(must_not=(_range("number", 0.4)(random),))


def _words(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Text("text", payloads.phrases(random))


def _kind(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    """One value, of which there are few: what makes the filter a new one takes a hundredth off."""
    value = payloads.kinds[int(random.integers(len(payloads.kinds)))]
    return Filter(must=(Match("kind", (value,)),), must_not=(_range("number", 0.01)(random),))


def _contrary(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    """Only what lies in the farther half of the cells, and most of that."""
    order = np.argsort(np.linalg.norm(payloads.seeds - query, axis=1))
    return Filter(
        must=(Match("cell", tuple(int(cell) for cell in order[CELLS // 2 :])),),
        must_not=(_range("number", 0.1)(random),),
    )


CASES = (
    Case("50%", _share(0.5)),
    Case("20%", _share(0.2)),
    Case("10%", _share(0.1)),
    Case("1%", _share(0.01)),
    Case("0.1%", _share(0.001)),
    Case("0.01%", _share(0.0001)),
    Case("two fields, 4%", _both),
    Case("any of a list", _any_of),
    Case("must not, 60%", _must_not),
    Case("full text", _words),
    Case("one value", _kind),
    Case("contrary to the query", _contrary),
)


def drawn(case: Case, queries: Vectors, payloads: Payloads, seed: int) -> list[Condition]:
    """A filter for each query. VssError (INVALID) where a shape has no more that differ."""
    random = np.random.default_rng(seed)
    known: set[str] = set()
    return [_new(case, random, query, payloads, known) for query in queries]


def _new(case: Case, random: np.random.Generator, query: Vectors, payloads: Payloads, known: set[str]) -> Condition:
    for _ in range(DRAWS):
        one = case.draw(random, query, payloads)
        if repr(one) not in known:
            known.add(repr(one))
            return one
    raise invalid(f"got {len(known)} filters of the shape {case.name!r} and no more", field="queries")
