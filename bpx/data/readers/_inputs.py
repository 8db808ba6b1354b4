"""The inputs that a table's columns give: one of numbers gives one, one of text several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...checks import shortened
from ...names import source
from ._classes import Categories
from ._dialect import Dialect

MOST = 1_000  # categories: inputs of a column of text


class Features(NamedTuple):
    """What is asked of x in a table.

    Attributes
    ----------
    names : sequence of str or None
        Its inputs: names of columns, or of categories in them (`bpx.names.source`); None: all
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
    names : sequence of str
        Of the inputs.
    columns : sequence of str
        All of the table's.
    missing : bool
        As in `Features`.

    Attributes
    ----------
    columns : list of str
        Those that are needed, each once.
    text : dict
        The `Categories` in those of text, by column.

    Raises
    ------
    ValueError
        A column is asked for as numbers, and as text.
    """

    def __init__(self, names: Sequence[str], columns: Sequence[str], missing: bool) -> None:
        there = set(columns)  # there may be many thousands
        self._sources = [source(name, there) for name in names]
        self.columns = list(dict.fromkeys(column for column, _ in self._sources))
        known: dict[str, list[str]] = {}
        for column, category in self._sources:
            if category is not None:
                known.setdefault(column, []).append(category)
        for column, category in self._sources:
            if category is None and column in known:
                raise ValueError(
                    f"the input {shortened(column)} is a column of numbers, and "
                    f"{shortened(f'{column}={known[column][0]}')} takes it as text"
                )
        self.text = {column: Categories(found, missing) for column, found in known.items()}
        self._missing = missing

    @property
    def names(self) -> list[str]:
        """Of the inputs, in their order."""
        return [
            column if category is None else f"{column}={category}"
            for column, category in self._sources
        ]

    def encode(self, column: str) -> None:
        """Take a column as text, whose categories are yet to come."""
        self.text[column] = Categories(missing=self._missing)

    def settle(self, rows: int, where: str, dialect: Dialect) -> None:
        """Give each category an input, in sorted order, once those of all rows have come.

        Raises
        ------
        ValueError
            They are too many: names or numbers of the rows, perhaps.
        """
        new = [column for column, category in self._sources if category is None]
        found = {column: sorted(self.text[column].names) for column in new if column in self.text}
        many = [column for column in found if len(found[column]) > min(MOST, rows // 2)]
        if many:
            shown = ", ".join(f"{len(found[name]):,} in {shortened(name)}" for name in many)
            listed = many[0] if any("," in name for name in many) else ",".join(many)
            raise ValueError(
                f"{where}: a column of text has an input for each of its values, at most {MOST:,} "
                f"and one for two rows, got {shown} ({rows:,} row{'s' * (rows != 1)}): leave it "
                f"out ({dialect.without(listed)})"
            )
        self._sources = [
            (column, each)
            for column, category in self._sources
            for each in (found.get(column, [None]) if category is None else [category])
        ]

    def fill(self, out: np.ndarray, numbers: Callable[[str], np.ndarray]) -> None:
        """Write the inputs (n, k), by what gives a column's numbers, of text its categories'."""
        given = {column: numbers(column) for column in self.columns}
        for k, (column, category) in enumerate(self._sources):
            values = given[column]
            if category is None:
                out[:, k] = values
            else:
                out[:, k] = values == self.text[column].place(category)
                if (unknown := np.isnan(values)).any():
                    out[unknown, k] = np.nan
