"""The inputs that a table's columns give: one of numbers gives one, one of text several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...categories import Categories, by_column, is_missing, source
from ...checks import shortened
from ._advice import advice, is_category, numbers_as_text, odd_word
from ._dialect import Dialect, is_truth
from ._names import check_known

MOST = 1_000  # categories: inputs of a column of text
NAMED = 5  # columns, of more that are wrong
AHEAD = 1_000  # rows that are looked at for a column's first cell with something in it


_IF_CATEGORIES = "; or, if they are categories, put a letter before each, as in c{}"


class Features(NamedTuple):
    """What is asked of x in a table.

    Attributes
    ----------
    names : sequence of str or None
        Its inputs: names of columns, or of categories in them (`bpx.categories.source`); None: all
        columns that are not held for something else.
    encode : bool
        Whether each category of a column of text becomes an input of its own.
    missing : bool
        Whether cells may be missing, and categories unknown; they are NaN.
    """

    names: Sequence[str] | None = None
    encode: bool = False
    missing: bool = False


class Inputs:
    """How inputs come from the columns of a table.

    Parameters
    ----------
    path : Path
        Of the table, for messages.
    names : sequence of str
        Of the inputs.
    columns : sequence of str
        All of the table's.
    missing : bool
        As in `Features`.
    dialect : Dialect

    Attributes
    ----------
    columns : list of str
        Those that are needed, each once.
    missing : bool
    filling : str
        Of the dialect.
    text : dict
        The `Categories` in those of text, by column.

    Raises
    ------
    ValueError
        A column is asked for as numbers, and as text; or categories are not all different.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        columns: Sequence[str],
        missing: bool,
        dialect: Dialect,
    ) -> None:
        there = set(columns)  # there may be many thousands
        self._path, self.missing, self.filling = path, missing, dialect.filling()
        self._sources = [source(name, there) for name in names]
        self.columns = list(dict.fromkeys(column for column, _ in self._sources))
        self.text = by_column(self._sources, str(path), missing, self.filling)
        plain = {column for column, category in self._sources if category is None}
        for column in self.text:
            if column in plain:
                raise ValueError(
                    f"{path}: the input {shortened(column)} is a column of numbers, and "
                    f"{shortened(self.of(column))} takes it as text: leave one of them out"
                )

    @property
    def names(self) -> list[str]:
        """Of the inputs, in their order."""
        return [
            column if category is None else f"{column}={category}"
            for column, category in self._sources
        ]

    def of(self, column: str) -> str:
        """The name of the first input that marks a category in a column."""
        return f"{column}={self.text[column].names[0]}"

    def first_cells(self, rows: Iterable[Sequence[str]], names: Sequence[str]) -> dict[str, str]:
        """The first cell with something in it of each column, in rows of a table with `names`."""
        places = {name: place for place, name in enumerate(names)}  # there may be many thousands
        found, left = dict[str, str](), {name: places[name] for name in self.columns}
        for row in rows:
            there = [name for name, k in left.items() if k < len(row) and not is_missing(row[k])]
            found |= {name: row[left.pop(name)] for name in there}
            if not left:
                break
        return found

    def begin(self, cells: Mapping[str, str], dialect: Dialect) -> list[str]:
        """Take the columns as text, and return them, that have it in their `first_cells`."""
        text = [name for name, cell in cells.items() if is_category(cell, dialect)]
        new = [name for name in text if name not in self.text]
        for name in new:
            self.encode(name)
        return new

    def odd(self, cells: Mapping[str, str], dialect: Dialect) -> list[str]:
        """The columns that have neither numbers nor text that is one, by their `first_cells`."""
        return [name for name in cells if name not in self.text and dialect.is_word(cells[name])]

    def besides(self, column: str | None, wrong: Iterable[str], dialect: Dialect) -> str:
        """The end of a message about a column, if others are `wrong`, and so cannot be inputs."""
        among = set(wrong)
        names = [name for name in self.columns if name in among]
        shown = [shortened(name) for name in names if name != column]
        if not shown:
            return ""
        inputs = "be an input as it is" if len(shown) == 1 else "be inputs as they are"
        all_of = "it" if len(names) == 1 else "all of them"
        hint = f": {dialect.without(','.join(names))} leaves {all_of} out"
        if "," in "".join(names):
            hint = ""
        elif len(shown) > NAMED:  # all are in the hint
            shown[NAMED:] = [f"and {len(shown) - NAMED} more"]
        return f"; nor can {', '.join(shown)} {inputs}{hint}"

    def unfit(self, rows: int, dialect: Dialect) -> list[str]:
        """The columns of text that cannot be inputs, once the categories of all rows have come."""
        return [*self._no_text(dialect), *self._too_many(rows)]

    def _no_text(self, dialect: Dialect) -> dict[str, str]:
        """Of columns of text that have none, or numbers and dates: what a message says of each."""
        found: dict[str, str] = {}
        for column, each in self.text.items():
            if each.known is not None:
                continue
            if not each.names:
                found[column] = (
                    f": column {shortened(column)} has no value in any row: leave it out "
                    f"({dialect.without(column)})"
                )
            elif (odd := _odd(each.names, dialect)) is not None:
                found[column] = (
                    f", column {shortened(column)}: expected numbers, or words that are no "
                    f"numbers, got {shortened(odd[0])}"
                    f"{advice(odd[0], column, dialect, unit=odd[1])}"
                    f"{_IF_CATEGORIES.format(odd[0]) if odd[1] else ''}"
                )
        return found

    def _too_many(self, rows: int) -> list[str]:
        """The columns of text that have more categories than may be inputs."""
        most = min(MOST, rows // 2)
        new = {name: each.names for name, each in self.text.items() if each.known is None}
        return [name for name, categories in new.items() if len(categories) > most]

    def encode(self, column: str) -> None:
        """Take a column as text, whose categories are yet to come."""
        self.text[column] = Categories(None, self.missing, self.filling)

    def settle(self, rows: int, dialect: Dialect) -> None:
        """Give each category an input, in sorted order, once those of all rows have come.

        Raises
        ------
        ValueError
            There are none; or too many, which are names or numbers of the rows, perhaps; or they
            look like numbers or dates; or an input has the name of another one.
        """
        new = [column for column, category in self._sources if category is None]
        found = {column: self.text[column].names for column in new if column in self.text}
        for column, told in self._no_text(dialect).items():
            others = self.besides(column, self.unfit(rows, dialect), dialect)
            raise ValueError(f"{self._path}{told}{others}")
        self._check_few(rows, dialect)
        each = {column: sorted(categories) for column, categories in found.items()}
        self._sources = [
            (column, one)
            for column, category in self._sources
            for one in (each[column] if category is None and column in each else [category])
        ]
        twice = next((name for name, n in Counter(self.names).items() if n > 1), None)
        if twice is not None:
            column = next(name for name in found if twice.startswith(f"{name}="))
            raise ValueError(
                f"{self._path} has a column {shortened(twice)}, as an input of the column "
                f"{shortened(column)} would be called: rename one of them, or leave it out "
                f"({dialect.without(column)})"
            )

    def _check_few(self, rows: int, dialect: Dialect) -> None:
        if many := self._too_many(rows):
            shown = ", ".join(
                f"{len(self.text[name].names):,} in {shortened(name)}" for name in many
            )
            listed = many[0] if any("," in name for name in many) else ",".join(many)
            raise ValueError(
                f"{self._path}: a column of text has an input for each of its values, at most "
                f"{MOST:,} and one for two rows, got {shown} ({rows:,} row{'s' * (rows != 1)}): "
                f"leave it out ({dialect.without(listed)}){self._of_numbers(many, dialect)}"
            )

    def _of_numbers(self, many: Sequence[str], dialect: Dialect) -> str:
        """The end of that message where a file has numbers as text, as a .parquet may."""
        told = (numbers_as_text(self.text[name].names, name, dialect) for name in many)
        return next(filter(None, told), "")

    def fill(self, out: np.ndarray, numbers: Callable[[str], np.ndarray]) -> None:
        """Write the inputs (n, k), by what gives a column's numbers, of text its categories'."""
        given = {column: numbers(column) for column in self.columns}
        unknown = {column: np.isnan(given[column]) for column in self.text}
        for k, (column, category) in enumerate(self._sources):
            if category is None:
                out[:, k] = given[column]
            else:
                out[:, k] = given[column] == self.text[column].place(category)
                out[unknown[column], k] = np.nan


def inputs_of(
    path: Path, names: Sequence[str], held: Sequence[str], features: Features, dialect: Dialect
) -> Inputs:
    """Those of a table with the columns `names`, some of which are `held` for something else.

    Raises
    ------
    ValueError
        As of `Inputs`; or a column is not there, or an input is from one that is held.
    """
    asked = [name for name in features.names or names if name not in held]
    found = Inputs(path, asked, names, features.missing, dialect)
    check_known(path, [*held, *found.columns], names, dialect)
    for name in found.text:
        if name in held:
            raise ValueError(
                f"{path}: the input {found.of(name)!r} is from the column {name!r}, which is held "
                "back for targets or weights: leave it out of columns="
            )
    return found


def _odd(categories: Sequence[str], dialect: Dialect) -> tuple[str, str] | None:
    """As `odd_word`; or the first one, if it is a number in other marks, or a date."""
    first = categories[0]
    plain = dialect.number(first) is not None or is_truth(first) or is_category(first, dialect)
    return odd_word(categories, dialect) if plain else (first, "")
