"""Rows of files, and of arrays on disk, read a block at a time into given buffers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._arrays import Slices, mapped
from ._base import MissingValue, Read, Reader
from ._classes import Classes
from ._names import (
    check_first_line,
    check_inputs,
    check_names,
    is_missing,
    number,
    separated_by_others,
)
from ._numpy_files import load_npy, load_npz, member, npy
from ._tables import Csv, Parquet, TableReader, parquet_size

__all__ = ["TABLES", "Classes", "MissingValue", "Read", "Reader", "check_first_line",
           "check_inputs", "check_names", "is_missing", "load_npy", "load_npz", "mapped", "number",
           "parquet_size", "reader", "separated_by_others", "suffix"]  # fmt: skip

TABLES: dict[str, Callable[..., TableReader]] = {".parquet": Parquet, ".csv": Csv}


def suffix(x: Any) -> str:
    """How the name of a file ends, in lower case; empty if `x` is not a path.

    Raises
    ------
    ValueError
        There is no such file, or no such kind of file.
    """
    if not isinstance(x, str | os.PathLike):
        return ""
    path = Path(x)
    found = path.suffix.lower()
    if found not in (".npy", ".npz", *TABLES):
        raise ValueError(
            f"expected a .npy, .npz, .parquet or .csv file, got {path.name!r}; for HDF5 and Zarr "
            "pass the array itself, such as h5py.File(path)['x']"
        )
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return found


def reader(x: Any) -> Reader:
    """What reads rows of a .npy file, of ``x`` in a .npz, or of anything with shape and slices."""
    kind = suffix(x)
    if kind:
        return npy(Path(x)) if kind == ".npy" else member(Path(x), "x")
    if not hasattr(x, "shape") or not hasattr(x, "__getitem__"):
        raise TypeError(f"expected a path, or an array with shape and slices, got {x!r}")
    return mapped(x) or Slices(x)
