"""Samples from .npz, .npy, .csv and .parquet files, for the command line."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .blocks import open_data
from .checks import in_words, shortened
from .data import as_integers
from .readers import check_names, finite_number, load_npy, load_npz, parquet_size
from .registry import nearest


class Table(NamedTuple):
    """Features x (n, ...), and targets y (n,) or (n, outputs) if the file has them."""

    x: np.ndarray
    y: np.ndarray | None


BUDGET = 10**9  # bytes that a packed file becomes, unless somebody says more


def size(path: Path) -> int:
    """Bytes that a file's samples take: of Parquet its rows', else the file's own."""
    packed = path.suffix.lower() == ".parquet"
    return parquet_size(path) if packed else path.stat().st_size


def read(path: Path, target: str | None, *, labelled: bool = True, budget: int = BUDGET) -> Table:
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
    budget : int
        Bytes, for what is smaller in the file than in memory: a compressed .npz, and .parquet.

    Raises
    ------
    ValueError
        Another kind of file, a damaged one, no such column, or cells that are not numbers.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a .npz, .npy, .csv or .parquet file")
    readers: dict[str, Callable[[Path, str | None, bool, int], Table]] = {
        ".npz": _npz,
        ".npy": _npy,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"expected a .npz, .npy, .csv or .parquet file, got {path.name!r}")
    x, y = readers[path.suffix.lower()](path, target, labelled, budget)
    if labelled and y is None:
        raise ValueError(f"{path} has no targets: use a .npz with x and y, or a .csv")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(
            f"{path}: expected samples of shape (n, k) with a column at least, got {x.shape}"
        )
    if y is not None and (y.ndim < 1 or len(y) != len(x)):
        raise ValueError(f"{path}: expected as many targets as samples, {len(x)}, got {y.shape}")
    return Table(x, None if y is None else as_integers(y))


def _npy(path: Path, target: str | None, labelled: bool, budget: int) -> Table:
    if target is not None:
        raise ValueError(f"{path} has samples alone; --target is for .csv and .npz")
    return Table(load_npy(path), None)


def _npz(path: Path, target: str | None, labelled: bool, budget: int) -> Table:
    y = target or "y"
    needed, optional = (["x", y], []) if labelled or target else (["x"], [y])
    arrays = load_npz(path, needed, optional, budget)
    return Table(arrays["x"], arrays.get(y))


def _parquet(path: Path, target: str | None, labelled: bool, budget: int) -> Table:
    if target is None and labelled:
        raise ValueError(f"{path}: --target names the column of targets")
    if size(path) > budget:
        raise ValueError(
            f"{path} takes {in_words(size(path))} in memory, more than the budget of "
            f"{in_words(budget)}: a larger budget"
        )
    data = open_data(path, target=None if target is None else target.split(","), budget=budget)
    return Table(data.read(finite=False), data.y)


def _csv(path: Path, target: str | None, labelled: bool, budget: int) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
            return _rows(path, lines, target, labelled)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error


def _rows(
    path: Path, lines: Iterator[tuple[int, list[str]]], target: str | None, labelled: bool
) -> Table:
    """The table of some lines with their numbers, of which the first has the names."""
    names = [name.strip() for name in next(lines, (0, []))[1]]
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} has no rows below its line of names")
    check_names(path, names)
    wanted = [] if target is None else [name.strip() for name in target.split(",")]
    for name in wanted:
        if name not in names:
            raise ValueError(f"{path} has no column {name!r}{nearest(name, names)}")
    if target is None and labelled:
        wanted = names[-1:]
    chosen = [names.index(name) for name in wanted]
    cells = array("d")  # 8 bytes each, where a str has 50
    for number, row in chain([first], lines):
        if len(row) != len(names):
            raise ValueError(f"{path}, line {number}: expected {len(names)} cells, got {len(row)}")
        for column, cell in enumerate(row):
            value = finite_number(cell)
            if value is None:
                hint = " (number classes 0, 1, 2, ...)" if column in chosen else ""
                if len(names) == 1 and (";" in cell or "\t" in cell):
                    hint = " (cells are separated by commas)"
                empty = "the cell is empty: fill it, or leave the line out"
                shown = f"got {shortened(cell)}" if cell.strip() else empty
                raise ValueError(
                    f"{path}, line {number}, column {shortened(names[column])}: expected a "
                    f"number, {shown}{hint}"
                )
            cells.append(value)
    values = np.frombuffer(cells).reshape(-1, len(names))
    x = np.delete(values, chosen, axis=1)
    if not chosen:
        return Table(x, None)
    return Table(x, values[:, chosen])
