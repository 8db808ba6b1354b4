"""The names in a table's first line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...categories import or_its_source
from ...checks import shortened
from ...registry import nearest
from ._dialect import SEPARATORS, Dialect, is_csv


def check_first_line(
    path: Path,
    names: Sequence[str],
    columns: Sequence[str] | None,
    dialect: Dialect,
    classes: Sequence[str] = (),
) -> None:
    """ValueError if the first line of a CSV file is a row, which would be lost, or not there.

    It is a row if it has nothing but numbers and `classes`, those of the rows below, unless these
    are known as names by the `columns` that are asked for.
    """
    if not names:
        raise ValueError(f"{path} is empty, expected a line of names and rows below it")
    if columns and set(columns) <= set(names):
        return
    if not any(dialect.is_word(name) and name not in classes for name in names):
        shown = ", ".join([*map(shortened, names[:3]), *(["..."] if names[3:] else [])])
        raise ValueError(
            f"{path}: expected the columns' names in the first line, got "
            f"{shown}, as in a row: put a line of names above it, or, if these are names, begin "
            "each with a letter (pandas: frame.add_prefix('x').to_csv(path, index=False))"
        )


def check_names(path: Path, names: Sequence[str]) -> None:
    """ValueError if a name is there twice."""
    if len(set(names)) < len(names):
        doubled = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(
            f"{path} has two columns named {shortened(doubled)}: give each a name of its own (a "
            ".csv has them in its first line)"
        )


def check_known(path: Path, asked: Iterable[str], names: Sequence[str], dialect: Dialect) -> None:
    """ValueError if a column that is asked for is not there."""
    known = set(names)  # there may be many thousands
    for name in asked:
        if name not in known:
            other = separated_by_others(names, dialect) or _names_like_a_row(path, names, dialect)
            known_as = f"{name!r}{or_its_source(name)}"
            raise ValueError(f"{path} has no column {known_as}{nearest(name, [*names])}{other}")


def check_inputs(path: Path, names: list[str], dialect: Dialect) -> None:
    """ValueError if pandas' index would be an input: in sorted rows it gives the targets away."""
    if "" in names:
        raise ValueError(
            f"{path}: a column has no name, like the index that pandas writes: leave it out with "
            f"frame.to_csv(path, index=False) or {dialect.without('')}, or name it in the first "
            "line"
        )


def _names_like_a_row(path: Path, names: Sequence[str], dialect: Dialect) -> str:
    """A remedy for a first line that has mostly numbers, beside a text that may be a class."""
    words = sum(map(dialect.is_name, names))
    if not is_csv(path) or 2 * words > len(names):
        return ""
    return " (if its first line is a row, put a line of names above it)"


def separated_by_others(names: Sequence[str], dialect: Dialect) -> str:
    """A remedy for a first line that another mark would divide into more names."""
    text = "".join(names)
    # A name in a line with other marks between names may well have commas.
    others = SEPARATORS if len(names) == 1 else SEPARATORS.replace(",", "")
    mark = max(others.replace(dialect.separator, ""), key=text.count)
    if text.count(mark) < max(1, len(names)):
        return ""
    return f" (its cells look separated by {mark!r}: {dialect.argument('separator', mark)})"
