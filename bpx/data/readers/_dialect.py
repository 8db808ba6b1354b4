"""How a .csv file is written, and what its cells say."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from ...categories import is_missing

# What is between cells, by how the names of such files end, if nothing else is said.
USUAL = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
CSV = tuple(USUAL)
SEPARATORS = ",;\t|"  # the usual ones
_NO_SEPARATORS = {*string.ascii_letters, *string.digits, *"\"'+-.\r\n\0"}
# In the spellings that pyarrow knows.
_TRUTHS = dict.fromkeys(("True", "true", "TRUE"), 1.0)
_TRUTHS |= dict.fromkeys(("False", "false", "FALSE"), 0.0)


@dataclass(frozen=True)
class Dialect:
    """The marks between cells and in numbers, and how messages tell a user to pass them.

    Both may be commas, where numbers are quoted.

    Parameters
    ----------
    separator : str
        One ASCII character.
    decimal : str
        ``"."`` or ``","``.

    Raises
    ------
    ValueError
        Anything else, or a separator that may be part of a number or a quoted cell.
    """

    separator: str = ","
    decimal: str = "."

    def __post_init__(self) -> None:
        mark = self.separator
        one = isinstance(mark, str) and len(mark) == 1 and mark.isascii()
        if not one or mark in _NO_SEPARATORS:
            raise ValueError(
                'expected the separator to be one character, such as ",", ";", "|" or a tab, and '
                f"no letter, digit, point, sign, quote or end of a line, got {mark!r}"
            )
        if self.decimal not in (".", ","):
            raise ValueError(f'expected the decimal mark to be "." or ",", got {self.decimal!r}')

    def argument(self, name: str, value: str) -> str:
        """How a user passes an argument."""
        return f"{name}={value!r}"

    def without(self, column: str) -> str:
        """How a user leaves a column out of x."""
        return f"columns=[...] without {column!r}"

    def of_text(self, column: str) -> str:
        """What a user does about text in a column; the end of a message."""
        return (
            "; for text name the values that are to be inputs of 1 and 0 in columns=, such as all "
            f"with *(f{f'{column}={{v}}'!r} for v in frame[{column!r}].dropna().unique()), learn "
            f"it ({self.argument('target', column)}), or leave it out ({self.without(column)})"
        )

    def of_text_column(self, column: str) -> str:
        """The same where a file says of the whole column that it is text."""
        return self.of_text(column)

    def filling(self) -> str:
        """What a user passes to have missing cells of x filled; empty if nothing does it."""
        return ""

    @property
    def mark(self) -> str:
        """The decimal mark in words."""
        return "point" if self.decimal == "." else "comma"

    def number(self, cell: str) -> float | None:
        """The number in a cell, if it is one, finite or not."""
        if self.decimal != ".":
            if "." in cell:
                return None
            cell = cell.replace(self.decimal, ".")
        try:
            value = float(cell)
        except ValueError:
            return None
        # Python's syntax has 1_000 and digits of all scripts, which no other reader of CSV takes.
        return value if cell.isascii() and "_" not in cell else None

    def quantity(self, cell: str) -> float | None:
        """The same, and 1 for True and 0 for False, as pandas writes them."""
        found = self.number(cell)
        return _TRUTHS.get(cell.strip()) if found is None else found

    def is_name(self, cell: str) -> bool:
        """Whether a cell is neither missing nor a number, finite or not."""
        return self.number(cell) is None and not is_missing(cell)

    def is_word(self, cell: str) -> bool:
        """Whether a cell is neither missing, nor a number, nor True or False."""
        return self.is_name(cell) and not is_truth(cell)

    def other_decimal(self, cell: str) -> str:
        """A remedy for what would be a number if the decimal mark were the other one."""
        other = Dialect(decimal="," if self.decimal == "." else ".")
        if other.decimal not in cell or other.number(cell) is None:
            return ""
        told = self.argument("decimal", other.decimal)
        return f"pass {told} if its {other.mark} is the decimal mark"


def is_csv(path: str | Path) -> bool:
    """Whether a file is one of lines and separators, by its name."""
    return Path(path).suffix.lower() in CSV


def is_truth(cell: str) -> bool:
    """Whether a cell is True or False."""
    return cell.strip() in _TRUTHS
