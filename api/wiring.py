"""Puts the parts together: embedders and re-rankers behind the protocols of `vss`, as the settings name them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from api.settings import Settings
from embedders import registry as embedder_registry
from embedders.rerank import registry as reranker_registry
from vss.errors import invalid
from vss.protocols import Embedder, Reranker
from vss.search.batching import ModelHost, RerankerSource


def model_names(settings: Settings) -> tuple[str, ...]:
    """The embedders to serve, the first one first: those of the settings, else all that need no network."""
    return settings.models if settings.models is not None else embedder_registry.available()


def model_host(settings: Settings) -> ModelHost:
    """The embedders and re-rankers of the settings, not started yet. VssError: unknown re-rankers."""
    names = model_names(settings)
    embedders: dict[str, Callable[[], Embedder]] = {
        name: partial(embedder_registry.open_embedder, name, cache=settings.data, threads=settings.threads)
        for name in names
    }
    wanted = settings.rerankers
    if wanted is None:
        wanted = (reranker_registry.PASSTHROUGH, *([reranker_registry.LATE_INTERACTION] if names else []))
    # Real models before hashing: late interaction over a model beats one over words.
    order = sorted(names, key=lambda name: name.startswith("hashing"))
    sources = {}
    for reranker in wanted:
        served = reranker_registry.served_name(reranker)
        if served in sources:
            raise invalid(f"got the re-ranker {served!r} twice", field="rerankers")
        model = reranker_registry.model_of(reranker, order)
        sources[served] = RerankerSource(model, partial(_open_reranker, reranker, model, settings.threads))
    return ModelHost(embedders, sources)


def _open_reranker(name: str, model: str | None, threads: int, embedder: Embedder | None) -> Reranker:
    loaded = {} if model is None or embedder is None else {model: embedder}
    return reranker_registry.open_reranker(name, loaded, threads=threads)
