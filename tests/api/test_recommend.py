"""Recommendations over HTTP: examples, filters, re-ranking that fails open, and what the answer says about it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

PATH = "/collections/books/recommend"
TEXTS = {
    1: "compress files into a zip archive",
    2: "compress a folder into a tar archive",
    3: "read an archive of compressed files",
    4: "wait for several threads to finish",
    5: "start a thread and wait for it",
    6: "bake bread with flour and water",
    7: "compress a file with gzip",
}


@pytest.fixture(scope="module", autouse=True)
def books(http: httpx.Client) -> None:
    """Texts about three subjects, embedded by `hashing`."""
    assert http.put("/collections/books", json={"vss": {"model": "hashing", "text_field": "text"}}).status_code == 200
    points = [{"id": one, "payload": {"text": text, "even": one % 2 == 0}} for one, text in TEXTS.items()]
    assert http.put("/collections/books/points", json={"points": points}).status_code == 200


def ask(http: httpx.Client, **body: Any) -> dict[str, Any]:
    """The whole answer."""
    answer = http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[int]:
    """The ids of the page."""
    return [point["id"] for point in answer["result"]["points"]]


def test_the_nearest_to_the_liked_come_first_and_the_examples_never(http: httpx.Client) -> None:
    answer = ask(http, positive=[1, 2], limit=2)
    assert set(ids(answer)) == {3, 7}
    points = answer["result"]["points"]
    assert [point["similarity_rank"] for point in points] == [1, 2]
    assert all(point["score"] == point["similarity"] for point in points)
    assert all("rerank_rank" not in point for point in points)
    assert points[0]["payload"]["text"] == TEXTS[points[0]["id"]]


def test_the_disliked_push_away(http: httpx.Client) -> None:
    liked = ids(ask(http, positive=[1], limit=6))
    moved = ids(ask(http, positive=[1], negative=[2], limit=6))
    assert liked[0] == 2
    assert 2 not in moved


def test_a_text_alone_or_beside_examples(http: httpx.Client) -> None:
    assert ids(ask(http, query=TEXTS[5], limit=1)) == [5]
    assert ids(ask(http, query=TEXTS[5], positive=[6], limit=1)) == [5]
    assert 6 not in ids(ask(http, query=TEXTS[6], positive=[6], limit=6))


def test_filter_and_exclude(http: httpx.Client) -> None:
    even = {"must": [{"key": "even", "match": {"value": True}}]}
    assert sorted(ids(ask(http, positive=[1], filter=even))) == [2, 4, 6]
    assert sorted(ids(ask(http, positive=[1], filter=even, exclude=[2, "none"]))) == [4, 6]


def test_reranking_shows_both_orders(http: httpx.Client) -> None:
    answer = ask(http, positive=[1], negative=[4], limit=3, candidates=5, rerank={"model": "late_interaction"})
    points = answer["result"]["points"]
    assert [point["rerank_rank"] for point in points] == [1, 2, 3]
    assert sorted((point["score"] for point in points), reverse=True) == [point["score"] for point in points]
    assert answer["result"]["degraded"] is None
    assert answer["result"]["versions"]["reranker"] == "late_interaction"
    assert {"retrieve", "fetch", "rerank"} <= set(answer["result"]["timings_ms"])


def test_a_reranker_that_is_late_leaves_the_similarity_order_and_says_so(http: httpx.Client) -> None:
    plain = ask(http, positive=[1], limit=4)
    late = ask(http, positive=[1], limit=4, rerank={"model": "late_interaction", "timeout_ms": 0})
    assert ids(late) == ids(plain)
    assert late["result"]["degraded"].startswith("deadline_exceeded")
    assert late["result"]["versions"]["reranker"] is None
    assert "rerank_rank" not in late["result"]["points"][0]
    assert 'vss_rerank_fallback_total{reason="deadline_exceeded"} ' in http.get("/metrics").text


def test_or_fails_when_that_was_asked_for(http: httpx.Client) -> None:
    rerank = {"model": "late_interaction", "timeout_ms": 0, "on_error": "fail"}
    answer = http.post(PATH, json={"positive": [1], "rerank": rerank})
    assert answer.status_code == 504
    assert answer.json()["vss"]["code"] == "deadline_exceeded"


def test_an_unknown_reranker_is_the_callers_mistake(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"positive": [1], "rerank": {"model": "gone"}})
    assert answer.status_code == 404
    assert "late_interaction" in answer.json()["status"]["error"]


def test_unknown_examples_are_ignored_and_reported(http: httpx.Client) -> None:
    answer = ask(http, positive=[1, 99], negative=["1"], limit=2)
    assert answer["result"]["unknown_ids"] == [99, "1"]
    assert ids(answer) == ids(ask(http, positive=[1], limit=2))


def test_diversity_keeps_the_best_and_spreads_the_rest(http: httpx.Client) -> None:
    near = ids(ask(http, positive=[1], limit=3))
    spread = ids(ask(http, positive=[1], limit=3, diversity=0.9))
    assert spread[0] == near[0]
    assert set(spread) != set(near)


def test_fewer_than_asked_for_is_said(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"positive": [1], "limit": 10, "with_payload": False})
    assert answer.headers["vss-complete"] == "false"
    assert answer.json()["vss"]["reason"] == "only 6 match"
    assert "payload" not in answer.json()["result"]["points"][0]
    assert ask(http, positive=[1], limit=6)["vss"]["complete"] is True


def test_it_explains_itself_as_a_search_does(http: httpx.Client) -> None:
    even = {"must": [{"key": "even", "match": {"value": True}}]}
    said = ask(http, positive=[1], filter=even, vss={"explain": True})["vss"]["explain"]
    body = {"query": 1, "filter": even, "vss": {"explain": True}}
    searched = http.post("/collections/books/points/query", json=body).json()["vss"]["explain"]
    assert said.keys() == searched.keys()
    (plan,), (same,) = said["plans"], searched["plans"]
    assert plan.keys() == same.keys()
    assert (plan["method"], plan["matching"], plan["selectivity"]) == ("scan", 3, 3 / len(TEXTS))
    assert "explain" not in ask(http, positive=[1])["vss"]
