"""The rows of a .csv, by Python's own reader: without pyarrow, and its messages name lines."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from math import isfinite, isnan, nan
from pathlib import Path

import numpy as np

from ..categories import Classes, is_missing
from ..checks import shortened
from ..data.readers import (
    AHEAD,
    Dialect,
    Features,
    Inputs,
    advice,
    check_first_line,
    check_inputs,
    check_names,
    inputs_of,
    not_csv,
    separated_by_others,
    without_values,
)
from ..names import Names
from .columns import check_size, target_names
from .console import note
from .missing import note_unknown

LOOKED_AT = 100_000  # cells, for codes
Line = tuple[int, list[str]]  # its number, and its cells
Number = Callable[[str], float | None]


@contextmanager
def lines_of(path: Path, dialect: Dialect) -> Iterator[Iterator[Line]]:
    """The lines of a .csv that are not empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, delimiter=dialect.separator)
            yield ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise not_csv(path, error) from error


def read(
    path: Path,
    target: str | None,
    labelled: bool,
    budget: int,
    features: Features,
    classes: Classes,
    dialect: Dialect,
) -> tuple[np.ndarray, np.ndarray | None, Names]:
    """x, y if the targets are asked for, and names; for the arguments see `tables.read`."""
    with lines_of(path, dialect) as lines:
        names = [name.strip() for name in next(lines, (0, []))[1]]
        check_first_line(path, names, features.names, dialect)
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{path} has no rows below its line of names")
        check_names(path, names)
        if target is None and labelled:
            target = names[-1]
        targets = target_names(path, target, features.names, names)
        inputs = _inputs(path, names, targets, features, dialect)
        lines, places = chain([first], lines), {name: k for k, name in enumerate(names)}
        odd: list[str] = []
        if features.encode:
            lines, odd = _with_categories(inputs, names, lines, dialect)
        learned = targets if labelled else []
        text = _are_classes(first[1], learned, places, classes, dialect)
        of_y: list[Number] = [classes.number if text else dialect.quantity] * len(learned)
        columns = [*inputs.columns, *learned]
        numbers = [*_numbers(inputs, features.missing, dialect), *of_y]
        used = [*zip(map(places.__getitem__, columns), numbers, strict=True)]
        k = len(inputs.columns)
        try:
            values = _cells(path, names, lines, used, k, features.missing, dialect)
        except _NoInput as error:
            hint = _besides(error, odd, inputs, places, lines, dialect)
            raise ValueError(f"{error}{hint}") from None
    note_unknown(path, inputs)
    if features.encode:
        inputs.settle(len(values), dialect)
    check_size(path, len(values), inputs, budget)
    x = np.empty((len(values), len(inputs.names)))
    inputs.fill(x, dict(zip(inputs.columns, values.T[:k], strict=True)).__getitem__)
    known = None
    y = values[:, k:].copy() if labelled else None
    if y is not None and text:
        y, known = classes.in_order(y[:, 0].astype(np.int64))
    check_first_line(path, names, features.names, dialect, known or ())
    return x, y, Names(tuple(inputs.names), tuple(targets), known)


def note_codes(path: Path, inputs: Sequence[str], dialect: Dialect) -> None:
    """Say which columns of numbers look like codes, such as 01307, by their first rows."""
    with lines_of(path, dialect) as lines:
        names = [name.strip() for name in next(lines)[1]]
        rows = [row for _, row in islice(lines, min(AHEAD, 1 + LOOKED_AT // len(names)))]
    known = set(inputs)
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        cells = {cell.strip() for cell in column if not is_missing(cell)} if name in known else ()
        code = min(cells, default="")
        alike = all(cell.isdecimal() and len(cell) == len(code) for cell in cells)
        if len(code) > 2 and code.startswith("0") and alike:
            note(
                f"column {shortened(name)} has codes, it seems, such as {code}, which are learned "
                f"as quantities: {dialect.without(name)} leaves it out, and a letter before each, "
                f"as in c{code}, or a .parquet that has them as text, makes each an input"
            )


def _inputs(
    path: Path, names: list[str], targets: list[str], features: Features, dialect: Dialect
) -> Inputs:
    found = inputs_of(path, names, targets, features, dialect)
    if not features.names:
        check_inputs(path, found.names, dialect)
    if not found.columns:
        raise ValueError(
            f"{path} has no column left for x besides the targets, {', '.join(targets)}"
            f"{separated_by_others(names, dialect)}"
        )
    return found


def _are_classes(
    row: list[str],
    learned: Sequence[str],
    places: Mapping[str, int],
    classes: Classes,
    dialect: Dialect,
) -> bool:
    """Whether it is one column that is learned, and begins with the name of a class."""
    if len(learned) != 1 or len(row) <= places[learned[0]]:
        return False
    return classes.begin(row[places[learned[0]]], dialect)


def _with_categories(
    inputs: Inputs, names: Sequence[str], lines: Iterator[Line], dialect: Dialect
) -> tuple[Iterator[Line], list[str]]:
    """The lines, and the columns that are odd by their first cells with anything in them.

    The inputs note those that have text.
    """
    seen: list[Line] = []

    def rows() -> Iterator[list[str]]:
        for line in islice(lines, AHEAD):
            seen.append(line)
            yield line[1]

    cells = inputs.first_cells(rows(), names)
    inputs.begin(cells, dialect)
    return chain(seen, lines), inputs.odd(cells, dialect)


class _NoInput(ValueError):
    """A cell of x, in a `column` and below so many `rows`, that is `missing`, or no number."""

    def __init__(self, message: str, column: str, rows: int, missing: bool) -> None:
        super().__init__(message)
        self.column, self.rows, self.missing = column, rows, missing


def _besides(
    error: _NoInput,
    odd: Sequence[str],
    inputs: Inputs,
    places: Mapping[str, int],
    lines: Iterator[Line],
    dialect: Dialect,
) -> str:
    """The end of the message about an odd column, or a missing cell: others that are no inputs."""
    if not error.missing and error.column not in odd:
        return ""
    rows = error.rows + 1
    for _, row in lines:
        rows += 1
        for name, categories in inputs.text.items():
            with suppress(ValueError, IndexError):
                categories.number(row[places[name]])
    told = None if error.missing else error.column
    return inputs.besides(told, [*odd, *inputs.unfit(rows, dialect)], dialect)


def _numbers(inputs: Inputs, missing: bool, dialect: Dialect) -> list[Number]:
    """What makes a number of a cell, for each column that the inputs need."""
    plain: Number = partial(_quantity, dialect) if missing else dialect.quantity
    text = inputs.text
    return [text[name].number if name in text else plain for name in inputs.columns]


def _quantity(dialect: Dialect, cell: str) -> float | None:
    """The number in a cell; NaN if it is missing."""
    found = dialect.quantity(cell)
    return nan if found is None and is_missing(cell) else found


def _cells(
    path: Path,
    names: Sequence[str],
    lines: Iterator[Line],
    used: Sequence[tuple[int, Number]],
    of_x: int,
    may_miss: bool,
    dialect: Dialect,
) -> np.ndarray:
    """The numbers that these functions find in the columns of these places, (rows, columns).

    In the first of them, those `of_x`, a cell is NaN if it is missing, and `may_miss`.
    """
    other, filled = separated_by_others(names, dialect), of_x if may_miss else 0
    cells = array("d")  # 8 bytes each, where a str has 50
    for line, row in lines:
        if len(row) != len(names):
            raise ValueError(
                f"{path}, line {line}: expected {len(names)} cells, got {len(row)}{other}"
            )
        try:
            for k, (column, number) in enumerate(used):
                value = number(row[column])
                if value is None or not (isfinite(value) or (k < filled and isnan(value))):
                    raise _no_number(row[column], names[column], dialect, k < of_x)
                cells.append(value)
        except ValueError as error:
            if k >= of_x and is_missing(row[column]):
                before, cell = len(cells) // len(used), row[column]
                told = _without_targets(lines, before, cell, column, names, dialect)
                raise ValueError(f"{path}, line {line}: {told}") from None
            told = f"{path}, line {line}, column {shortened(names[column])}: {error}{other}"
            if k < of_x:
                rows, missing = len(cells) // len(used), is_missing(row[column])
                raise _NoInput(told, names[column], rows, missing) from None
            raise ValueError(told) from None
    return np.frombuffer(cells).reshape(-1, len(used))


def _without_targets(
    lines: Iterator[Line],
    before: int,
    cell: str,
    column: int,
    names: Sequence[str],
    dialect: Dialect,
) -> str:
    """Of the row with this `cell` in the column, those `before` it, and all other `lines`."""
    gaps = [True, *(len(row) > column and is_missing(row[column]) for _, row in lines)]
    rows = f"{sum(gaps):,} of the {before + len(gaps):,} rows"
    return without_values(rows, names[column], dialect.filling(), cell)


def _no_number(cell: str, column: str, dialect: Dialect, of_x: bool) -> ValueError:
    shown = f"got {shortened(cell)}" if cell.strip() else "the cell is empty"
    hint = f", or pass {dialect.filling()}" if of_x and is_missing(cell) else ""
    mend = advice(cell, column, dialect, of_x=of_x)
    return ValueError(f"expected a number, {shown}{mend}{hint}")
