"""A column of text -> numbers of classes, or one-hot inputs: an input for each category."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .checks import LONGEST, shortened
from .registry import nearest

if TYPE_CHECKING:
    from .data.readers import Dialect

MOST_NAMES = 10_000  # different names: a column of more has no classes
MISSING = "NA", "N/A", "#N/A", "#NA", "NaN", "null", "none", "?"  # in a cell, in any case
_MISSING = {"", *map(str.lower, MISSING)}


def is_nothing(value: Any) -> bool:
    """Whether it is None, NaN, or what pandas has for them, which cannot all be compared."""
    return not isinstance(value, str) and str(value) in ("None", "nan", "<NA>", "NaT")


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, or says so, in upper or lower case."""
    return cell.strip().lower() in _MISSING


Source = tuple[str, str | None]  # a column of a table, and a category in it


def source(name: str, columns: Container[str]) -> Source:
    """The column of a table that an input is taken from; and the category of text that it marks.

    The input ``"city=Berlin"`` is 1 where the column ``city`` has the text Berlin, and 0 where it
    has another one, if the table has a column ``city``, and none that is called like the input.
    Other inputs are the numbers of the column of their name: the category is None.
    """
    if name not in columns:
        for mark in re.finditer("=", name):
            if name[: mark.start()] in columns:
                return name[: mark.start()], name[mark.end() :]
    return name, None


def or_its_source(name: str) -> str:
    """What a message says beside the name of an input whose column is not there."""
    column, mark, _ = name.partition("=")
    return f", or {shortened(column)} with text" if column and mark else ""


class Classes:
    """Numbers the names of classes as they come, 0, 1, ...

    Parameters
    ----------
    known : sequence of str, optional
        The names, in the order of their numbers; by default those that come, in sorted order.

    Raises
    ------
    TypeError, ValueError
        Known names that are not strings, all different.
    """

    one: ClassVar[str] = "class"
    several: ClassVar[str] = "classes"
    dtype: ClassVar[type] = np.int64

    def __init__(self, known: Sequence[str] | None = None) -> None:
        listed = isinstance(known, Iterable) and not isinstance(known, str)
        names = tuple(known) if known is not None and listed else ()
        self.known = None if known is None else names
        wrong = known is not None and not listed
        if wrong or not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"expected {self.several} to be a list of strings, got {shortened(known)}"
            )
        if len(set(names)) < len(names) or any(name != name.strip() for name in names):
            raise ValueError(
                f"expected {self.several} to be different, and without spaces around them, got "
                f"{shortened([*names])}"
            )
        self._numbers = {name: number for number, name in enumerate(names)}

    @property
    def names(self) -> list[str]:
        """Those that have come, and those known before."""
        return list(self._numbers)

    def begin(self, cell: str, dialect: Dialect) -> bool:
        """Whether a column that begins with this cell has names, not numbers.

        What may be a number with the other decimal mark is no name.
        """
        if cell.strip() in self._numbers:
            return True
        return dialect.is_name(cell) and not dialect.other_decimal(cell)

    def place(self, name: str) -> int:
        """The number of a name that has come, or was known."""
        return self._numbers[name]

    def number(self, cell: str) -> float:
        """The number of the name in a cell; ValueError if there is none, or it is not known."""
        name = cell.strip()
        found = self._numbers.get(name)
        if found is not None:
            return found
        if is_missing(name):
            return self._of_missing(name)
        if len(name) > LONGEST:
            raise ValueError(
                f"expected names of {self.several}, got a text of {len(name):,} characters"
            )
        if self.known is not None:
            return self._of_unknown(name, self.known)
        if len(self._numbers) == MOST_NAMES:
            raise ValueError(
                f"expected names of {self.several}, got more than {MOST_NAMES:,} different texts, "
                f"such as {shortened(name)}: take another column, or of numbers leave out units "
                "and other marks"
            )
        return self._numbers.setdefault(name, len(self._numbers))

    def _of_missing(self, name: str, hint: str = "") -> float:
        raise ValueError(
            f"expected the name of a {self.one}, got {shortened(name)}: fill it, or leave the row "
            f"out{hint}"
        )

    def _of_unknown(self, name: str, known: Sequence[str], hint: str = "") -> float:
        raise ValueError(
            f"{shortened(name)} is not one of the {self.several}{nearest(name, list(known))}{hint}"
        )

    def of_column(self, column: Any) -> np.ndarray:
        """The numbers of a column of pyarrow's, or of a piece of one, of text without nulls."""
        parts: list[np.ndarray] = []
        encoded = column.dictionary_encode()
        for chunk in getattr(encoded, "chunks", [encoded]):
            indices = chunk.indices.to_numpy()
            used, places = np.unique(indices, return_inverse=True)
            if used.size and not 0 <= used[0] <= used[-1] < len(chunk.dictionary):
                raise ValueError("its texts are damaged: write the file again")
            names = [chunk.dictionary[int(index)].as_py() or "" for index in used]
            parts.append(np.array([self.number(name) for name in names], self.dtype)[places])
        return np.concatenate([np.zeros(0, self.dtype), *parts])

    def in_order(self, numbers: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """The numbers given out, (n,), renumbered in the order of names; and the names."""
        if self.known is not None:
            return numbers, self.known
        names = sorted(self._numbers)
        places = np.empty(len(names), np.int64)
        places[[self._numbers[name] for name in names]] = np.arange(len(names))
        return places[numbers], tuple(names)


class Categories(Classes):
    """Numbers the categories in a column of x, each of which is an input of its own.

    Parameters
    ----------
    known : sequence of str, optional
        As of `Classes`.
    missing : bool
        Whether a cell without a category, or with one that is not known, is NaN and no error.
    filling : str
        What a user passes to have it so, for messages; empty: nothing does it.

    Attributes
    ----------
    unknown : set of str
        Those that have come, and are not known.
    """

    one = "category"
    several = "categories"
    dtype = np.float64

    def __init__(
        self, known: Sequence[str] | None = None, missing: bool = False, filling: str = ""
    ) -> None:
        super().__init__(known)
        self._missing, self._filling, self.unknown = missing, filling, set[str]()

    def _of_missing(self, name: str, hint: str = "") -> float:
        if self._missing:
            return np.nan
        return super()._of_missing(name, f", or pass {self._filling}" if self._filling else hint)

    def _of_unknown(self, name: str, known: Sequence[str], hint: str = "") -> float:
        if self._missing:
            self.unknown.add(name)
            return np.nan
        takes = f"; {self._filling} takes it as missing"
        return super()._of_unknown(name, known, takes if self._filling else hint)

    def of_column(self, column: Any) -> np.ndarray:
        """As that of `Classes`; nulls are NaN."""
        found = np.full(len(column), np.nan)
        found[column.is_valid().to_numpy(zero_copy_only=False)] = super().of_column(
            column.drop_null()
        )
        return found


def by_column(
    sources: Iterable[Source], what: str, missing: bool = False, filling: str = ""
) -> dict[str, Categories]:
    """The categories that inputs mark, by column; for `missing` and `filling` see `Categories`.

    Raises
    ------
    ValueError
        They are not all different, in a column of `what`.
    """
    marked: dict[str, list[str]] = {}
    for column, category in sources:
        if category is not None:
            marked.setdefault(column, []).append(category)
    found: dict[str, Categories] = {}
    for column, categories in marked.items():
        try:
            found[column] = Categories(categories, missing, filling)
        except ValueError as error:
            raise ValueError(f"{what}, column {shortened(column)}: {error}") from None
    return found
