"""A name becomes a re-ranker. The one place of `embedders.rerank` that imports a backend.

passthrough                the similarity itself
late_interaction           MaxSim over the first embedder's token vectors
late_interaction:<model>   the same over the named one
cross_encoder:<source>     a model that reads query and text together; the source is a folder that sentence-transformers
                           saved a CrossEncoder in, or its hub name (org/model). Served as cross_encoder:<folder's own
                           name> or cross_encoder:<org/model>, so that no path of the server is told.

Names come from the server's settings; a request can only choose among those that are served.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vss.errors import Code, VssError, invalid
from vss.protocols import Embedder, Reranker, TokenEmbedder

CROSS_ENCODER = "cross_encoder"
LATE_INTERACTION = "late_interaction"
PASSTHROUGH = "passthrough"


def served_name(name: str) -> str:
    """What requests call the re-ranker `name` of the settings."""
    base, _, source = name.partition(":")
    if base != CROSS_ENCODER or not _folder(source):
        return name
    return f"{CROSS_ENCODER}:{Path(source).expanduser().resolve().name}"


def model_of(name: str, models: Sequence[str]) -> str | None:
    """The embedder, out of the names `models`, that a re-ranker runs on; None when it needs none.

    VssError: NOT_FOUND for an unknown re-ranker or source, INVALID when no such embedder is served, UNSUPPORTED when
    the extra is not installed.
    """
    if name == PASSTHROUGH:
        return None
    base, _, wanted = name.partition(":")
    if base == CROSS_ENCODER and wanted:
        _check_source(name, wanted)
        return None
    if base != LATE_INTERACTION:
        raise VssError(
            Code.NOT_FOUND,
            f"there is no re-ranker {name!r}",
            hint=f"there are {PASSTHROUGH}, {LATE_INTERACTION}, {LATE_INTERACTION}:<model>, "
            f"{CROSS_ENCODER}:<folder or org/model>",
        )
    if not models or (wanted and wanted not in models):
        raise invalid(
            f"{name} needs the embedder {wanted or 'of a collection'!r}, which is not served",
            hint=f"served are: {', '.join(models) or 'none'}",
        )
    return wanted or models[0]


def open_reranker(name: str, embedders: Mapping[str, Embedder], *, threads: int | None = None) -> Reranker:
    """A re-ranker over loaded embedders (name -> embedder; the first is the default); a cross-encoder loads its own.

    threads: CPU threads of a model of its own; None takes the cores that this process may use

    VssError: NOT_FOUND, INVALID, UNSUPPORTED (see `model_of`; or the embedder gives no token vectors), and what
    loading a model raises.
    """
    model = model_of(name, tuple(embedders))
    base, _, source = name.partition(":")
    if base == CROSS_ENCODER:
        from embedders.rerank.cross_encoder import CrossEncoderReranker

        precision = os.environ.get("VSS_PRECISION") or "float32"
        place = Path(source).expanduser().resolve() if _folder(source) else source
        return CrossEncoderReranker(served_name(name), place, precision=precision, threads=threads)
    if model is None:
        from embedders.rerank.passthrough import Passthrough

        return Passthrough()
    from embedders.rerank.late_interaction import LateInteraction

    embedder = embedders[model]
    if not isinstance(embedder, TokenEmbedder):
        raise VssError(Code.UNSUPPORTED, f"{name} needs token vectors, which {model!r} does not give")
    return LateInteraction(embedder, name)


def _folder(source: str) -> bool:
    return bool(source) and Path(source).expanduser().is_dir()


def _check_source(name: str, source: str) -> None:
    if not _folder(source) and (source.count("/") != 1 or source.startswith((".", "~", "/"))):
        raise VssError(
            Code.NOT_FOUND,
            f"there is no re-ranker {name!r}: {source!r} is neither a folder nor a hub name like org/model",
            hint="name a folder that a CrossEncoder of sentence-transformers was saved in",
        )
    missing = [module for module in ("sentence_transformers", "torch") if importlib.util.find_spec(module) is None]
    if missing:
        raise VssError(
            Code.UNSUPPORTED,
            f"{name} needs {', '.join(missing)}, which is not installed",
            hint='pip install "vss-service[models]"',
        )
