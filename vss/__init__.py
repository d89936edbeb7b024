"""The centre of the house: nouns, protocols, storage, search, ranking and jobs.

Imports none of `api`, `embedders`, `indexers`; they import this. The few types to know first:

* `vss.types.Hits`          what every search answers: rows and scores, always a batch
* `vss.schema.Schema`       what the points of a collection look like
* `vss.filters.Filter`      which points a query may return
* `vss.protocols`           the seams: `Index`, `IndexBuilder`, `Embedder`, `Reranker`
* `vss.storage.view.View`   what one query reads: one generation and the live part, at one moment
"""
