"""`.npy` files written row by row, so that no array has to fit into memory.

The format is NumPy's own (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), version 1.0 with
its header padded to a fixed size: the shape is filled in when the last row has been written.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

_HEADER_BYTES = 192


class NpyWriter:
    """Appends blocks of rows to one `.npy` file of a fixed dtype and row shape.

    kept: None begins a new file; else goes on after so many rows of one that another process has left.
          ValueError when it has fewer
    """

    def __init__(
        self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...] = (), *, kept: int | None = None
    ) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.rows = kept or 0
        if kept is None:
            self._file: BinaryIO = open(path, "xb")  # noqa: SIM115 - closed by close()
            self._file.write(b"\0" * _HEADER_BYTES)
        else:
            end = _HEADER_BYTES + kept * self.dtype.itemsize * math.prod(row_shape)
            self._file = _reopened(path, end)

    def append(self, block: NDArray[Any]) -> None:
        """Write `(n, *row_shape)` values; they are converted to the file's dtype."""
        block = np.ascontiguousarray(block, dtype=self.dtype)
        if block.shape[1:] != self.row_shape:
            raise ValueError(f"got rows of shape {block.shape[1:]}, wanted {self.row_shape}")
        self._file.write(block.data if block.size else b"")
        self.rows += block.shape[0]

    def flush(self) -> None:
        """Hand what was appended to the operating system: it survives this process."""
        self._file.flush()

    def sync(self) -> None:
        """Flush, and make what was appended survive a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def written(self) -> NDArray[Any]:
        """`(rows, *row_shape)` what was flushed, mapped."""
        if not self.rows:
            return np.empty((0, *self.row_shape), self.dtype)
        shape = (self.rows, *self.row_shape)
        mapped: NDArray[Any] = np.memmap(self.path, self.dtype, "r", _HEADER_BYTES, shape)
        return mapped.view(np.ndarray)

    def close(self) -> None:
        """Write the header; the file is a valid `.npy` from here on."""
        if self._file.closed:
            return
        shape = (self.rows, *self.row_shape)
        text = repr({"descr": self.dtype.str, "fortran_order": False, "shape": shape}).encode()
        room = _HEADER_BYTES - 10
        header = text + b" " * (room - 1 - len(text)) + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + header)
        self._file.close()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rows_in(size: int, row_bytes: int) -> int:
    """How many rows a file of `NpyWriter` holds that has `size` bytes."""
    return (size - _HEADER_BYTES) // row_bytes


def _reopened(path: Path, end: int) -> BinaryIO:
    """The file, to be written on from `end`; what is behind it goes."""
    stat = path.stat()
    if stat.st_size < end:
        raise ValueError(f"{path.name} has {stat.st_size} bytes, wanted at least {end}")
    if stat.st_nlink > 1:
        # It is an artifact too, which must stay as it is.
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        os.replace(copy, path)
    file = open(path, "r+b")  # noqa: SIM115 - closed by NpyWriter.close()
    file.truncate(end)
    file.seek(end)
    return file


def map_npy(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, mapped read-only and shared between processes; never unpickles.

    What `numpy.load` does, which compiles every header as Python anew: a segment has dozens of files, whose headers
    are mostly those of others. ValueError when it is not such a file, or a shorter one than its header says.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEADER_BYTES)
        long = npy.read_magic(BytesIO(head)) != (1, 0)
        begin = 12 + int.from_bytes(head[8:12], "little") if long else 10 + int.from_bytes(head[8:10], "little")
        if begin > len(head):
            head += file.read(begin - len(head))
        shape, fortran_order, dtype = _parsed(head[:begin])
        size = math.prod(shape) * dtype.itemsize
        # There is no map of no bytes.
        mapped = mmap.mmap(file.fileno(), begin + size, access=mmap.ACCESS_READ) if size else head
    return np.ndarray(shape, dtype, mapped, begin, order="F" if fortran_order else "C")


@lru_cache(1_024)
def _parsed(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = BytesIO(head)
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"got version {version} of the format, wanted 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("got an array of Python objects, which would be unpickled")
    return shape, fortran_order, dtype


def save_npy(path: Path, array: NDArray[Any]) -> None:
    """Write one whole array."""
    np.save(path, array, allow_pickle=False)
