"""Files that numpy wrote are mapped as numpy maps them; others are refused, and nothing is unpickled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from vss.storage.npy import NpyWriter, map_npy, save_npy

ARRAYS = (
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=">i8").reshape(3, 4)),
    np.zeros((0, 7), np.float32),
    np.zeros((5, 0), np.uint8),
    np.array(3.5),
    np.arange(3)[:, None, None].astype(np.bool_),
    np.zeros(2, [("a", "<f4"), ("b", "S3")]),
    np.zeros(1, [(f"field{number}", "<f4") for number in range(40)]),  # its header is long
)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda one: f"{one.dtype.str}{one.shape}")
def test_what_was_saved_is_mapped(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy", array)
    (tmp_path / "two.npy").write_bytes(_second_version(array))
    for name in ("a.npy", "two.npy"):
        mapped = map_npy(tmp_path / name)
        wanted = np.load(tmp_path / name)
        assert (mapped.dtype, mapped.shape) == (wanted.dtype, wanted.shape)
        assert mapped.flags.f_contiguous == wanted.flags.f_contiguous
        assert mapped.flags.aligned
        assert not mapped.flags.writeable
        np.testing.assert_array_equal(mapped, wanted)


def _second_version(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, array, version=(2, 0))
    return file.getvalue()


def test_what_was_written_row_by_row_is_mapped(tmp_path: Path) -> None:
    with NpyWriter(tmp_path / "a.npy", np.int32, (2,)) as file:
        file.append(np.array([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("size", [0, 5, 9, 40, 127, 128, 1_000])
def test_a_part_of_a_file_is_refused(size: int, tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy", np.arange(200))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"magic|header|mmap"):
        map_npy(tmp_path / "a.npy")


def test_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match="unpickled"):
        map_npy(tmp_path / "a.npy")
