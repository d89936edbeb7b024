"""The file that `vss bench load` imports: points with vectors and payloads, as Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from api.bench.load_workloads import payload
from vss.errors import Code, VssError
from vss.types import Vectors

_BATCH_ROWS = 4_096


def write(path: Path, vectors: Vectors) -> None:
    """Write vectors `(n, dim)` with their row numbers as ids and the payload of each. VssError (STORAGE)."""
    payloads = [payload(row) for row in range(len(vectors))]
    columns: dict[str, Any] = {"id": pa.array(range(len(vectors)), pa.int64())}
    columns |= {name: pa.array([one[name] for one in payloads]) for name in payloads[0]}
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = pa.table(columns)
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=_BATCH_ROWS)
    except OSError as error:
        raise VssError(Code.STORAGE, f"{path} cannot be written: {error}", hint="choose another --data") from error
