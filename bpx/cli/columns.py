"""Which columns of a table are x, and which are the targets, by options of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..categories import source
from ..checks import over_budget, shortened
from ..data.readers import (
    TABLES,
    Dialect,
    Inputs,
    check_first_line,
    check_inputs,
    check_known,
    check_names,
    csv_names,
    is_csv,
    parquet_names,
)


def column_names(path: Path, dialect: Dialect, hidden: bool = False) -> list[str]:
    """The names of a table's columns; with those that are pandas' index if `hidden`."""
    return csv_names(path, dialect) if is_csv(path) else parquet_names(path, hidden)


def input_names(
    path: Path,
    target: str | None,
    columns: Sequence[str],
    ignored: Sequence[str],
    dialect: Dialect,
) -> list[str] | None:
    """The names of those that are x; None if neither option says it: all but the targets.

    Parameters
    ----------
    path : Path
    target, columns, ignored : str and sequences of str
        --target, and each --columns and --ignore.
    dialect : Dialect

    Raises
    ------
    ValueError
        Both options, a file without columns, no such column, or none left.
    """
    if not columns and not ignored:
        return None
    if columns and ignored:
        raise ValueError("--columns and --ignore both say which columns are x: pass one of them")
    option, given = ("--columns", columns) if columns else ("--ignore", ignored)
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"{option} is for columns of a .csv or .parquet file, got {path}")
    names = column_names(path, dialect)
    if ignored:
        check_names(path, names)
        if is_csv(path):
            check_first_line(path, names, None, dialect)
    found = _named(option, given, names)
    learned = names[-1:] if is_csv(path) else []
    if target is not None:
        learned = _named("--target", [target], names)
    for name in learned:
        if name in found:
            raise ValueError(f"{path}: {option} names {name!r}, the target: name another --target")
    if columns:
        return found
    check_known(path, found, names, dialect)
    return _without(path, names, {*found, *learned}, dialect)


def _without(path: Path, names: Sequence[str], others: set[str], dialect: Dialect) -> list[str]:
    left = [name for name in names if name not in others]
    check_inputs(path, left, dialect)
    if not left:
        raise ValueError(f"{path} has no column left for x besides {', '.join(sorted(others))}")
    return left


def kept_names(path: Path, kept: Sequence[str], dialect: Dialect) -> list[str]:
    """Those of a table that each --keep names, to be written beside the predictions.

    ValueError for a file without columns, or no such column.
    """
    if kept and path.suffix.lower() not in TABLES:
        raise ValueError(f"--keep is for columns of a .csv or .parquet file, got {path}")
    names = column_names(path, dialect, hidden=True) if kept else []
    found = _named("--keep", kept, names)
    check_known(path, found, names, dialect)
    return found


def target_names(
    path: Path, target: str | None, columns: Sequence[str] | None, names: Sequence[str]
) -> list[str]:
    """Those of a table with these names, none of which is among the `columns` of x."""
    found = [] if target is None else _named("--target", [target], names)
    known = set(names)
    inputs = {source(name, known)[0] for name in columns or ()}
    for name in found:
        if name in inputs:
            raise ValueError(
                f"{path}: {name!r} is an input of this network: --target names the targets' column"
            )
    return found


def check_size(path: Path, rows: int, inputs: Inputs, budget: int) -> None:
    """ValueError if the inputs for categories make x larger than the budget."""
    k = len(inputs.names)
    if 8 * rows * (k - len(inputs.columns)) > budget:
        most = max(inputs.text, key=lambda name: len(inputs.text[name].names))
        raise ValueError(
            f"{path}: x takes {over_budget(8 * rows * k, budget)}, as each value in a column of "
            f"text is an input: pass a larger --budget, or leave out {shortened(most)}, which has "
            "the most"
        )


def _named(option: str, given: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that an option names, one after another or with commas between them.

    A comma inside a column's name does not separate. ValueError if one is there twice.
    """
    found: list[str] = []
    for text in given:
        parts = [text] if text in names else [name.strip() for name in text.split(",")]
        for name in parts:
            if name in found:
                raise ValueError(f"{option} names the column {name!r} more than once")
            found.append(name)
    return found
