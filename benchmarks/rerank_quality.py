"""Does late interaction rank better than the dense order that it is given?

    python benchmarks/rerank_quality.py FOLDER [--model NAME] [--top 50]

FOLDER is in BEIR's form: corpus.jsonl (_id, title, text), queries.jsonl (_id, text), qrels.tsv (query, document,
grade). Prints one JSON line: nDCG@10 of the exact dense order and of the re-ranked top, and milliseconds per query.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from embedders.registry import open_embedder
from embedders.rerank.registry import open_reranker
from vss.protocols import Candidates, Deadline, RerankQuery
from vss.types import Role


def read(folder: Path, name: str) -> dict[str, str]:
    """`_id` -> title and text of one JSON Lines file."""
    with (folder / name).open() as lines:
        rows = [json.loads(line) for line in lines]
    return {row["_id"]: " ".join(filter(None, (row.get("title"), row["text"]))) for row in rows}


def ndcg(ranked: list[str], grades: dict[str, int], k: int = 10) -> float:
    """trec_eval's nDCG: the gain is the grade, negative grades gain nothing."""

    def gain(values: list[int]) -> float:
        return sum(max(value, 0) / math.log2(place + 2) for place, value in enumerate(values[:k]))

    ideal = gain(sorted(grades.values(), reverse=True))
    return gain([grades.get(document, 0) for document in ranked]) / ideal if ideal else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--top", type=int, default=50)
    parser.add_argument("--cache", type=Path, default=None)
    args = parser.parse_args()

    corpus, queries = read(args.folder, "corpus.jsonl"), read(args.folder, "queries.jsonl")
    grades: dict[str, dict[str, int]] = {}
    with (args.folder / "qrels.tsv").open() as lines:
        for row in csv.reader(lines, delimiter="\t"):
            if row[-1].lstrip("-").isdigit():
                grades.setdefault(row[0], {})[row[1]] = int(row[-1])

    embedder = open_embedder(args.model, cache=args.cache, precision=args.precision)
    reranker = open_reranker("late_interaction", {args.model: embedder})
    ids = list(corpus)
    start = time.perf_counter()
    documents = embedder.embed(list(corpus.values()), Role.DOCUMENT)
    rate = len(ids) / (time.perf_counter() - start)
    judged = [name for name in queries if any(grade > 0 for grade in grades.get(name, {}).values())]
    scores = embedder.embed([queries[name] for name in judged], Role.QUERY) @ documents.T

    dense, late, taken = [], [], []
    for name, row in zip(judged, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: args.top]
        found = [ids[place] for place in best]
        candidates = Candidates(texts=tuple(corpus[one] for one in found), similarity=row[best])
        start = time.perf_counter()
        order = np.argsort(-reranker.score(RerankQuery(wanted=(queries[name],)), candidates, Deadline()), kind="stable")
        taken.append(1000 * (time.perf_counter() - start))
        dense.append(ndcg(found, grades[name]))
        late.append(ndcg([found[place] for place in order], grades[name]))
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
                "ndcg10_dense": round(statistics.mean(dense), 4),
                "ndcg10_late_interaction": round(statistics.mean(late), 4),
                "documents_per_s": round(rate, 1),
                "rerank_ms_median": round(statistics.median(taken), 1),
                "rerank_ms_p95": round(float(np.percentile(taken, 95)), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
