"""Samples from .npz, .npy, .csv and .parquet files, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..categories import Classes
from ..checks import over_budget
from ..data.arrays import as_integers
from ..data.blocks import open_table
from ..data.readers import (
    CSV,
    Dialect,
    Features,
    TableReader,
    as_csv,
    load_npy,
    load_npz,
    parquet_size,
    parquet_text,
)
from ..data.values import first_not_finite, place
from ..names import Names
from . import csv_rows
from .columns import check_size, column_names, target_names
from .dialect import COMMAS
from .missing import OPTION, note_unknown


class Table(NamedTuple):
    """Features x (n, ...), and targets y (n,) or (n, outputs) if the file has them; its names."""

    x: np.ndarray
    y: np.ndarray | None
    names: Names | None = None


class Asked(NamedTuple):
    """The arguments of `read`."""

    target: str | None
    labelled: bool
    budget: int
    features: Features
    classes: Classes
    dialect: Dialect


BUDGET = 10**9  # bytes that a packed file may become by default
ALL = Features()


def size(path: Path) -> int:
    """Bytes that a file's samples take: for Parquet its rows', else the file's own."""
    packed = path.suffix.lower() == ".parquet"
    return parquet_size(path) if packed else path.stat().st_size


def check_file(path: Path) -> None:
    """ValueError if it is not there, or of no kind that is read here."""
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a .npz, .npy, .csv or .parquet file")
    if path.suffix.lower() not in KINDS:
        hint = as_csv(path, COMMAS)
        raise ValueError(f"expected a .npz, .npy, .csv or .parquet file, got {path.name!r}{hint}")


def read(
    path: Path,
    target: str | None,
    *,
    labelled: bool = True,
    budget: int = BUDGET,
    features: Features = ALL,
    classes: Sequence[str] | None = None,
    dialect: Dialect = COMMAS,
) -> Table:
    """The samples in a file.

    Parameters
    ----------
    path : Path
        .npz with arrays ``x`` and ``y``; .npy with x alone; .csv with a line of names; .parquet.
    target : str, optional
        The array of targets, or the columns, with commas between them; by default ``y`` in .npz,
        the last column in .csv; .parquet needs it.
    labelled : bool
        Whether targets are needed. If not, they are left out of x only if `target` names them.
    budget : int
        Bytes, for what is smaller in the file than in memory: a compressed .npz, and .parquet.
    features : Features
        What x is in a table, by default all columns that are not targets, of numbers. Arrays have
        no names, and need none.
    classes : list of str, optional
        The names in a column of targets that is text, in the order of their numbers; by default
        those found there, in sorted order.
    dialect : Dialect
        Of a .csv.

    Raises
    ------
    ValueError
        Another kind of file, a damaged one, no such column, or cells that are not numbers.
    """
    if target is not None and not target.strip():
        raise ValueError("--target is empty, expected the name of a column, or of an array")
    check_file(path)
    asked = Asked(target, labelled, budget, features, Classes(classes), dialect)
    x, y, names = KINDS[path.suffix.lower()](path, asked)
    if labelled and y is None:
        raise ValueError(f"{path} has no targets: use a .npz with x and y, a .csv or a .parquet")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(
            f"{path}: expected samples of shape (n, k) with at least one column, got {x.shape}"
        )
    if y is not None and (y.ndim < 1 or len(y) != len(x)):
        raise ValueError(f"{path}: expected as many targets as samples, {len(x)}, got {y.shape}")
    if y is not None and (y.ndim > 2 or 0 in y.shape):
        raise ValueError(f"{path}: expected targets of shape (n,) or (n, k), got {y.shape}")
    of_x, of_y = names[:2] if names else (None, None)
    # Before rows are drawn at random.
    for what, numbers, called in (("x", x, of_x), ("the targets", y, of_y)):
        if numbers is None:
            continue
        allowed = what == "x" and features.missing and np.isnan(numbers)
        row = first_not_finite(np.where(allowed, 0, numbers) if np.any(allowed) else numbers)
        if row is not None:
            nan = what == "x" and np.isnan(numbers[row]).any()
            hint = f", or pass {OPTION}" * bool(nan)
            raise ValueError(
                f"{path}: NaN or infinity in {what}, first in {place(numbers, row, called)}: "
                f"fill it, or leave the row out{hint}"
            )
    return Table(x, None if y is None else as_integers(y), names)


def _npy(path: Path, asked: Asked) -> Table:
    if asked.target is not None:
        raise ValueError(f"{path} has only samples; --target is for .csv, .parquet and .npz")
    return Table(load_npy(path), None)


def _npz(path: Path, asked: Asked) -> Table:
    y = asked.target or "y"
    if y == "x":
        raise ValueError(f"{path}: x are the samples, and --target names another array")
    needed, optional = (["x", y], []) if asked.labelled or asked.target else (["x"], [y])
    arrays = load_npz(path, needed, optional, asked.budget)
    return Table(arrays["x"], arrays.get(y))


def _parquet(path: Path, asked: Asked) -> Table:
    target, labelled, budget, features, classes, dialect = asked
    if target is None and labelled:
        raise ValueError(f"{path}: name the column of targets with --target")
    if size(path) > budget:
        raise ValueError(f"{path} takes {over_budget(size(path), budget)}: pass a larger --budget")
    targets = target_names(path, target, features.names, column_names(path, dialect))
    data = open_table(
        [path], dialect, budget, targets=targets, features=features, classes=classes.known
    )
    assert isinstance(data.reader, TableReader)
    check_size(path, data.n, data.reader.inputs, budget)
    x = data.read(finite=False)
    note_unknown(path, data.reader.inputs)
    return Table(x, data.y, data.names)


def _csv(path: Path, asked: Asked) -> Table:
    return Table(*csv_rows.read(path, *asked))


KINDS: dict[str, Callable[[Path, Asked], Table]] = {
    ".npz": _npz, ".npy": _npy, ".parquet": _parquet, **dict.fromkeys(CSV, _csv)
}  # fmt: skip


def text_of(path: Path, columns: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """What a table has in these columns, row by row."""
    if path.suffix.lower() == ".parquet":
        return parquet_text(path, columns)
    with csv_rows.lines_of(path, dialect) as lines:
        names = [name.strip() for name in next(lines)[1]]
        places = [names.index(name) for name in columns]
        return [[row[place] for place in places] for _, row in lines]
