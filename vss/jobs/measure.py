"""Whether what was built is good enough: a generation whose recall falls short is not published."""

from __future__ import annotations

from vss.errors import invalid
from vss.storage import accept
from vss.storage.manifest import SegmentRecord


def best_recall(segment: SegmentRecord) -> dict[str, float]:
    """The best measured recall@10 of each vector name; 1 for an exact index."""
    return {name: accept.best_recall(record) for name, record in segment.vectors.items()}


def check_recall(segment: SegmentRecord, wanted: float) -> None:
    """VssError (INVALID), with the curve, when no effort reaches the wanted recall@10 (0 to 1) of every vector name."""
    for name, recall in best_recall(segment).items():
        if recall < wanted:
            record = segment.vectors[name]
            curve = ", ".join(f"{point.recall:.3f} at effort {point.effort}" for point in record.calibration)
            raise invalid(
                f"recall@10 of {record.index.kind} reached {recall:.3f}, wanted at least {wanted:.3f}; "
                f"measured {curve}; nothing was published",
                hint="lower --min-recall, or build another index with --index",
            )
