"""The seams of the house. A backend implements one of these and is named in one registry.

    Index, IndexBuilder    `indexers`           read and build are two types: an Index cannot be added to
    Scanner                `indexers`           an Index that can also score listed rows by itself
    Prober                 `indexers`           an Index that can look through the nearest part of many allowed rows
    Extender               `indexers`           an IndexBuilder that can also go on from an index
    Growing                `indexers`           an index, again and again, of vectors that go on coming
    Indexers               `indexers.registry`  name -> backend, and the choice of one
    Embedder               `embedders`          texts become vectors
    TokenEmbedder          `embedders`          an Embedder that also gives a vector for every token
    Reranker               `embedders.rerank`   candidates become scores
    Models                 `vss.search.batching`  the one owner of loaded models, shared by all requests

Every backend passes the conformance suite of its protocol (`tests/conformance`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from vss.errors import Code, VssError
from vss.types import Hits, Mask, Metric, Progress, Role, Rows, Scores, Vectors


class IndexSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an index is built as; stands in the manifest and is compared again at open.

    params: the backend's build parameters, all of them with their values (`{"m": 16, ...}`).
    """

    kind: str
    metric: Metric
    dim: int
    params: dict[str, int | float | str] = {}


class Index(Protocol):
    """The read half: immutable, thread-safe, opened from files."""

    spec: IndexSpec

    def __len__(self) -> int:
        """Number of vectors."""

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """The k best rows for each of `(q, dim)` queries, `Hits` of shape `(q, k)`.

        allow:  `(n,)` rows that may be returned; None allows all.
        effort: what the search spends (efSearch, nprobe); exact indexes ignore it; None is the default.
        """

    def close(self) -> None:
        """Free memory and maps. Searching afterwards is an error."""


@runtime_checkable
class Scanner(Protocol):
    """An index that can also look at listed rows only, for less than scoring their float vectors one by one.

    Its `search` under a filter spends as much more as keeps the recall that the effort has without one.
    """

    def scan(self, queries: Vectors, k: int, among: NDArray[np.int32] | Mask | None) -> Hits:
        """The k best of `(r,)` rows, or of those that a mask `(n,)` lets through (None: all), for each of `(q, dim)`
        queries: `Hits` of shape `(q, k)`.

        Exact but for rows that a compressed form holds to be worse than they are by a rare error.
        """


_scanning: dict[type, bool] = {}


def scans(index: object) -> TypeGuard[Scanner]:
    """Whether an index is a `Scanner`, in a fiftieth of the time that `isinstance` takes to look at its methods."""
    known = _scanning.get(type(index))
    if known is None:
        known = _scanning[type(index)] = isinstance(index, Scanner)
    return known


@runtime_checkable
class Prober(Protocol):
    """An index that can also look through the allowed rows that lie nearest to a query, in cells of all rows."""

    @property
    def cells(self) -> int:
        """How many there are; 0 where the index was made without."""

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        allow: Mask | None = None,
        effort: int | None = None,
        looked: int | None = None,
        counted: int | None = None,
    ) -> Hits:
        """As `Index.search`.

        looked:  the budget of the `probe` that follows where such a search comes back short
        counted: how many rows `allow` lets through, where that is known
        """

    def widened(self, effort: int, k: int, share: float) -> float:
        """The effort of a search without a filter that takes as long as one with this effort under a filter.

        share: of the rows that are allowed
        """

    def listed(self, allow: Mask) -> NDArray[np.int32]:
        """The rows that a mask lets through, rising."""

    def looked_at(self, recall: float, matching: int, k: int) -> int | None:
        """Of so many allowed rows how many are to be looked at for a recall@k; None where that is not known."""

    def probe(self, queries: Vectors, k: int, budget: int, among: NDArray[np.int32] | Mask) -> Hits:
        """The k best of so many rows for each of `(q, dim)` queries, `Hits` of shape `(q, k)`; there is a cell.

        Where allowed rows are rarer near a query than elsewhere more of them are looked at, and at least k.
        among: rising `(r,)` rows, or a mask `(n,)`
        """

    def gathers(self, count: int) -> bool:
        """Whether so many rows can be gathered, to be looked at for less."""

    def gather(self, rows: NDArray[np.int32]) -> Gathered:
        """What makes looking at these `(r,)` rows cheap from now on, at all or at some, where `gathers` says so."""


class Gathered(Protocol):
    """Some rows of an index, made ready to be looked at often. Thread-safe; it outlives a closed index."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""

    def search(self, queries: Vectors, k: int, budget: int | None = None) -> Hits:
        """As `Prober.probe` of these rows, where the index has cells; without a budget as `Scanner.scan`."""


_probing: dict[type, bool] = {}


def probes(index: object) -> TypeGuard[Prober]:
    """Whether an index is a `Prober`."""
    known = _probing.get(type(index))
    if known is None:
        known = _probing[type(index)] = isinstance(index, Prober)
    return known


class IndexBuilder(Protocol):
    """The write half: offline, may use every core; the only code that knows the library."""

    kind: str

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """The complete spec: `params` checked, and defaults filled in. VssError (INVALID) for unknown ones."""

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """Write the index of `(n, dim)` vectors as files into the existing, empty folder `out`."""

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Index:
        """Open what `build` wrote (file name -> where it lies now) beside the `(n, dim)` vectors it was built from.

        The files' checksums were verified before this is called.
        """

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Rising efforts worth measuring for the calibration; empty for an exact index."""


@runtime_checkable
class Extender(Protocol):
    """An index builder that can also go on from an index that it has built, for less than building it again."""

    def extend(
        self,
        files: Mapping[str, Path],
        spec: IndexSpec,
        kept: Rows,
        vectors: Vectors,
        out: Path,
        *,
        threads: int,
        progress: Progress,
    ) -> None:
        """Write the index of `(n, dim)` vectors into `out`, as `IndexBuilder.build`, and as good.

        files, spec: an index of other vectors. The files' checksums were verified.
        kept:        `(m,)` int64, rising: which rows of it are the first m of `vectors`, in this order; the others
                     are gone
        """


class Growing(Protocol):
    """Vectors that go on coming, and at each moment an index of those that are there. Used by one thread at a time."""

    def index(self, vectors: Vectors) -> Index:
        """Every one of `(n, dim)` vectors, looked at by each search. Costs about as much as there are new ones.

        The first of them are those of the call before, unchanged, and they stay so: the index goes on reading them.
        """

    def anew(self) -> Growing:
        """One for other vectors, which are expected to be like these."""


class Indexers(Protocol):
    """The index backends that are installed; `api.wiring` hands the registry of `indexers` to storage as this."""

    def builder(self, kind: str) -> IndexBuilder:
        """One backend. VssError (INVALID or UNSUPPORTED) names those that exist, or what to install."""

    def choose(
        self, kind: str, metric: Metric, dim: int, rows: int, params: Mapping[str, int | float | str]
    ) -> IndexSpec:
        """The complete spec of `kind`; "auto" picks a kind by metric and number of rows, "scan" the quickest that is
        made at once."""

    def growing(self, metric: Metric, dim: int) -> Growing:
        """For vectors that are searched before anything is built of them; none is there yet."""


class EmbedderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an embedder is. `fingerprint` changes when any vector it makes would.

    device and precision say where it runs here; they are not part of the fingerprint (canaries guard them).
    """

    name: str
    fingerprint: str
    dim: int
    max_tokens: int
    metric: Metric = Metric.COSINE
    device: str = "cpu"
    precision: str = "float32"


class Embedder(Protocol):
    """Texts become vectors. Not thread-safe: one owner (the micro-batcher) calls it."""

    info: EmbedderInfo

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, after truncation; what a batch is budgeted by."""

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """`(len(texts), dim)` float32; unit length for a Cosine model. An empty text is a text."""

    def close(self) -> None:
        """Free the model."""


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """One text as its tokens: `tokens` `(t, dim)` and `sentence` `(dim,)`, float32, rows of unit length."""

    tokens: Vectors
    sentence: Vectors


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that can also give a vector for every token (for late interaction)."""

    info: EmbedderInfo

    def embed_tokens(self, texts: Sequence[str], role: Role) -> list[TokenVectors]:
        """One `TokenVectors` for each text, special tokens and padding left out where the text has others."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment (`time.monotonic` seconds) after which an answer is no longer wanted; None never comes."""

    at: float | None = None

    @classmethod
    def after_ms(cls, milliseconds: float | None) -> Deadline:
        """The deadline that many milliseconds from now."""
        return cls(None if milliseconds is None else time.monotonic() + milliseconds / 1000)

    def remaining(self) -> float | None:
        """Seconds left, not below 0; None when there is no limit."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Whether the moment has come. Asked between chunks of work."""
        return self.at is not None and time.monotonic() >= self.at

    def check(self, doing: str) -> None:
        """Raise VssError (DEADLINE) when the moment has passed. Called between batches of work."""
        if self.passed():
            raise VssError(Code.DEADLINE, f"the deadline passed while {doing}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankQuery:
    """What candidates are ranked for.

    wanted:   texts to be like: the query, and the texts of liked items
    unwanted: texts to be unlike: those of disliked items
    """

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What a re-ranker reads of `n` candidates, in similarity order.

    texts:      `n` strings; "" where the point has no text
    similarity: `(n,)` float32, the retrieval's score
    """

    texts: tuple[str, ...]
    similarity: Scores


class Reranker(Protocol):
    """Candidates become scores. Sorting, cutting and falling back are the pipeline's."""

    name: str
    needs: frozenset[str]
    """What it reads: "text", or nothing."""

    def score(self, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32, higher is better, in the candidates' order. Checks the deadline between batches."""

    def close(self) -> None:
        """Free the model, when it is its own."""


class Models(Protocol):
    """The one owner of loaded models: requests wait here, the batcher's thread computes."""

    def infos(self) -> Sequence[EmbedderInfo]:
        """The embedders that are served."""

    def rerankers(self) -> Sequence[str]:
        """The names of the re-rankers that are served."""

    def info(self, model: str) -> EmbedderInfo:
        """One embedder. VssError (NOT_FOUND) names those that are served."""

    async def embed(self, model: str, texts: Sequence[str], role: Role, deadline: Deadline) -> Vectors:
        """`(len(texts), dim)` float32. VssError: NOT_FOUND, OVERLOADED, DEADLINE, MODEL_FAILED."""

    async def tokens(self, model: str, texts: Sequence[str]) -> int:
        """How many tokens the model reads for these texts."""

    async def rerank(self, reranker: str, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32. VssError: NOT_FOUND, OVERLOADED, DEADLINE, MODEL_FAILED."""

    def close(self) -> None:
        """Fail all waiters, stop the threads, free the models."""
