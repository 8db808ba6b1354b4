"""Samples from .npz, .npy, .csv and .parquet files, for the command line.

A .csv is read here by Python's own reader, so that the command line needs no pyarrow, and its
messages name lines; `readers` reads one in blocks.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checks import in_words, shortened
from ..data.arrays import as_integers
from ..data.blocks import open_table
from ..data.readers import (
    Classes,
    Dialect,
    advice,
    check_first_line,
    check_inputs,
    check_known,
    check_names,
    load_npy,
    load_npz,
    not_csv,
    parquet_size,
    parquet_text,
    separated_by_others,
)
from ..data.values import first_not_finite, place
from ..names import Names
from .columns import column_names, target_names
from .dialect import COMMAS, as_csv


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
    columns: Sequence[str] | None
    classes: Classes
    dialect: Dialect


BUDGET = 10**9  # bytes that a packed file may become by default


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
    kind = path.suffix.lower()
    if kind not in KINDS:
        hint = as_csv(path)
        if kind in (".gz", ".bz2", ".xz", ".zst", ".zip"):
            hint = ": unpack it first; .parquet is packed, and is read as it is"
        raise ValueError(f"expected a .npz, .npy, .csv or .parquet file, got {path.name!r}{hint}")


def read(
    path: Path,
    target: str | None,
    *,
    labelled: bool = True,
    budget: int = BUDGET,
    columns: Sequence[str] | None = None,
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
    columns : list of str, optional
        Those of a table that are x, in this order; by default all that are not targets. Arrays
        have no names, and need none.
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
    asked = Asked(target, labelled, budget, columns, Classes(classes), dialect)
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
        row = None if numbers is None else first_not_finite(numbers)
        if row is not None:
            raise ValueError(
                f"{path}: NaN or infinity in {what}, first in {place(numbers, row, called)}: "
                "fill it, or leave the row out"
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
    target, labelled, budget, columns, classes, dialect = asked
    if target is None and labelled:
        raise ValueError(f"{path}: name the column of targets with --target")
    if size(path) > budget:
        raise ValueError(
            f"{path} takes {in_words(size(path))} in memory, more than the budget of "
            f"{in_words(budget)}: pass a larger budget"
        )
    targets = target_names(path, target, columns, column_names(path, dialect))
    data = open_table(
        [path], dialect, budget, targets=targets, columns=columns, classes=classes.known
    )
    return Table(data.read(finite=False), data.y, data.names)


def _csv(path: Path, asked: Asked) -> Table:
    with _lines(path, asked.dialect) as lines:
        return _rows(path, lines, asked)


@contextmanager
def _lines(path: Path, dialect: Dialect) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The cells of a .csv's lines that are not empty, with their numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, delimiter=dialect.separator)
            yield ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise not_csv(path, error) from error


KINDS: dict[str, Callable[[Path, Asked], Table]] = {
    ".npz": _npz, ".npy": _npy, ".csv": _csv, ".parquet": _parquet
}  # fmt: skip


def text_of(path: Path, columns: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """What a table has in these columns, row by row."""
    if path.suffix.lower() == ".parquet":
        return parquet_text(path, columns)
    with _lines(path, dialect) as lines:
        names = [name.strip() for name in next(lines)[1]]
        places = [names.index(name) for name in columns]
        return [[row[place] for place in places] for _, row in lines]


def _rows(path: Path, lines: Iterator[tuple[int, list[str]]], asked: Asked) -> Table:
    """The table from lines with their numbers, the first of which has the names."""
    target, labelled, _, columns, classes, dialect = asked
    names = [name.strip() for name in next(lines, (0, []))[1]]
    check_first_line(path, names, columns, dialect)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} has no rows below its line of names")
    check_names(path, names)
    if target is None and labelled:
        target = names[-1]
    wanted = target_names(path, target, columns, names)
    inputs = [name for name in columns or names if name not in wanted]
    check_known(path, [*wanted, *inputs], names, dialect)
    if not columns:
        check_inputs(path, inputs, dialect)
    if not inputs:
        raise ValueError(
            f"{path} has no column left for x besides the targets, {', '.join(wanted)}"
            f"{separated_by_others(names, dialect)}"
        )
    places = {name: place for place, name in enumerate(names)}  # there may be many thousands
    read = wanted if labelled else []
    used = [(places[name], dialect.quantity) for name in [*inputs, *read]]
    last = used[-1][0]
    text = len(read) == 1 and len(first[1]) > last and classes.begin(first[1][last], dialect)
    if text:
        used[-1] = last, classes.number
    values = _cells(path, names, chain([first], lines), used, dialect)
    if not read:
        return Table(values, None, Names(tuple(inputs), tuple(wanted)))
    x, y = (part.copy() for part in np.split(values, [len(inputs)], axis=1))
    y, known = classes.in_order(y[:, 0].astype(np.int64)) if text else (y, None)
    check_first_line(path, names, columns, dialect, known or ())
    return Table(x, y, Names(tuple(inputs), tuple(wanted), known))


def _cells(
    path: Path,
    names: Sequence[str],
    lines: Iterator[tuple[int, list[str]]],
    used: Sequence[tuple[int, Callable[[str], float | None]]],
    dialect: Dialect,
) -> np.ndarray:
    """The numbers that these functions find in the columns of these places, (rows, columns)."""
    other = separated_by_others(names, dialect)
    cells = array("d")  # 8 bytes each, where a str has 50
    for line, row in lines:
        if len(row) != len(names):
            raise ValueError(
                f"{path}, line {line}: expected {len(names)} cells, got {len(row)}{other}"
            )
        try:
            for column, number in used:
                value = number(row[column])
                if value is None or not isfinite(value):
                    raise _no_number(row[column], names[column], dialect)
                cells.append(value)
        except ValueError as error:
            name = shortened(names[column])
            raise ValueError(f"{path}, line {line}, column {name}: {error}{other}") from None
    return np.frombuffer(cells).reshape(-1, len(used))


def _no_number(cell: str, column: str, dialect: Dialect) -> ValueError:
    shown = f"got {shortened(cell)}" if cell.strip() else "the cell is empty"
    return ValueError(f"expected a number, {shown}{advice(cell, column, dialect)}")
