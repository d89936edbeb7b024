"""`/v1/embeddings` and `/v1/models` as OpenAI's clients expect them."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from embedders.hashing import HashingEmbedder
from vss.types import Role

TEXTS = ["compress a folder", "", "wait for several threads", "привет мир"]


def test_the_vectors_are_the_embedders(http: httpx.Client) -> None:
    answer = http.post("/v1/embeddings", json={"input": TEXTS, "model": "hashing", "user": "u"}).json()
    assert answer["object"] == "list"
    assert [item["index"] for item in answer["data"]] == [0, 1, 2, 3]
    assert answer["model"] == "hashing"
    expected = HashingEmbedder().embed(TEXTS, Role.DOCUMENT)
    np.testing.assert_array_equal(np.asarray([item["embedding"] for item in answer["data"]], np.float32), expected)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == sum(HashingEmbedder().lengths(TEXTS))


def test_base64_holds_the_same_numbers(http: httpx.Client) -> None:
    body: dict[str, Any] = {"input": TEXTS[0], "model": "hashing"}
    plain = http.post("/v1/embeddings", json=body | {"encoding_format": "float"}).json()
    packed = http.post("/v1/embeddings", json=body | {"encoding_format": "base64"}).json()
    numbers = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(numbers, np.asarray(plain["data"][0]["embedding"], np.float32))


def test_the_same_dimensions_may_be_asked_for(http: httpx.Client) -> None:
    body = {"input": "x", "model": "hashing", "dimensions": 256, "input_type": "query"}
    assert http.post("/v1/embeddings", json=body).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "param", "said"),
    [
        ({"input": "x", "model": "gone"}, 404, "model", "served are: hashing"),
        ({"input": "x"}, 400, "model", "got nothing"),
        ({"model": "hashing"}, 400, "input", "got nothing"),
        ({"input": [], "model": "hashing"}, 400, "input", "at least one"),
        ({"input": [1, 2], "model": "hashing"}, 400, "input[0]", "got int, wanted str"),
        ({"input": "x", "model": "hashing", "dimensions": 8}, 400, "dimensions", "makes 256"),
        ({"input": "x", "model": "hashing", "encoding_format": "int8"}, 400, "encoding_format", "int8"),
        ({"input": "x", "model": "hashing", "surprise": 1}, 400, "surprise", "does not exist"),
        ({"input": ["x"] * 2049, "model": "hashing"}, 413, "input", "at most 2048"),
        ({"input": ["x", "y" * ((1 << 20) + 1)], "model": "hashing"}, 400, "input[1]", "wanted at most"),
    ],
)
def test_refusals_in_openais_shape(http: httpx.Client, body: Any, status: int, param: str, said: str) -> None:
    answer = http.post("/v1/embeddings", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert said in error["message"]


def test_an_unknown_path_below_v1_is_an_error_in_openais_shape(http: httpx.Client) -> None:
    assert http.get("/v1/none").json()["error"]["code"] == "not_found"


def test_models(http: httpx.Client) -> None:
    answer = http.get("/v1/models").json()
    by_name = {model["id"]: model for model in answer["data"]}
    assert by_name["hashing"]["dim"] == 256
    assert by_name["hashing"]["fingerprint"] == HashingEmbedder().info.fingerprint
    assert by_name["passthrough"]["kind"] == "reranker"
    assert by_name["late_interaction"]["kind"] == "reranker"
