"""Recommendations: what goes in shapes what comes out, and every failure is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.filters import Match
from vss.points import Point
from vss.protocols import Candidates, Deadline, EmbedderInfo, RerankQuery
from vss.schema import Schema, VectorSchema
from vss.search.recommend import Recommendation, Recommended, recommend
from vss.storage.datadir import DataDir
from vss.storage.view import View
from vss.types import Metric, Role, Scores, Vectors
from vss.vectors import as_vectors

# Four directions in the plane, a few points near each.
ANGLES = {"east": 0.0, "north": np.pi / 2, "west": np.pi, "south": -np.pi / 2}


class PlaneModels:
    """A stand-in for loaded models: the text "north" points north; "longest" ranks by length of text."""

    failure: VssError | None = None
    seen: RerankQuery | None = None

    def infos(self) -> Sequence[EmbedderInfo]:
        return []

    def rerankers(self) -> Sequence[str]:
        return ["longest"]

    def info(self, model: str) -> EmbedderInfo:
        raise AssertionError

    async def embed(self, model: str, texts: Sequence[str], role: Role, deadline: Deadline) -> Vectors:
        assert role is Role.QUERY
        return np.asarray([[np.cos(ANGLES[text]), np.sin(ANGLES[text])] for text in texts], np.float32)

    async def tokens(self, model: str, texts: Sequence[str]) -> int:
        return len(texts)

    async def rerank(self, reranker: str, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        if reranker != "longest":
            raise VssError(Code.NOT_FOUND, f"no re-ranker {reranker!r}")
        if self.failure:
            raise self.failure
        self.seen = query
        return np.asarray([len(text) for text in candidates.texts], np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    engine = LocalEngine(DataDir(tmp_path), INDEXERS, writable=True)
    engine.create("c", Schema(vectors={"": VectorSchema(dim=2, metric=Metric.COSINE, model="plane", text_field="t")}))
    points = []
    for name, angle in ANGLES.items():
        for number in range(5):
            turned = angle + number * 0.05
            vector = as_vectors([np.cos(turned), np.sin(turned)], 2, Metric.COSINE)[0]
            payload = msgspec.json.encode({"t": f"{name} " * (number + 1), "side": name})
            points.append(Point(id=f"{name}{number}", vectors={"": vector}, payload=payload))
    engine.upsert("c", points).result()
    yield engine.collection("c").view()
    engine.close()


def ask(view: View, models: PlaneModels | None = None, **request: object) -> Recommended:
    return asyncio.run(recommend(view, Recommendation(**request), models or PlaneModels()))  # type: ignore[arg-type]


def names(answer: Recommended) -> list[object]:
    return [one.point.id for one in answer.points]


def test_what_is_liked_shapes_the_answer_and_is_not_in_it(view: View) -> None:
    assert names(ask(view, positive=["north0"], limit=4)) == ["north1", "north2", "north3", "north4"]


def test_what_is_disliked_turns_it_away(view: View) -> None:
    towards = names(ask(view, positive=["north0"], limit=6))
    away = names(ask(view, positive=["north0"], negative=["west0"], limit=6))
    assert "west1" not in away
    assert towards[:4] == away[:4]
    assert str(away[4]).startswith("east")


def test_a_text_alone_is_enough(view: View) -> None:
    assert names(ask(view, query="south", limit=2)) == ["south0", "south1"]


def test_text_and_examples_meet_in_the_middle(view: View) -> None:
    answer = ask(view, query="north", positive=["east0"], limit=8, candidates=8)
    assert {str(one)[:4] for one in names(answer)} == {"nort", "east"}


def test_filter_and_exclude(view: View) -> None:
    answer = ask(view, positive=["north0"], limit=3, where=Match("side", ("east",)), exclude=["east4"])
    assert names(answer) == ["east3", "east2", "east1"]


def test_unknown_examples_are_reported(view: View) -> None:
    answer = ask(view, positive=["north0", "nobody"], negative=[17], limit=1)
    assert answer.unknown_ids == ["nobody", 17]
    assert names(answer) == ["north1"]


def test_nothing_to_go_by_is_refused(view: View) -> None:
    with pytest.raises(VssError, match="no liked item") as caught:
        ask(view, positive=["nobody"])
    assert caught.value.field == "positive"


def test_a_reranker_orders_the_candidates(view: View) -> None:
    models = PlaneModels()
    answer = ask(view, models, positive=["north0"], negative=["west0"], limit=2, candidates=4, rerank_model="longest")
    assert names(answer) == ["north4", "north3"]
    best = answer.points[0]
    assert (best.similarity_rank, best.rerank_rank, best.score) == (4, 1, 30.0)
    turned = np.pi / 2 + 0.2  # the query points to (1, 2): north, away from west
    assert best.similarity == pytest.approx((np.cos(turned) + 2 * np.sin(turned)) / np.sqrt(5), abs=1e-6)
    assert models.seen == RerankQuery(wanted=("north ",), unwanted=("west ",))
    assert answer.degraded is None
    assert answer.reranker == "longest"
    assert {"retrieve", "fetch", "rerank"} <= set(answer.timings_ms)


@pytest.mark.parametrize("code", [Code.DEADLINE, Code.MODEL_FAILED, Code.OVERLOADED])
def test_a_failed_reranker_leaves_the_similarity_order_and_says_so(view: View, code: Code) -> None:
    models = PlaneModels()
    models.failure = VssError(code, "it broke")
    answer = ask(view, models, positive=["north0"], limit=2, rerank_model="longest")
    assert names(answer) == ["north1", "north2"]
    assert answer.degraded == f"{code.value}: it broke"
    assert answer.points[0].rerank_rank is None
    assert answer.points[0].score == answer.points[0].similarity
    with pytest.raises(VssError, match="it broke"):
        ask(view, models, positive=["north0"], limit=2, rerank_model="longest", fail_open=False)


@pytest.mark.parametrize("scores", [[1.0], [np.nan] * 19, [np.inf] * 19, [[1.0]] * 19])
def test_a_reranker_that_gives_no_scores_has_failed(view: View, scores: list[float]) -> None:
    class Broken(PlaneModels):
        async def rerank(self, *_: object) -> Scores:
            return np.asarray(scores, np.float32)

    answer = ask(view, Broken(), positive=["north0"], limit=2, rerank_model="longest")
    assert names(answer) == ["north1", "north2"]
    assert answer.degraded is not None
    assert answer.degraded.startswith("model_failed: the re-ranker longest gave")


def test_an_unknown_reranker_is_an_error_not_a_fallback(view: View) -> None:
    with pytest.raises(VssError, match="no re-ranker"):
        ask(view, positive=["north0"], rerank_model="psychic")


def test_diversity_spreads_the_page(view: View) -> None:
    alike = ask(view, query="north", limit=4, candidates=20)
    spread = ask(view, query="north", limit=4, candidates=20, diversity=0.7)
    assert {str(one)[:-1] for one in names(alike)} == {"north"}
    assert names(spread)[0] == "north0"
    assert len({str(one)[:-1] for one in names(spread)}) >= 3
