"""`.npy` files written row by row, so that no array has to fit into memory.

The format is NumPy's own (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), version 1.0 with
its header padded to a fixed size: the shape is filled in when the last row has been written.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
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
    """The array of a `.npy` file, mapped read-only and shared between processes; never unpickles."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)  # a np.memmap makes each of its slices pay for being one


def save_npy(path: Path, array: NDArray[Any]) -> None:
    """Write one whole array."""
    np.save(path, array, allow_pickle=False)
