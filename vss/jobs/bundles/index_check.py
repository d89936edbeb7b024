"""Whether a bundle's index answers for its vectors: the recall that its builder measured is measured again here.

The same rows ask again, so the figures agree but for the last bits of float sums; a graph made of other vectors finds
nearly nothing. What is measured here becomes the calibration, whose microseconds are then those of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from vss.errors import Code, VssError
from vss.jobs.bundles.manifest import corrupt
from vss.protocols import Indexers
from vss.recall import calibrate
from vss.storage.build import CALIBRATION_QUERIES, CALIBRATION_SEED
from vss.storage.manifest import CalibrationPoint, VectorsRecord
from vss.types import Vectors

TOLERANCE = 0.02
"""How far below the recorded recall the measured one may be."""

EXACT = 0
"""The effort that `calibrate` names for an index that has none."""


def measured(
    record: VectorsRecord, vectors: Vectors, files: Mapping[str, Path], indexers: Indexers, uri: str, what: str
) -> VectorsRecord:
    """The record with the calibration of this machine. files: verified, by the builder's names.

    Raises VssError: CORRUPT when the index does not open or does not answer, INVALID or UNSUPPORTED for its kind.
    """
    spec = record.index
    builder = indexers.builder(spec.kind)
    if builder.spec(spec.metric, spec.dim, spec.params) != spec:
        raise corrupt(uri, f"the parameters of the index of {what} are not complete")
    efforts = builder.efforts(spec)
    try:
        index = builder.open(files, spec, vectors)
        try:
            points = calibrate(
                index,
                vectors,
                spec.metric,
                efforts=efforts,
                sample=CALIBRATION_QUERIES,
                seed=CALIBRATION_SEED,
            )
        finally:
            index.close()
    except VssError as error:
        if error.code is not Code.CORRUPT:
            raise
        raise corrupt(uri, f"the index of {what} cannot be opened: {error.message}") from error
    except Exception as error:  # a native library raises what it likes about a file that it cannot read
        raise corrupt(uri, f"the index of {what} does not answer: {error}") from error
    recorded = {point.effort: point.recall for point in record.calibration} if efforts else {EXACT: 1.0}
    known = [point for point in points if point.effort in recorded]
    if not known:
        raise corrupt(uri, f"the index of {what} was not calibrated")
    for point in known:
        if not point.recall >= recorded[point.effort] - TOLERANCE:
            raise corrupt(
                uri,
                f"the index of {what} does not answer for its vectors: recall@10 {point.recall:.3f} at effort "
                f"{point.effort}, its builder measured {recorded[point.effort]:.3f}",
            )
    return replace(record, calibration=tuple(CalibrationPoint(*point) for point in points) if efforts else ())
