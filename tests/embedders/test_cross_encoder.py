"""`cross_encoder` with a tiny model that is trained here, on topics: a query and a text belong together or do not."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.reranker_suite import QUERY, SIMILARITY, TEXTS, RerankerSuite

if importlib.util.find_spec("sentence_transformers") is None:
    pytest.skip("the extra `models` is not installed", allow_module_level=True)

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from api.settings import Settings
from api.wiring import model_host
from embedders.rerank.registry import model_of, open_reranker, served_name
from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Reranker, RerankQuery

SEED = 5
TOPICS = 6
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [f"{kind}{topic}" for kind in ("ask", "tell") for topic in range(TOPICS)] + ["the", "of", "and"]
MOST_TOKENS = 24


def tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over the toy words and the letters, as BERT has it."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    made = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=MOST_TOKENS,
    )


def sentence(kind: str, topic: int, chance: random.Random) -> str:
    """Four words, one of which tells the topic."""
    words = [chance.choice(["the", "of", "and"]) for _ in range(3)] + [f"{kind}{topic}"]
    chance.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model as `save_pretrained` leaves it; the generators of torch are left as they were."""
    chance = random.Random(SEED)
    words = tokenizer()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other over so small a model
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=MOST_TOKENS,
            num_labels=1,
            initializer_range=0.2,  # BERT's own 0.02 needs ten times the steps in so few dimensions
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model = BertForSequenceClassification(config)
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
        model.train()
        for _ in range(300):
            asked = [chance.randrange(TOPICS) for _ in range(48)]
            told = [topic if chance.random() < 0.5 else chance.randrange(TOPICS) for topic in asked]
            batch = words(
                [sentence("ask", topic, chance) for topic in asked],
                [sentence("tell", topic, chance) for topic in told],
                padding=True,
                return_tensors="pt",
            )
            relevant = torch.tensor([float(left == right) for left, right in zip(asked, told, strict=True)])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], relevant)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    torch.set_num_threads(threads)
    where = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(where)
    words.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Reranker:
    return open_reranker(f"cross_encoder:{folder}", {}, threads=2)


class TestCrossEncoder(RerankerSuite):
    @pytest.fixture
    def reranker(self, tiny: Reranker) -> Reranker:
        return tiny


def candidates(*texts: str) -> Candidates:
    return Candidates(texts=texts, similarity=np.linspace(1, 0, len(texts), dtype=np.float32))


def one_of_each(chance: random.Random) -> Candidates:
    return candidates(*(sentence("tell", topic, chance) for topic in range(TOPICS)))


def test_what_belongs_to_the_query_comes_first(tiny: Reranker) -> None:
    chance = random.Random(SEED + 1)
    first = []
    for topic in list(range(TOPICS)) * 5:
        query = RerankQuery(wanted=(sentence("ask", topic, chance),))
        scores = tiny.score(query, one_of_each(chance), Deadline())
        first.append(int(np.argmax(scores)) == topic)
    assert np.mean(first) >= 0.9, f"seed {SEED}; chance would be {1 / TOPICS:.2f}"


def test_the_unwanted_takes_half_away(tiny: Reranker) -> None:
    chance = random.Random(SEED + 2)
    given = one_of_each(chance)

    def relevance(topic: int) -> np.ndarray:
        return tiny.score(RerankQuery(wanted=(f"the ask{topic}",)), given, Deadline())

    both = tiny.score(RerankQuery(wanted=("the ask0", "the ask1"), unwanted=("the ask2",)), given, Deadline())
    np.testing.assert_allclose(both, (relevance(0) + relevance(1)) / 2 - relevance(2) / 2, atol=1e-5)
    assert set(np.argsort(-both)[:2].tolist()) == {0, 1}
    assert int(np.argmin(both)) == 2
    assert ((relevance(0) > 0) & (relevance(0) < 1)).all()


def test_candidates_without_text_come_last_in_their_order(tiny: Reranker) -> None:
    scores = tiny.score(RerankQuery(wanted=("ask1",)), candidates("", "tell1", "  ", "tell2", "tell1"), Deadline())
    assert np.argsort(-scores, kind="stable").tolist()[-2:] == [0, 2]
    assert scores[1] == scores[4]
    none = tiny.score(RerankQuery(wanted=("ask1",)), candidates("", " "), Deadline())
    assert none[0] > none[1]


def test_a_long_text_is_read_as_far_as_the_model_reads(tiny: Reranker) -> None:
    """What stands behind the limit changes nothing, and a query longer than the limit is no error."""
    long = "tell3 " + "the " * 200
    scores = tiny.score(RerankQuery(wanted=("ask3",)), candidates(long + "tell1", long + "tell2"), Deadline())
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert np.isfinite(tiny.score(RerankQuery(wanted=("ask3 " * 500,)), candidates("tell3"), Deadline())).all()


def test_texts_of_any_length_together_score_as_alone(tiny: Reranker) -> None:
    texts = tuple(f"tell{place % TOPICS} " + "the " * (place % 17) for place in range(200))
    query = RerankQuery(wanted=("ask3 and ask4",))
    together = tiny.score(query, candidates(*texts), Deadline())
    for place in (0, 16, 17, 111, 199):
        assert together[place] == pytest.approx(tiny.score(query, candidates(texts[place]), Deadline())[0], abs=1e-5)


def test_the_deadline_is_looked_at_between_batches(tiny: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock passes the deadline when the model has been called twice."""
    calls: list[int] = []
    model = tiny._model  # type: ignore[attr-defined]
    predict = model.predict

    def counted(pairs: list[tuple[str, str]], **options: object) -> object:
        calls.append(len(pairs))
        return predict(pairs, **options)

    monkeypatch.setattr(model, "predict", counted)
    monkeypatch.setattr("time.monotonic", lambda: 100.0 if len(calls) >= 2 else 0.0)
    texts = tuple(f"tell{place % TOPICS} " + "of " * (place % 11) + "a" * (place // 60) for place in range(600))
    with pytest.raises(VssError, match="of 600 pairs were done") as caught:
        tiny.score(RerankQuery(wanted=("ask1",)), candidates(*texts), Deadline(at=50.0))
    assert caught.value.code is Code.DEADLINE
    assert len(calls) == 2
    assert 0 < sum(calls) < 600


def test_nothing_to_rank_for_is_refused(tiny: Reranker) -> None:
    with pytest.raises(VssError) as caught:
        tiny.score(RerankQuery(wanted=()), candidates("tell1"), Deadline())
    assert caught.value.code is Code.INVALID


def test_it_is_served_under_its_folders_name_and_runs_in_a_thread_of_its_own(folder: Path, tmp_path: Path) -> None:
    settings = Settings(models=(), rerankers=("passthrough", f"cross_encoder:{folder}"), data=tmp_path)
    host = model_host(settings)
    host.start()
    try:
        host.wait(60)
        assert host.rerankers() == ["passthrough", "cross_encoder:tiny"]
        given = Candidates(texts=TEXTS, similarity=SIMILARITY)
        served = asyncio.run(host.rerank("cross_encoder:tiny", QUERY, given, Deadline()))
    finally:
        host.close()
    alone = open_reranker(f"cross_encoder:{folder}", {}).score(QUERY, given, Deadline())
    np.testing.assert_allclose(served, alone, atol=1e-5)


def test_two_of_the_same_name_are_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "tiny")
    with pytest.raises(VssError, match="cross_encoder:tiny"):
        model_host(Settings(models=(), rerankers=(f"cross_encoder:{folder}", f"cross_encoder:{other}")))


def test_the_source_is_a_folder_or_a_hub_name(folder: Path) -> None:
    assert model_of("cross_encoder:org/model", ()) is None
    assert served_name("cross_encoder:org/model") == "cross_encoder:org/model"
    assert served_name(f"cross_encoder:{folder}/") == "cross_encoder:tiny"
    for name in ("cross_encoder", "cross_encoder:", "cross_encoder:/not/there", "cross_encoder:a/b/c"):
        with pytest.raises(VssError) as caught:
            model_of(name, ("hashing",))
        assert caught.value.code is Code.NOT_FOUND, name


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(VssError, match="is a pickle"):
        open_reranker(f"cross_encoder:{pickled}", {})


def test_a_model_with_code_of_its_own_is_refused(folder: Path, tmp_path: Path) -> None:
    coded = shutil.copytree(folder, tmp_path / "coded")
    config = json.loads((coded / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own_code.Config"}}
    (coded / "config.json").write_text(json.dumps(config))
    (coded / "own_code.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(VssError) as caught:
        open_reranker(f"cross_encoder:{coded}", {})
    assert caught.value.code in {Code.INVALID, Code.MODEL_FAILED}


def test_a_model_that_sorts_into_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes"
    config = BertConfig.from_pretrained(folder, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(classes)
    tokenizer().save_pretrained(classes)
    with pytest.raises(VssError, match="3 outputs"):
        open_reranker(f"cross_encoder:{classes}", {})
