"""Re-rankers behind one protocol (`vss.protocols.Reranker`): candidates become scores, higher is better.

* `embedders.rerank.registry`           a name becomes a re-ranker
* `embedders.rerank.passthrough`        the baseline: the similarity itself
* `embedders.rerank.late_interaction`   MaxSim over the token vectors of a loaded embedder
* `embedders.rerank.cross_encoder`      a model that reads the query and a candidate together
* `embedders.rerank.texts`              what those that read texts share
"""
