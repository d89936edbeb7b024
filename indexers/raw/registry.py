"""Which raw libraries there are. Imports the one that is asked for."""

from __future__ import annotations

from indexers.raw.library import RawLibrary
from vss.errors import Code, VssError, invalid

KINDS = ("raw-hnswlib", "raw-faiss-hnsw", "raw-faiss-flat")


def library(kind: str) -> RawLibrary:
    """One library. VssError: INVALID names those there are, UNAVAILABLE when it is not installed."""
    try:
        match kind:
            case "raw-hnswlib":
                from indexers.raw.hnswlib import RawHnswlib

                return RawHnswlib()
            case "raw-faiss-hnsw":
                from indexers.raw.faiss import RawFaissHnsw

                return RawFaissHnsw()
            case "raw-faiss-flat":
                from indexers.raw.faiss import RawFaissFlat

                return RawFaissFlat()
    except ImportError as error:
        raise VssError(
            Code.UNAVAILABLE,
            f"{kind} needs a library that cannot be imported: {error}",
            hint='pip install "vss-service[bench]", for which hnswlib is compiled',
        ) from error
    raise invalid(f"got the raw library {kind!r}, wanted one of {', '.join(KINDS)}")
