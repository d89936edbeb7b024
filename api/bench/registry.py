"""What only some runs of `vss bench` need, loaded when it is asked for: the extra `bench`, and pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from api.bench.dataset import Dataset
from api.bench.filter_cases import Case
from api.bench.filtered import Measured as Filtered
from api.bench.load import Measured
from api.bench.recall import Curve, Plan
from vss.errors import Code, VssError
from vss.types import Vectors


def write_arrow(path: Path, vectors: Vectors) -> None:
    """As `api.bench.arrow_file.write`."""
    from api.bench import arrow_file

    arrow_file.write(path, vectors)


def read_hdf5(path: Path, queries: int | None) -> Dataset:
    """As `api.bench.hdf5.read`. VssError (UNAVAILABLE) says what to install."""
    with _needing("reading HDF5"):
        from api.bench import hdf5
    return hdf5.read(path, queries)


def draw_curves(path: Path, data: Dataset, curves: Sequence[Curve], plan: Plan) -> None:
    """As `api.bench.curves.draw`. VssError (UNAVAILABLE) says what to install."""
    check_drawing()
    from api.bench import curves as pictures

    pictures.draw(path, data, curves, plan)


def draw_latencies(path: Path, found: Sequence[Measured]) -> None:
    """As `api.bench.load_curves.draw`. VssError (UNAVAILABLE) says what to install."""
    check_drawing()
    from api.bench import load_curves

    load_curves.draw(path, found)


def draw_filters(path: Path, title: str, found: Sequence[tuple[Case, Filtered]]) -> None:
    """As `api.bench.filtered_chart.draw`. VssError (UNAVAILABLE) says what to install."""
    check_drawing()
    from api.bench import filtered_chart

    filtered_chart.draw(path, title, found)


def check_drawing() -> None:
    """That pictures have their library: asked before the work, not after it. VssError (UNAVAILABLE)."""
    with _needing("drawing curves"):
        import matplotlib  # noqa: F401


@contextmanager
def _needing(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise VssError(
            Code.UNAVAILABLE,
            f"{what} needs a library that cannot be imported: {error}",
            hint='pip install "vss-service[bench]"',
        ) from error
