"""Does late interaction rank better than the dense order that it is given?

    python benchmarks/rerank_quality.py FOLDER [--model NAME] [--top 50] [--join ". "]

FOLDER is in BEIR's form: corpus.jsonl (_id, title, text), queries.jsonl (_id, text), qrels.tsv (query, document,
grade). Prints one JSON line: nDCG@10 of the exact dense order and of the re-ranked top, once with the grade as gain
(trec_eval, BEIR) and once with 2^grade - 1 (Burges et al. 2005), and milliseconds of a re-rank over some queries.
--join stands between title and text: with graded judgments both choices move the figures by hundredths.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from embedders.registry import open_embedder
from embedders.rerank.late_interaction import LateInteraction
from vss.protocols import Candidates, Deadline, RerankQuery, TokenEmbedder, TokenVectors
from vss.types import Role

TIMED = 5
"""Queries re-ranked for the clock; for the quality, each document's token vectors are made once and kept."""


class Remembering:
    """A `TokenEmbedder` that embeds each text once."""

    def __init__(self, embedder: TokenEmbedder) -> None:
        self.info = embedder.info
        self._embedder = embedder
        self._made: dict[tuple[str, Role], TokenVectors] = {}

    def embed_tokens(self, texts: Sequence[str], role: Role) -> list[TokenVectors]:
        """What the embedder makes, or made before."""
        new = [text for text in dict.fromkeys(texts) if (text, role) not in self._made]
        for text, one in zip(new, self._embedder.embed_tokens(new, role), strict=True):
            self._made[text, role] = one
        return [self._made[text, role] for text in texts]


def read(folder: Path, name: str, join: str) -> dict[str, str]:
    """`_id` -> title and text of one JSON Lines file."""
    with (folder / name).open() as lines:
        rows = [json.loads(line) for line in lines]
    return {row["_id"]: join.join(filter(None, (row.get("title"), row["text"]))) for row in rows}


def linear(grade: int) -> float:
    """trec_eval's gain: the grade; a negative one gains nothing."""
    return max(grade, 0)


def exponential(grade: int) -> float:
    """The gain of Burges et al. (2005): high grades count for much more."""
    return 2.0 ** max(grade, 0) - 1


def ndcg(ranked: list[str], grades: dict[str, int], gain: Callable[[int], float], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first k."""

    def total(values: list[int]) -> float:
        return sum(gain(value) / math.log2(place + 2) for place, value in enumerate(values[:k]))

    ideal = total(sorted(grades.values(), reverse=True))
    return total([grades.get(document, 0) for document in ranked]) / ideal if ideal else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--top", type=int, default=50)
    parser.add_argument("--join", default=" ")
    parser.add_argument("--cache", type=Path, default=None)
    args = parser.parse_args()

    corpus, queries = read(args.folder, "corpus.jsonl", args.join), read(args.folder, "queries.jsonl", args.join)
    grades: dict[str, dict[str, int]] = {}
    with (args.folder / "qrels.tsv").open() as lines:
        for row in csv.reader(lines, delimiter="\t"):
            if row[-1].lstrip("-").isdigit():
                grades.setdefault(row[0], {})[row[1]] = int(row[-1])

    embedder = open_embedder(args.model, cache=args.cache, precision=args.precision)
    if not isinstance(embedder, TokenEmbedder):
        raise SystemExit(f"{args.model} gives no token vectors")
    timed = LateInteraction(embedder)
    reranker = LateInteraction(Remembering(embedder))
    ids = list(corpus)
    start = time.perf_counter()
    documents = embedder.embed(list(corpus.values()), Role.DOCUMENT)
    rate = len(ids) / (time.perf_counter() - start)
    judged = [name for name in queries if any(grade > 0 for grade in grades.get(name, {}).values())]
    scores = embedder.embed([queries[name] for name in judged], Role.QUERY) @ documents.T

    taken: list[float] = []
    figures: dict[str, list[float]] = {}
    for place, (name, row) in enumerate(zip(judged, scores, strict=True)):
        best = np.argsort(-row, kind="stable")[: args.top]
        found = [ids[one] for one in best]
        query = RerankQuery(wanted=(queries[name],))
        candidates = Candidates(texts=tuple(corpus[one] for one in found), similarity=row[best])
        if place < TIMED:
            start = time.perf_counter()
            timed.score(query, candidates, Deadline())
            taken.append(1000 * (time.perf_counter() - start))
        order = np.argsort(-reranker.score(query, candidates, Deadline()), kind="stable")
        for gain in (linear, exponential):
            for kind, ranked in (("dense", found), ("late_interaction", [found[one] for one in order])):
                key = f"ndcg10_{kind}_{gain.__name__}"
                figures.setdefault(key, []).append(ndcg(ranked, grades[name], gain))
    print(
        json.dumps(
            {
                "benchmark": "rerank_quality",
                "machine": f"{platform.machine()} {platform.python_version()}",
                "data": "/".join(args.folder.parts[-2:]),
                "model": args.model,
                "precision": embedder.info.precision,
                "documents": len(ids),
                "queries": len(judged),
                "top": args.top,
                "join": args.join,
                **{key: round(statistics.mean(values), 4) for key, values in figures.items()},
                "documents_per_s": round(rate, 1),
                "rerank_ms_median": round(statistics.median(taken), 1),
                "rerank_ms_low": round(min(taken), 1),
                "rerank_ms_high": round(max(taken), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
