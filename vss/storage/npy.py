"""`.npy` files written row by row, so that no array has to fit into memory.

The format is NumPy's own (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), version 1.0 with
its header padded to a fixed size: the shape is filled in when the last row has been written.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_HEADER_BYTES = 192


class NpyWriter:
    """Appends blocks of rows to one `.npy` file of a fixed dtype and row shape."""

    def __init__(self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.rows = 0
        self._file = open(path, "xb")  # noqa: SIM115 - closed by close()
        self._file.write(b"\0" * _HEADER_BYTES)

    def append(self, block: NDArray[Any]) -> None:
        """Write `(n, *row_shape)` values; they are converted to the file's dtype."""
        block = np.ascontiguousarray(block, dtype=self.dtype)
        if block.shape[1:] != self.row_shape:
            raise ValueError(f"got rows of shape {block.shape[1:]}, wanted {self.row_shape}")
        self._file.write(block.data if block.size else b"")
        self.rows += block.shape[0]

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


def map_npy(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, mapped read-only and shared between processes; never unpickles."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)  # a np.memmap makes each of its slices pay for being one


def save_npy(path: Path, array: NDArray[Any]) -> None:
    """Write one whole array."""
    np.save(path, array, allow_pickle=False)
