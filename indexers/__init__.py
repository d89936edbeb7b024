"""Index libraries behind one protocol, `vss.protocols.Index` and `IndexBuilder`: one backend per file.

    registry     kind -> builder, imported only when asked for
    choose       `auto`: which kind suits so many points under this metric
    flat         exact; the oracle that the others are measured against
    faiss_hnsw   a graph; the serving index
    faiss_ivf    lists around centroids, of compressed vectors; built fastest, and smallest
    hnswlib      a graph by hnswlib; an extra

    approximate  how an index that cannot filter answers a filtered search
    faiss_io     what both FAISS backends share; params, what all share

An index answers from files that `build` wrote *beside the vectors it was built from*: backends do not store
float vectors a second time (hnswlib does).
"""
