"""How a .csv file is written, as options of the command line say it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..categories import MISSING
from ..data.readers import USUAL, Dialect, as_csv, is_csv, to_numbers
from .missing import OPTION

TAB = "tab"


@dataclass(frozen=True)
class DialectOptions(Dialect):
    """A dialect of which messages speak as of options; `listed`: --columns names those of x."""

    listed: bool = field(default=False, compare=False)

    def argument(self, name: str, value: str) -> str:
        shown = TAB if value == "\t" else shlex.quote(value)
        return f"--{name} {shown}"

    def without(self, column: str) -> str:
        if self.listed:
            return f"--columns without {shlex.quote(column)}"
        return f"bpx train {self.argument('ignore', column)}"

    def of_text(self, column: str) -> str:
        return (
            "; a column has numbers in all rows, or text, and what it had in training: mend the "
            f"cell, or leave out the line, or the column ({self.without(column)}); where it says "
            f"that a value of x is missing, empty all such cells (empty, {', '.join(MISSING)} are "
            f"read as missing) and pass {OPTION}"
        )

    def of_text_column(self, column: str) -> str:
        return (
            ", as in training, where it may have come from a .csv, which has no types: "
            f"{to_numbers(column)}"
        )

    def filling(self) -> str:
        return OPTION


class NoDialectOptions(DialectOptions):
    """That of a file of another kind, for which no option says how numbers are written."""

    def other_decimal(self, cell: str) -> str:
        return ""


COMMAS = DialectOptions()


def dialect(
    data: str | Path, separator: str | None, decimal: str, columns: Sequence[str] | None = None
) -> Dialect:
    """That of --separator and --decimal; ValueError if they are not for these data."""
    listed = bool(columns)
    if separator is None:
        separator = USUAL.get(Path(data).suffix.lower(), ",")
    found = DialectOptions("\t" if separator in (TAB, r"\t") else separator, decimal, listed)
    if is_csv(data):
        return found
    if found != COMMAS:
        hint = as_csv(Path(data), COMMAS)
        raise ValueError(f"--separator and --decimal are for a .csv file, got {data}{hint}")
    return NoDialectOptions(listed=listed)
