"""NumPy's `.npy` and `.npz`: one vector a row, read in blocks, never unpickled.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Ids are row numbers from 0, the
array `ids` of an `.npz`, or a file of ids: a `.npy` of integers or strings, or a text with one id a line.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vss.errors import VssError, invalid
from vss.jobs.sources.jsonl import bounded_lines
from vss.jobs.sources.row import Row

BLOCK_BYTES = 1 << 20
MAX_DIM = 65_536
VECTORS, IDS = "vectors", "ids"
"""Names of the arrays in an `.npz`."""


class Blocks:
    """The rows of one `.npy` stream, which is read once.

    count: rows; dtype: of the values; shape: of a row, `()` or `(d,)`
    VssError (INVALID) for what is no `.npy`, holds objects, or is stored by columns.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, self.dtype = read(file)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise invalid(f"{name} is no .npy array: {error}", hint="check that it is whole") from error
        if self.dtype.hasobject or self.dtype.kind not in "fiuU":
            raise invalid(f"{name} holds {self.dtype}, wanted numbers or strings", hint="objects are never unpickled")
        if not shape or min(shape) < 0:
            raise invalid(f"{name} has the shape {shape}, wanted rows")
        if by_columns and len(shape) > 1:
            raise invalid(f"{name} is stored by columns", hint="save np.ascontiguousarray(array)")
        self.count, self.shape = shape[0], shape[1:]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Blocks of `(n, *shape)`. VssError (INVALID) when the file ends early."""
        width = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        at_once = max(1, BLOCK_BYTES // max(1, width))
        for start in range(0, self.count, at_once):
            rows = min(at_once, self.count - start)
            try:
                data = self._file.read(rows * width)
            except (EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise invalid(f"{self._name} cannot be read: {error}", hint="check that it is whole") from error
            if len(data) < rows * width:
                raise invalid(f"{self._name} ends before row {start + rows} of {self.count}: it is not whole")
            yield np.frombuffer(data, self.dtype).reshape(rows, *self.shape)


class Arrays:
    """Vectors and ids side by side, as the fields `id_field` and `vector_field` of each row.

    ids:   of the rows in order; a number when they are row numbers that begin with it
    total: rows
    VssError (INVALID) when `vectors` are not `(n, d)` numbers, or `ids` are not as many.
    """

    def __init__(
        self, vectors: Blocks, ids: Blocks | Iterator[str] | int, id_field: str, vector_field: str | None
    ) -> None:
        if vector_field is None:
            raise invalid("got a file of vectors and no field of the vector", hint="give --vector-field")
        if len(vectors.shape) != 1 or not 0 < vectors.shape[0] <= MAX_DIM or vectors.dtype.kind not in "fiu":
            shape = (vectors.count, *vectors.shape)
            raise invalid(f"got {vectors.dtype} of shape {shape}, wanted numbers of shape (n, d), d up to {MAX_DIM}")
        if isinstance(ids, Blocks):
            if ids.shape or ids.dtype.kind not in "iuU" or ids.dtype.itemsize > BLOCK_BYTES:
                raise invalid(f"got ids of {ids.dtype} and shape {(ids.count, *ids.shape)}, wanted integers or strings")
            if ids.count != vectors.count:
                raise _count(str(ids.count), vectors.count)
            self._ids: Iterator[Any] = (one for block in ids for one in _listed(block))
        else:
            self._ids = iter(range(ids, ids + vectors.count)) if isinstance(ids, int) else ids
        self.total = vectors.count
        self._vectors = vectors
        self._id_field, self._vector_field = id_field, vector_field

    def rows(self) -> Iterator[Row]:
        """As `Source.rows`."""
        line = 0
        for block in self._vectors:
            size = block.nbytes // len(block)
            for vector in block:
                point_id = next(self._ids, None)
                if point_id is None:
                    raise _count(str(line), self.total)
                line += 1
                yield Row(line=line, fields={self._id_field: point_id, self._vector_field: vector}, size=size, end=line)
        if next(self._ids, None) is not None:
            raise _count("more", self.total)


def open_npz(file: BinaryIO, first: int, id_field: str, vector_field: str | None) -> Arrays:
    """The arrays `vectors` and `ids` of an `.npz`; without `ids` row numbers from `first`. Both are read as streams."""
    try:
        archive = zipfile.ZipFile(file)
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if VECTORS not in names:
            raise invalid(f"got no array {VECTORS!r}, the file has {', '.join(names) or 'none'}")
        vectors = Blocks(archive.open(f"{VECTORS}.npy"), VECTORS)
        ids = Blocks(archive.open(f"{IDS}.npy"), IDS) if IDS in names else first
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
        raise invalid(f"the .npz file cannot be read: {error}", hint="check that it is whole") from error
    return Arrays(vectors, ids, id_field, vector_field)


def text_ids(file: BinaryIO) -> Iterator[str]:
    """One id a line; each stays a string."""
    for raw, _ in bounded_lines(file):
        try:
            yield raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise invalid("got an id that is not UTF-8", field="ids") from error


def _listed(block: NDArray[Any]) -> list[Any]:
    try:
        return list(block.tolist())
    except ValueError as error:
        raise invalid(f"got an id that is no text: {error}", field="ids") from error


def _count(got: str, wanted: int) -> VssError:
    return invalid(f"got {got} ids for {wanted} vectors, wanted one for each", field="ids")
