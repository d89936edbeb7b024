"""Text filters answered from the words of a segment: the same rows as the texts themselves, and few payloads read."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.test_filters import segment_of
from vss.filters import Condition, Filter, HasId, Match, MinShould, Text, TextMode, matches, predicate
from vss.storage.columnize import ColumnsBuilder
from vss.storage.segment import Segment
from vss.storage.words import MAX_WORD

ROWS = 600
WORDS = [
    "red",
    "Red",
    "fox",
    "foxes",
    "a",
    "é",
    "\u03a3\u0391\u03a3",
    "\u03a3",
    "o\u03c2",
    "İst",
    "2024",
    "ab_cd",
    "x" * MAX_WORD,
    "y" * 200,
]
TEXT_PIECES = [
    *WORDS,
    "fo",
    "e",
    "red fox",
    "Red, fox",
    " ",
    "x",
    "\u03a3",
    "\u03c3\u03b1",
    "y" * 150,
    "z" * 200,
    "nowhere",
]


def texts_of(seed: int) -> list[dict[str, object]]:
    """Payloads whose "short" and "long" are texts, lists of texts, or something else."""
    draw = random.Random(seed)

    def text(row: int, filling: str) -> str:
        pieces = draw.choices(WORDS, k=draw.randint(0, 4))
        return draw.choice([" ", ", ", "_", "-"]).join([*pieces, f"n{row}"]) + filling

    def value(row: int, filling: str) -> object:
        kind = draw.randint(0, 9)
        if kind == 0:
            return draw.choice([None, 7, True, [], {"in": text(row, filling)}, "", "!?"])
        return text(row, filling) if kind < 7 else [text(row, filling) for _ in range(draw.randint(0, 3))]

    return [
        {"short": value(row, ""), "long": value(row, " filling" * 33), "row": row, "in": [{"x": value(row, "")}] * 2}
        for row in range(ROWS)
    ]


PAYLOADS = texts_of(5)


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    return segment_of(PAYLOADS, tmp_path_factory.mktemp("words"))


PATHS = st.sampled_from(["short", "long", "in[].x"])
LEAVES = st.builds(
    Text, PATHS, st.lists(st.sampled_from(TEXT_PIECES), max_size=3).map(" ".join), st.sampled_from(TextMode)
)
BESIDE = st.one_of(LEAVES, LEAVES, st.just(Match("row", (1, 2, 3))), st.just(HasId(tuple(range(400)))))
SOME = st.lists(BESIDE, max_size=2).map(tuple)
LEAST = st.one_of(st.none(), st.builds(MinShould, st.lists(BESIDE, min_size=1, max_size=3).map(tuple), st.just(2)))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.one_of(LEAVES, st.builds(Filter, SOME, SOME, SOME, LEAST)))
def test_words_select_what_the_texts_do(segment: Segment, where: Condition) -> None:
    passes = predicate(where)
    wanted = [row for row, payload in enumerate(PAYLOADS) if passes(row, payload, ())]
    assert np.flatnonzero(segment.mask(where)).tolist() == wanted


def test_only_open_questions_are_read(segment: Segment) -> None:
    worded = {column.path for column in segment.record.columns if column.type == "words"}
    assert worded == {"short", "long", "long.in", "in[].x"}
    assert segment.filtered(Text("long", "fox", TextMode.ANY_WORD))[1] == 0
    assert segment.filtered(Text("long", "n17"))[1] == 0
    assert segment.filtered(Text("long", "nowhere at all", TextMode.PHRASE))[1] == 0
    both, read = segment.filtered(Text("long", "fox red"))
    several = sum(isinstance(one["long"], list) and len(one["long"]) > 1 for one in PAYLOADS)
    assert 0 < read <= several
    assert both.sum() > 20
    phrase, read = segment.filtered(Text("long", "fox red", TextMode.PHRASE))
    assert phrase.sum() <= read < ROWS / 4
    # What is known already is not read again, alone or inside another filter.
    assert segment.filtered(Text("long", "fox red"))[1] == 0
    assert segment.filtered(Filter(must_not=(Text("long", "fox red"),)))[1] == 0
    # Words narrow each other, and other columns narrow them.
    narrow = Filter(must=(Text("long", "filling filling", TextMode.PHRASE), Match("row", (10, 11, 12))))
    assert segment.filtered(narrow)[1] <= 3


def test_few_different_texts_get_no_words_and_are_tested_one_by_one(tmp_path: Path) -> None:
    payloads: list[dict[str, object]] = [{"kind": f"the {row % 500}th kind"} for row in range(1_000)]
    segment = segment_of(payloads, tmp_path)
    assert {column.type for column in segment.record.columns if column.path == "kind"} == {"keyword", "shape"}
    mask, read = segment.filtered(Text("kind", "KIND 7th"))
    assert (np.flatnonzero(mask).tolist(), read) == ([7, 507], 0)


def test_a_path_with_too_many_words_is_read_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vss.storage.columnize.MAX_POSTINGS", 500)
    monkeypatch.setattr("vss.storage.columnize.MAX_TESTED", 5)
    payloads: list[dict[str, object]] = [
        {"few": f"one {row % 9}", "long": f"{row} " + "word " * 80, "many": " ".join(f"{row}w{at}" for at in range(20))}
        for row in range(40)
    ]
    segment = segment_of(payloads, tmp_path)
    assert {column.path for column in segment.record.columns if column.type == "words"} == {"few", "long"}
    for where in (
        Text("few", "one 3"),
        Text("long", "word 3"),
        Text("many", "3w5 3w4"),
        Text("many", "w", TextMode.PREFIX),
    ):
        wanted = [row for row, payload in enumerate(payloads) if matches(where, row, payload)]
        assert np.flatnonzero(segment.mask(where)).tolist() == wanted


def test_words_of_texts_come_in_order_whatever_came_first() -> None:
    def arrays(texts: list[str]) -> dict[str, list[int]]:
        builder = ColumnsBuilder()
        for row, text in enumerate(texts):
            builder.add(row, {"a": text})
        columns = dict(builder.finish())
        return {role: array.tolist() for role, array in columns["a", "words"].items()}

    long = "b a c " * 60
    assert arrays(["b a", long, "c b"]) == arrays(["a b", long + "a", "b c"])
    found = arrays(["b a", long, "c b"])
    assert (found["starts"], found["rows"]) == ([0, 2, 5, 7], [0, 1, 0, 1, 2, 1, 2])
