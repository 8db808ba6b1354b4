"""Samples from .npz, .npy and .csv files, for the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .registry import nearest


class Table(NamedTuple):
    """Features x (n, k), and targets y (n,) or (n, outputs) if the file has them."""

    x: np.ndarray
    y: np.ndarray | None


def read(path: Path, target: str | None, *, labelled: bool = True) -> Table:
    """The samples in a file.

    Parameters
    ----------
    path : Path
        .npz with arrays ``x`` and ``y``; .npy with x alone; .csv with a line of names.
    target : str, optional
        The array or column of targets; by default ``y`` in .npz, the last column in .csv.
    labelled : bool
        Targets are needed. If not, they are left out of x only where `target` names them.

    Raises
    ------
    ValueError
        Another kind of file, no such column, or cells that are not numbers.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    readers = {".npz": _npz, ".npy": _npy, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise ValueError(f"expected a .npz, .npy or .csv file, got {path.name!r}")
    table = readers[path.suffix.lower()](path, target, labelled)
    if labelled and table.y is None:
        raise ValueError(f"{path} has no targets: use a .npz with x and y, or a .csv")
    return table


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"x": found}
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged or holds objects: {error}") from error


def _npy(path: Path, target: str | None, labelled: bool) -> Table:
    return Table(_load(path)["x"], None)


def _npz(path: Path, target: str | None, labelled: bool) -> Table:
    arrays = _load(path)
    for name in ("x", target or "y") if labelled else ("x",):
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}{nearest(name, list(arrays))}")
    return Table(arrays["x"], arrays.get(target or "y"))


def _csv(path: Path, target: str | None, labelled: bool) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2:
        raise ValueError(f"{path} has no rows below its line of names")
    names = [name.strip() for name in rows[0]]
    if target is not None and target not in names:
        raise ValueError(f"{path} has no column {target!r}{nearest(target, names)}")
    values = np.empty((len(rows) - 1, len(names)))
    for index, row in enumerate(rows[1:]):
        if len(row) != len(names):
            raise ValueError(
                f"{path}, line {index + 2}: expected {len(names)} cells, got {len(row)}"
            )
        for column, cell in enumerate(row):
            try:
                values[index, column] = float(cell)
            except ValueError:
                raise ValueError(
                    f"{path}, line {index + 2}, column {names[column]!r}: expected a number, got "
                    f"{cell!r} (number classes 0, 1, 2, ...)"
                ) from None
    if target is None and not labelled:
        return Table(values, None)
    chosen = names.index(target) if target is not None else len(names) - 1
    y = values[:, chosen]
    if np.isfinite(y).all() and (y == np.round(y)).all():
        y = y.astype(np.int64)
    return Table(np.delete(values, chosen, axis=1), y)
