"""The names in a table's first line."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from ..checks import shortened


def check_names(path: Path, names: list[str]) -> None:
    """ValueError unless they are names, each of them once."""
    if all(finite_number(name) is not None for name in names):
        raise ValueError(f"{path} has numbers in its first line, expected the columns' names")
    if len(set(names)) < len(names):
        doubled = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path} has two columns named {shortened(doubled)}")


def check_inputs(path: Path, names: list[str]) -> None:
    """ValueError if pandas' index would be an input: in sorted rows it gives the targets away."""
    if "" in names:
        raise ValueError(
            f"{path}: a column has no name, like the index that pandas writes: leave it out with "
            "frame.to_csv(path, index=False), or name it in the first line"
        )


def separated_by_others(names: list[str]) -> str:
    """A remedy for a first line that is one name, with other separators in it."""
    others = len(names) == 1 and any(mark in names[0] for mark in ";\t|")
    return " (cells are separated by commas)" if others else ""


_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, or says so, in upper or lower case."""
    return cell.strip().lower() in _MISSING


def is_name(cell: str) -> bool:
    """Whether a cell is neither missing nor a number, finite or not."""
    try:
        float(cell)
    except ValueError:
        return not is_missing(cell)
    return False


def finite_number(cell: str) -> float | None:
    """The finite number in a cell, if it is one."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
