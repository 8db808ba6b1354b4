"""Rows of files, and of arrays on disk, read a block at a time into given buffers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...backends import is_sparse, of
from ...backends._conversion import refuse
from ...checks import over_budget
from ._advice import (
    advice,
    as_csv,
    is_category,
    not_csv,
    numbers_as_text,
    odd_word,
    to_numbers,
    without_values,
)
from ._arrays import Slices, mapped
from ._base import CellError, NoRows, Read, Reader
from ._csv import Csv, csv_names
from ._dialect import CSV, USUAL, Dialect, is_csv
from ._inputs import AHEAD, Features, Inputs, inputs_of
from ._joined import Joined, JoinedTables, number_classes
from ._names import (
    check_first_line,
    check_inputs,
    check_known,
    check_names,
    separated_by_others,
)
from ._numpy_files import load_npy, load_npz, member, npy
from ._parquet import Parquet, parquet_names, parquet_size, parquet_text
from ._tables import Asked, TableReader

__all__ = [
    "AHEAD",
    "CSV",
    "KINDS",
    "TABLES",
    "USUAL",
    "Asked",
    "CellError",
    "Dialect",
    "Features",
    "Inputs",
    "Read",
    "Reader",
    "TableReader",
    "advice",
    "as_csv",
    "check_first_line",
    "check_inputs",
    "check_known",
    "check_names",
    "csv_names",
    "inputs_of",
    "is_category",
    "is_csv",
    "kind_of",
    "load_npy",
    "load_npz",
    "mapped",
    "not_csv",
    "numbers_as_text",
    "odd_word",
    "parquet_names",
    "parquet_size",
    "parquet_text",
    "parts_of",
    "reader",
    "separated_by_others",
    "suffix",
    "table",
    "to_numbers",
    "without_values",
]  # fmt: skip

TABLES: dict[str, Callable[..., TableReader]] = {
    ".parquet": Parquet,
    **dict.fromkeys(CSV, Csv),
}
R = TypeVar("R", bound=Reader)
KINDS = ".npy", ".npz", *TABLES


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
    if path.is_dir() and found != ".zarr":
        raise ValueError(f"{path} is a folder, which open_data takes alone, not in a list")
    if not found and not path.exists():
        raise ValueError(f"there is no file or folder {path}")
    if found not in KINDS:
        arrays = "; for HDF5 and Zarr pass the array itself, such as h5py.File(path)['x']"
        raise ValueError(
            f"expected a .npy, .npz, .parquet or .csv file, got {path.name!r}"
            f"{as_csv(path, Dialect()) or arrays}"
        )
    if not path.is_file():
        hint = f": pass sorted(glob.glob({str(x)!r}))" if set("*?[") & set(path.name) else ""
        raise ValueError(f"there is no file {path}{hint}")
    return found


def parts_of(x: Any) -> list[Any]:
    """Those of a list, the files in a folder in the order of their names, or `x` alone.

    In a folder subfolders are passed over, and names that begin with a point or an underscore; a
    .tsv or .tab too, if there is anything else, since it may describe the columns.

    Raises
    ------
    ValueError
        There are none.
    """
    if isinstance(x, list | tuple):
        if not x:
            raise ValueError("expected a path, or several, got an empty list")
        return [*x]
    if not isinstance(x, str | os.PathLike) or not Path(x).is_dir() or Path(x).suffix == ".zarr":
        return [x]
    names = sorted(path for path in Path(x).iterdir() if path.name[0] not in "._")
    files = [path for path in names if path.suffix.lower() in KINDS]
    found: list[Any] = [path for path in files if path.suffix.lower() not in (".tsv", ".tab")]
    if not (found := found or files):
        raise ValueError(f"the folder {x} has no .npy, .npz, .parquet or .csv files")
    return found


def kind_of(parts: Sequence[Any]) -> str:
    """The `suffix` that all parts have; ValueError if they have several."""
    kinds = sorted({suffix(part) for part in parts})
    if len(kinds) > 1:
        raise ValueError(
            f"expected files of one kind, got {' and '.join(kind or 'arrays' for kind in kinds)}"
        )
    return kinds[0]


def table(paths: Sequence[Any], asked: Asked) -> TableReader | JoinedTables:
    """What reads rows of .parquet or .csv files with the same columns; see `TableReader`."""
    parts = _with_rows(paths, lambda path: TABLES[suffix(path)](Path(path), asked))
    first = parts[0]
    for part in parts:
        other = {*part.columns} ^ {*first.columns}
        if other := other | ({*part.inputs.columns} ^ {*first.inputs.columns}):
            raise ValueError(
                f"{part.name} and {first.name} have different columns, such as {min(other)!r}: "
                "name those of x with columns="
            )
        part.inputs = first.inputs  # in the same order
    size = sum(8 * part.shape[0] * len(asked.held) for part in parts)
    if len(parts) > 1 and size > asked.budget:
        raise ValueError(
            f"{', '.join(asked.held)} of {len(parts)} files take "
            f"{over_budget(size, asked.budget)}: pass a larger budget"
        )
    found = first if len(parts) == 1 else JoinedTables(parts)
    number_classes(found, asked.text)
    return found


def _with_rows(parts: Sequence[Any], opened: Callable[[Any], R]) -> list[R]:
    """Readers of those that have rows; NoRows if none has."""
    found: list[R] = []
    for part in parts:
        try:
            found.append(opened(part))
        except NoRows:  # as some of many files that are written in parallel
            if part is parts[-1] and not found:
                raise
    return found


def reader(x: Any) -> Reader:
    """What reads rows of `parts_of` x: .npy files, ``x`` in .npz, what has shape and slices."""
    parts = _with_rows(parts_of(x), _reader)
    return parts[0] if len(parts) == 1 else Joined(parts)


def _reader(x: Any) -> Reader:
    kind = suffix(x)
    if kind:
        return npy(Path(x)) if kind == ".npy" else member(Path(x), "x")
    if not hasattr(x, "shape") or not hasattr(x, "__getitem__"):
        raise TypeError(f"expected a path, or an array with shape and slices, got {x!r}")
    _refuse_in_memory(x)
    return mapped(x) or Slices(x)


def _refuse_in_memory(x: Any) -> None:
    """TypeError for arrays that need no reading, or have masked elements."""
    library = of(x)
    if is_sparse(x) or (library is not None and library.name != "numpy"):
        raise TypeError(
            f"expected a path, or an array whose slices are NumPy's, got a {type(x).__name__}, "
            "which is in memory: pass it to fit itself, as net.fit(x, y)"
        )
    refuse(x, "x", "numpy")
