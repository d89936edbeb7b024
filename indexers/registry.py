"""Which index backends exist. The only place that imports them, and only the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from indexers.choose import CODED_FROM, choose, quickest
from indexers.flat import FlatBuilder, FlatGrowing
from vss.errors import Code, VssError, invalid
from vss.protocols import Growing, IndexBuilder, IndexSpec
from vss.schema import AUTO, SCAN
from vss.types import Metric

_FAISS = 'pip install "faiss-cpu>=1.15"'
_INSTALL = {
    "faiss_hnsw": _FAISS,
    "faiss_ivf": _FAISS,
    "hnswlib": 'pip install "vss-service[hnswlib]", which needs a C++ compiler',
    "native": "not built: there was no C++17 compiler, or no headers of Python's, when vss-service was installed "
    "(Debian: g++, python3-dev); install it again: `make setup`, or `pip install --force-reinstall --no-deps .`",
}
"""How to get the library of each kind that needs one."""

_KINDS = ("coded", "faiss_hnsw", "faiss_ivf", "flat", "hnswlib", "native")


def kinds() -> tuple[str, ...]:
    """The names that `builder` knows, whether their libraries are installed or not."""
    return _KINDS


def builder(kind: str) -> IndexBuilder:
    """The builder of one kind. VssError: INVALID names the kinds there are, UNAVAILABLE says what to install."""
    try:
        match kind:
            case "flat":
                return FlatBuilder()
            case "coded":
                return _coded()
            case "faiss_hnsw":
                from indexers.faiss_hnsw import FaissHnswBuilder

                return FaissHnswBuilder()
            case "faiss_ivf":
                from indexers.faiss_ivf import FaissIvfBuilder

                return FaissIvfBuilder()
            case "hnswlib":
                from indexers.hnswlib import HnswlibBuilder

                return HnswlibBuilder()
            case "native":
                return _native()
    except ImportError as error:
        raise _missing(kind, error) from error
    raise invalid(f"got the index kind {kind!r}, wanted one of {', '.join(_KINDS)}")


def _native() -> IndexBuilder:
    try:
        from indexers.native.builder import NativeBuilder
    except ImportError as error:
        from indexers.native.uncompiled import UncompiledBuilder

        return UncompiledBuilder("native", str(error))
    return NativeBuilder()


def _coded() -> IndexBuilder:
    try:
        from indexers.native.coded import CodedBuilder
    except ImportError as error:
        from indexers.native.uncompiled import UncompiledBuilder

        return UncompiledBuilder("coded", str(error))
    return CodedBuilder()


def native_compiled() -> bool:
    """Whether the kernel of `native` is there, so that `auto` may choose it."""
    try:
        import indexers.native._kernel  # noqa: F401
    except ImportError:
        return False
    return True


def native_kernels() -> tuple[str, ...]:
    """The sets of instructions in which the native kernel runs here, the fastest first.

    VssError (UNAVAILABLE) says why there is no kernel.
    """
    try:
        from indexers.native import _kernel
    except ImportError as error:
        raise _missing("native", error) from error
    return tuple(_kernel.kernels())


def _missing(kind: str, error: ImportError) -> VssError:
    return VssError(
        Code.UNAVAILABLE, f"the index {kind} needs a library that cannot be imported: {error}", hint=_INSTALL.get(kind)
    )


class InstalledIndexers:
    """This registry as `vss.protocols.Indexers`, which is how storage gets to the backends."""

    def builder(self, kind: str) -> IndexBuilder:
        """One backend, as `builder` of this module gives it."""
        return builder(kind)

    def choose(
        self, kind: str, metric: Metric, dim: int, rows: int, params: Mapping[str, int | float | str]
    ) -> IndexSpec:
        """The complete spec of `kind`. "auto" picks a kind; `params` are then those of `faiss_hnsw`, which is taken for
        their sake, and a scan ignores them. "scan" ignores them always."""
        if kind == SCAN:
            return builder(quickest(rows, metric, native=native_compiled())).spec(metric, dim, {})
        if kind != AUTO:
            return builder(kind).spec(metric, dim, params)
        chosen = choose(rows, metric, native=not params and native_compiled())
        return builder(chosen).spec(metric, dim, {} if chosen == "flat" else params)

    def growing(self, metric: Metric, dim: int) -> Growing:
        """As `vss.protocols.Indexers.growing`."""
        if quickest(CODED_FROM, metric, native=native_compiled()) == "coded":
            from indexers.native.growing import CodedGrowing

            return CodedGrowing(metric, dim)
        return FlatGrowing(metric, dim)


INDEXERS = InstalledIndexers()
