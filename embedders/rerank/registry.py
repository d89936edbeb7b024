"""A name becomes a re-ranker. The one place of `embedders.rerank` that imports a backend.

passthrough                the similarity itself
late_interaction           MaxSim over the first embedder's token vectors
late_interaction:<model>   the same over the named one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vss.errors import Code, VssError, invalid
from vss.protocols import Embedder, Reranker, TokenEmbedder

LATE_INTERACTION = "late_interaction"
PASSTHROUGH = "passthrough"


def model_of(name: str, models: Sequence[str]) -> str | None:
    """The embedder, out of the names `models`, that a re-ranker runs on; None when it needs none.

    VssError: NOT_FOUND for an unknown re-ranker, INVALID when no such embedder is served.
    """
    if name == PASSTHROUGH:
        return None
    base, _, wanted = name.partition(":")
    if base != LATE_INTERACTION:
        raise VssError(
            Code.NOT_FOUND,
            f"there is no re-ranker {name!r}",
            hint=f"there are {PASSTHROUGH}, {LATE_INTERACTION}, {LATE_INTERACTION}:<model>",
        )
    if not models or (wanted and wanted not in models):
        raise invalid(
            f"{name} needs the embedder {wanted or 'of a collection'!r}, which is not served",
            hint=f"served are: {', '.join(models) or 'none'}",
        )
    return wanted or models[0]


def open_reranker(name: str, embedders: Mapping[str, Embedder]) -> Reranker:
    """A re-ranker over loaded embedders (name -> embedder; the first is the default).

    VssError: NOT_FOUND, INVALID (see `model_of`), UNSUPPORTED when the embedder gives no token vectors.
    """
    model = model_of(name, tuple(embedders))
    if model is None:
        from embedders.rerank.passthrough import Passthrough

        return Passthrough()
    from embedders.rerank.late_interaction import LateInteraction

    embedder = embedders[model]
    if not isinstance(embedder, TokenEmbedder):
        raise VssError(Code.UNSUPPORTED, f"{name} needs token vectors, which {model!r} does not give")
    return LateInteraction(embedder, name)
