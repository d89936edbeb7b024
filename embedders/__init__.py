"""Models behind one protocol: texts become vectors (`vss.protocols.Embedder`).

* `embedders.registry`               a name becomes an embedder; the one place that imports a backend
* `embedders.hashing`                no model at all: a real baseline, and the fake for tests
* `embedders.sentence_transformer`   any sentence-transformers model: packaged, a folder, or a hub name
* `embedders.rerank`                 candidates become scores (`vss.protocols.Reranker`)

What surprises: an embedder is not thread-safe. `vss.search.batching.ModelHost` owns it.
"""
