"""Samples from .npz, .npy, .csv and .parquet files, for the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .blocks import open_data
from .data import as_integers
from .readers import check_names, finite_number, load
from .registry import nearest


class Table(NamedTuple):
    """Features x (n, ...), and targets y (n,) or (n, outputs) if the file has them."""

    x: np.ndarray
    y: np.ndarray | None


def read(path: Path, target: str | None, *, labelled: bool = True) -> Table:
    """The samples in a file.

    Parameters
    ----------
    path : Path
        .npz with arrays ``x`` and ``y``; .npy with x alone; .csv with a line of names; .parquet.
    target : str, optional
        The array of targets, or the columns, with commas between them; by default ``y`` in .npz,
        the last column in .csv; .parquet needs it.
    labelled : bool
        Targets are needed. If not, they are left out of x only where `target` names them.

    Raises
    ------
    ValueError
        Another kind of file, a damaged one, no such column, or cells that are not numbers.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a .npz, .npy, .csv or .parquet file")
    readers: dict[str, Callable[[Path, str | None, bool], Table]] = {
        ".npz": _npz,
        ".npy": _npy,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"expected a .npz, .npy, .csv or .parquet file, got {path.name!r}")
    x, y = readers[path.suffix.lower()](path, target, labelled)
    if labelled and y is None:
        raise ValueError(f"{path} has no targets: use a .npz with x and y, or a .csv")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(
            f"{path}: expected samples of shape (n, k) with a column at least, got {x.shape}"
        )
    if y is not None and (y.ndim < 1 or len(y) != len(x)):
        raise ValueError(f"{path}: expected as many targets as samples, {len(x)}, got {y.shape}")
    return Table(x, None if y is None else as_integers(y))


def _npy(path: Path, target: str | None, labelled: bool) -> Table:
    if target is not None:
        raise ValueError(f"{path} has samples alone; --target is for .csv and .npz")
    return Table(load(path)["x"], None)


def _npz(path: Path, target: str | None, labelled: bool) -> Table:
    arrays = load(path)
    for name in ("x", target or "y") if labelled or target else ("x",):
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}{nearest(name, list(arrays))}")
    return Table(arrays["x"], arrays.get(target or "y"))


def _parquet(path: Path, target: str | None, labelled: bool) -> Table:
    if target is None and labelled:
        raise ValueError(f"{path}: --target names the column of targets")
    data = open_data(path, target=None if target is None else target.split(","))
    return Table(data.read(finite=False), data.y)


def _csv(path: Path, target: str | None, labelled: bool) -> Table:
    names, lines = _lines(path)
    wanted = [] if target is None else [name.strip() for name in target.split(",")]
    for name in wanted:
        if name not in names:
            raise ValueError(f"{path} has no column {name!r}{nearest(name, names)}")
    if target is None and labelled:
        wanted = names[-1:]
    chosen = [names.index(name) for name in wanted]
    values = np.empty((len(lines), len(names)))
    for index, (number, row) in enumerate(lines):
        if len(row) != len(names):
            raise ValueError(f"{path}, line {number}: expected {len(names)} cells, got {len(row)}")
        for column, cell in enumerate(row):
            value = finite_number(cell)
            if value is None:
                classes = " (number classes 0, 1, 2, ...)" if column in chosen else ""
                shown = f"got {cell!r}" if cell.strip() else "the cell is empty: fill it, or leave"
                end = "" if cell.strip() else " the line out"
                raise ValueError(
                    f"{path}, line {number}, column {names[column]!r}: expected a number, "
                    f"{shown}{end}{classes}"
                )
            values[index, column] = value
    x = np.delete(values, chosen, axis=1)
    if not chosen:
        return Table(x, None)
    return Table(x, values[:, chosen])


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names, and each line that is not blank with its number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"{path} has no rows below its line of names")
    names = [name.strip() for name in rows[0][1]]
    check_names(path, names)
    return names, rows[1:]
